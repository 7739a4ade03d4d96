// Conversations of five turns with a tool call, through the JavaScript clients. Before the turns that the caller wants to
// follow a new start of the proxy it says `restart` and waits for a line.
import assert from 'node:assert/strict'
import readline from 'node:readline'
import OpenAI from 'openai'
import { createOpenAI } from '@ai-sdk/openai'
import { generateText, streamText, tool, isStepCount } from 'ai'
import { Agent, OpenAIConversationsSession, OpenAIProvider, Runner, tool as agentTool } from '@openai/agents'
import { z } from 'zod'

const [, , base, which, model] = process.argv
const apiKey = 'key-of-ann-0123456789abcdefghijklm'
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const restart = async () => {
  console.log('restart')
  await lines.next()
}
const heard = (text, ...words) => ['My name is Ann.', ...words].forEach((w) => assert.ok(text.includes(w), `${w}: ${text}`))
const RESULT = 'The result is rain, 7 degrees.'
const WEATHER = 'What is the weather in Paris?'

const openai = async () => {
  const client = new OpenAI({ baseURL: base + '/v1', apiKey, maxRetries: 0 })
  const one = await client.responses.create({ model, input: 'My name is Ann.' })
  const two = await client.responses.stream({ model, input: 'What did I say?', previous_response_id: one.id }).finalResponse()
  heard(two.output_text)
  await restart()
  const tools = [{ type: 'function', name: 'get_weather', strict: false, parameters: { type: 'object', properties: { city: { type: 'string' } } } }]
  const three = await client.responses.create({ model: 'swarms', input: WEATHER, tools, previous_response_id: two.id })
  const call = three.output.find((o) => o.type === 'function_call')
  assert.ok(call, JSON.stringify(three.output))
  await restart()
  const four = await client.responses.create({
    model: 'swarms', tools, previous_response_id: three.id, input: [{ type: 'function_call_output', call_id: call.call_id, output: RESULT }],
  })
  assert.ok(four.output_text, JSON.stringify(four.output))
  const five = await client.responses.create({ model, input: 'What did I say?', previous_response_id: four.id })
  heard(five.output_text, RESULT)
  assert.equal((await client.responses.retrieve(five.id)).output_text, five.output_text)
  const items = []
  for await (const item of client.responses.inputItems.list(four.id)) items.push(item.type)
  assert.deepEqual(items, ['function_call_output'])
  const conversation = await client.conversations.create({ items: [{ type: 'message', role: 'user', content: 'My name is Ann.' }], metadata: { a: 'b' } })
  const said = await client.responses.create({ model, input: 'What did I say?', conversation: conversation.id })
  heard(said.output_text)
  const all = []
  for await (const item of client.conversations.items.list(conversation.id, { order: 'asc', limit: 2 })) all.push(item.role)
  assert.deepEqual(all, ['user', 'user', 'assistant'])
  assert.equal((await client.conversations.delete(conversation.id)).deleted, true)
}

const aiSDK = async () => {
  const provider = createOpenAI({ baseURL: base + '/v1', apiKey })
  const messages = [{ role: 'user', content: 'My name is Ann.' }]
  const turn = async (text, options = {}) => {
    if (text) messages.push({ role: 'user', content: text })
    const got = await generateText({ model: provider.responses(options.model ?? model), messages, maxRetries: 0, ...options, model: provider.responses(options.model ?? model) })
    messages.push(...got.responseMessages) // of all steps
    return got
  }
  await turn('')
  messages.push({ role: 'user', content: 'What did I say?' })
  const stream = streamText({ model: provider.responses(model), messages, maxRetries: 0 })
  heard(await stream.text)
  messages.push(...(await stream.responseMessages))
  await restart()
  let ran = 0
  const tools = { get_weather: tool({ inputSchema: z.object({ city: z.string().optional() }).passthrough(), execute: async () => { ran++; return RESULT } }) }
  const four = await turn(WEATHER, { model: 'swarms', tools, stopWhen: isStepCount(3) })
  assert.ok(ran === 1 && four.text, four.text)
  await restart()
  const five = await turn('What did I say?')
  heard(five.text, RESULT)
}

const agents = async () => {
  const client = new OpenAI({ baseURL: base + '/v1', apiKey, maxRetries: 0 })
  const runner = new Runner({ modelProvider: new OpenAIProvider({ openAIClient: client, useResponses: true }), tracingDisabled: true })
  let ran = 0
  const weather = agentTool({ name: 'get_weather', description: 'Tells the weather.', strict: false, parameters: { type: 'object', properties: { city: { type: 'string' } }, required: [], additionalProperties: true }, execute: async () => { ran++; return RESULT } })
  const plain = new Agent({ name: 'plain', model })
  const armed = new Agent({ name: 'armed', model: 'swarms', tools: [weather] })
  for (const goOn of [
    () => { let last; return async (agent, text) => { const r = await runner.run(agent, text, { previousResponseId: last }); last = r.lastResponseId; return r } },
    () => { const session = new OpenAIConversationsSession({ client }); return (agent, text) => runner.run(agent, text, { session }) },
  ]) {
    const say = goOn()
    ran = 0
    await say(plain, 'My name is Ann.')
    heard((await say(plain, 'What did I say?')).finalOutput)
    await restart()
    const four = await say(armed, WEATHER)
    assert.ok(ran === 1 && four.finalOutput, four.finalOutput)
    const five = await say(plain, 'What did I say?')
    heard(five.finalOutput, RESULT)
  }
}

await { openai, 'ai-sdk': aiSDK, agents }[which]()
console.log('done')
process.exit(0)
