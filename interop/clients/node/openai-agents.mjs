// The Agents SDK of OpenAI: its loop runs the client's functions, over both APIs.

import { Agent, Runner, setTracingDisabled, tool } from '@openai/agents';
import { OpenAIChatCompletionsModel, OpenAIResponsesModel } from '@openai/agents-openai';
import OpenAI from 'openai';
import { z } from 'zod';
import { AGENTS, ARGUMENTS, PATIENCE, PROMPT, PROXY, QUESTION, RESULT, answered, assert, each, failure, main } from './harness.mjs';
import { ADA, BOTH, CALLED, HEARD, LOOKING, SCRIPTED, THOUGHT, skyOf } from './scripted.mjs';

setTracingDisabled(true);
const client = new OpenAI({ baseURL: `${PROXY}/v1`, apiKey: 'sk-interop', maxRetries: 0, timeout: PATIENCE });
const runner = new Runner({ tracingDisabled: true });
const MODELS = { chat: OpenAIChatCompletionsModel, responses: OpenAIResponsesModel };

const CELLS = (agents) => Object.keys(MODELS).flatMap((face) => ['stream', 'JSON'].flatMap((mode) => agents.map((agent) => `${face}, ${mode}, ${agent}`)));

// run has an agent answer, and returns the result with what its stream said.
async function run(cell, settings, prompt) {
  const [face, mode, name] = cell.split(', ');
  const agent = new Agent({ name: 'Interop', instructions: 'Be brief.', model: new MODELS[face](client, name), ...settings });
  if (mode === 'JSON') return { face, name, result: await runner.run(agent, prompt) };
  const result = await runner.run(agent, prompt, { stream: true });
  const said = { text: '', items: [] };
  for await (const e of result) {
    if (e.type === 'raw_model_stream_event' && e.data.type === 'output_text_delta') said.text += e.data.delta;
    if (e.type === 'run_item_stream_event') said.items.push(e.name);
  }
  await result.completed;
  assert.equal(result.error, null);
  return { face, name, result, said };
}

const weather = (called, answer) => tool({
  name: 'get_weather', description: 'The weather of a city', parameters: z.object({ city: z.string(), unit: z.string() }),
  execute: async (args) => { called.push(args); return answer(args); },
});
const kinds = (result) => result.newItems.map((i) => i.type).filter((t) => t !== 'reasoning_item');

each('words: {}', CELLS(Object.keys(AGENTS)), async (cell) => {
  const { name, result, said } = await run(cell, { instructions: undefined }, PROMPT);
  assert.equal(result.finalOutput, AGENTS[name].text);
  if (said) assert.equal(said.text, AGENTS[name].text);
  assert.deepEqual(kinds(result), ['message_output_item']);
  if (AGENTS[name].usage && !cell.startsWith('chat, stream')) assert.ok(result.runContext.usage.totalTokens > 0);
});

each('a tool, its result and the last word: {}', CELLS(['chat', 'responses', 'swarms']), async (cell) => {
  const called = [];
  const { name, result, said } = await run(cell, { tools: [weather(called, () => JSON.stringify(RESULT))] }, QUESTION);
  assert.deepEqual(called, [ARGUMENTS]);
  answered(name, result.finalOutput);
  assert.deepEqual(kinds(result).filter((k) => k !== 'message_output_item'), ['tool_call_item', 'tool_call_output_item']);
  assert.equal(kinds(result).at(-1), 'message_output_item');
  assert.equal(result.rawResponses.length, 2);
  if (said) assert.ok(said.items.indexOf('tool_called') < said.items.indexOf('tool_output'), said.items.join());
});

each('two tools at once, their results and the last word: {}', CELLS(SCRIPTED), async (cell) => {
  const called = [];
  const { face, result, said } = await run(cell, { tools: [weather(called, skyOf)] }, BOTH);
  assert.deepEqual(called, CALLED);
  assert.equal(result.finalOutput, HEARD);
  assert.deepEqual(kinds(result), ['message_output_item', 'tool_call_item', 'tool_call_item', 'tool_call_output_item', 'tool_call_output_item', 'message_output_item']);
  if (said) assert.equal(said.text, LOOKING + HEARD);
  if (face === 'responses') {
    const thoughts = result.newItems.filter((i) => i.type === 'reasoning_item').map((i) => i.rawItem.content.map((c) => c.text).join(''));
    assert.deepEqual(thoughts, [THOUGHT]);
  }
  const ids = (type) => result.newItems.filter((i) => i.type === type).map((i) => i.rawItem.callId);
  assert.deepEqual(ids('tool_call_output_item'), ids('tool_call_item'));
});

each('a second turn knows the first: {}', CELLS(SCRIPTED), async (cell) => {
  const called = [];
  const tools = [weather(called, skyOf)];
  const first = await run(cell, { tools }, BOTH);
  const { result } = await run(cell, { tools }, [...first.result.history, { role: 'user', content: 'echo' }]);
  const sent = JSON.parse(result.finalOutput);
  const turns = cell.endsWith('chat')
    ? sent.messages.map((m) => m.role + (m.tool_calls ? `+${m.tool_calls.length}` : ''))
    : sent.input.map((i) => i.role ?? i.type);
  assert.deepEqual(turns.filter((t) => t !== 'reasoning'), cell.endsWith('chat')
    ? ['system', 'user', 'assistant+2', 'tool', 'tool', 'assistant', 'user']
    : [...(cell.startsWith('chat') ? ['system'] : []), 'user', 'assistant', 'function_call', 'function_call', 'function_call_output', 'function_call_output', 'assistant', 'user']);
});

each('an output of a type: {}', CELLS(SCRIPTED), async (cell) => {
  const outputType = z.object({ name: z.string(), age: z.int(), tags: z.array(z.string()) });
  const { result } = await run(cell, { outputType }, 'Who is it?');
  assert.deepEqual(result.finalOutput, ADA);
});

each('an agent that fails: {}', CELLS([...SCRIPTED, 'chat', 'responses', 'swarms', 'cycls']), async (cell) => {
  const e = await failure(() => run(cell, {}, 'fail, please'));
  assert.ok(e instanceof OpenAI.APIError, `${e?.constructor?.name}: ${e}`);
  assert.ok(e.message, String(e));
});

await main('openai-agents');
