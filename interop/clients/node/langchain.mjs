// LangChain's model for OpenAI, over both APIs.

import { AIMessage, HumanMessage, SystemMessage, ToolMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { z } from 'zod';
import { AGENTS, ARGUMENTS, BEFORE, FAILING, PATIENCE, PROMPT, PROXY, QUESTION, RESULT, answered, assert, each, failing, failure, main } from './harness.mjs';
import { ADA, BOTH, CALLED, HEARD, LOOKING, SCRIPTED, THOUGHT, skyOf } from './scripted.mjs';

const FACES = ['chat', 'responses'];
const CELLS = (agents) => FACES.flatMap((face) => agents.map((agent) => `${face}, ${agent}`));

const model = (cell, more = {}) => {
  const [face, name] = cell.split(', ');
  return new ChatOpenAI({
    model: name, apiKey: 'sk-interop', useResponsesApi: face === 'responses', maxRetries: 0, timeout: PATIENCE,
    configuration: { baseURL: `${PROXY}/v1` }, ...more,
  });
};
const nameOf = (cell) => cell.split(', ')[1];

function usageIs(agent, m) {
  if (!AGENTS[agent].usage) return;
  const u = m.usage_metadata;
  assert.ok(u && u.input_tokens > 0 && u.output_tokens > 0, JSON.stringify(u));
  assert.equal(u.total_tokens, u.input_tokens + u.output_tokens);
}

// thought is what a message of either API holds of reasoning.
const thought = (m) => m.additional_kwargs.reasoning_content ?? m.additional_kwargs.reasoning?.summary?.map((s) => s.text).join('') ?? '';

each('invoke: {}', CELLS(Object.keys(AGENTS)), async (cell) => {
  const agent = nameOf(cell);
  const m = await model(cell).invoke(PROMPT);
  assert.ok(AIMessage.isInstance(m));
  assert.equal(m.text, AGENTS[agent].text);
  assert.equal(thought(m), AGENTS[agent].reasoning);
  assert.deepEqual(m.tool_calls, []);
  usageIs(agent, m);
});

each('stream: {}', CELLS(Object.keys(AGENTS)), async (cell) => {
  const agent = nameOf(cell);
  let whole, text = '', chunks = 0;
  for await (const c of await model(cell).stream(PROMPT)) {
    text += c.text;
    chunks++;
    whole = whole ? whole.concat(c) : c;
  }
  assert.ok(chunks > 1);
  assert.equal(text, AGENTS[agent].text);
  assert.equal(whole.text, text);
  assert.equal(thought(whole), AGENTS[agent].reasoning);
  usageIs(agent, whole);
});

const toolOf = (called, answer) => tool(async (args) => { called.push(args); return answer(args); }, {
  name: 'get_weather', description: 'The weather of a city', schema: z.object({ city: z.string(), unit: z.string() }),
});

// loop asks, runs what is called, and asks again with the results.
async function loop(cell, stream, prompt, called, answer, tools = toolOf(called, answer)) {
  const bound = model(cell).bindTools([tools]);
  const ask = async (messages) => {
    if (!stream) return bound.invoke(messages);
    let whole;
    for await (const c of await bound.stream(messages)) whole = whole ? whole.concat(c) : c;
    return whole;
  };
  const messages = [new HumanMessage(prompt)];
  const first = await ask(messages);
  messages.push(first);
  for (const call of first.tool_calls) messages.push(await tools.invoke(call));
  assert.ok(messages.slice(2).every((m) => ToolMessage.isInstance(m)));
  return { first, last: await ask(messages) };
}

for (const stream of [true, false]) {
  const mode = stream ? 'stream' : 'invoke';
  each(`bindTools, ${mode}: {}`, CELLS(['chat', 'responses', 'swarms']), async (cell) => {
    const called = [];
    const { first, last } = await loop(cell, stream, QUESTION, called, () => JSON.stringify(RESULT));
    assert.deepEqual(called, [ARGUMENTS]);
    assert.equal(first.tool_calls.length, 1);
    assert.equal(last.tool_calls.length, 0);
    answered(nameOf(cell), last.text);
  });

  each(`bindTools, two calls at once, ${mode}: {}`, CELLS(SCRIPTED), async (cell) => {
    const called = [];
    const { first, last } = await loop(cell, stream, BOTH, called, skyOf);
    assert.deepEqual(called, CALLED);
    assert.equal(first.text, LOOKING);
    assert.equal(thought(first), THOUGHT);
    assert.deepEqual(first.tool_calls.map((c) => [c.name, c.args]), CALLED.map((c) => ['get_weather', c]));
    assert.equal(new Set(first.tool_calls.map((c) => c.id)).size, 2);
    assert.deepEqual(first.invalid_tool_calls, []);
    assert.equal(last.text, HEARD);
    assert.deepEqual([last.usage_metadata.input_tokens, last.usage_metadata.output_tokens, last.usage_metadata.input_token_details.cache_read], [11, 7, 3]);
  });
}

each('bindTools of an agent that has no tools: {}', CELLS(['cycls-real']), async (cell) => {
  const { text } = await model(cell).bindTools([toolOf([], skyOf)]).invoke(PROMPT);
  assert.equal(text, AGENTS['cycls-real'].text);
  if (cell.startsWith('responses')) return; // where LangChain leaves the choice out
  const e = await failure(() => model(cell).bindTools([toolOf([], skyOf)], { tool_choice: 'required' }).invoke(PROMPT));
  assert.equal(e.status, 400);
  assert.ok(e.param.startsWith('tool_choice'), e.param);
});

const Person = z.object({ name: z.string(), age: z.int(), tags: z.array(z.string()) });

for (const method of ['jsonSchema', 'functionCalling', 'jsonMode']) {
  each(`withStructuredOutput, ${method}: {}`, CELLS(SCRIPTED), async (cell) => {
    const structured = model(cell).withStructuredOutput(Person, { name: 'person', method, includeRaw: true });
    const { raw, parsed } = await structured.invoke('Who is it, in JSON?');
    if (method === 'jsonMode') {
      assert.deepEqual(JSON.parse(raw.text), { name: ADA.name, age: ADA.age }); // there is no schema in the request
      return;
    }
    assert.deepEqual(parsed, ADA);
    if (method === 'functionCalling' && cell.startsWith('responses')) return; // LangChain streams it over Chat alone
    let last;
    for await (const p of await model(cell).withStructuredOutput(Person, { name: 'person', method }).stream('Who is it, in JSON?')) last = p;
    assert.deepEqual(last, ADA);
  });
}

each('system, human and ai messages: {}', CELLS(['cycls-real']), async (cell) => {
  const m = await model(cell).invoke([new SystemMessage('Be brief.'), new HumanMessage('one'), new AIMessage('two'), new HumanMessage('echo')]);
  assert.deepEqual(JSON.parse(m.text), [
    { role: 'system', content: 'Be brief.' }, { role: 'user', content: 'one' }, { role: 'assistant', content: 'two' }, { role: 'user', content: 'echo' },
  ]);
});

each('an answer cut short: {}', CELLS(SCRIPTED), async (cell) => {
  const m = await model(cell).invoke('length');
  assert.equal(m.text, 'This is cut ');
  if (cell.startsWith('chat')) assert.equal(m.response_metadata.finish_reason, 'length');
  else assert.deepEqual([m.response_metadata.status, m.response_metadata.incomplete_details], ['incomplete', { reason: 'max_output_tokens' }]);
});

each('a stream that fails in its middle: {}', CELLS([...FAILING, ...SCRIPTED]), async (cell) => {
  const { prompt, goOn } = failing(nameOf(cell));
  let text = '';
  const e = await failure(async () => {
    for await (const c of await model(cell).stream(prompt)) {
      text += c.text;
      if (text === BEFORE) await goOn();
    }
  });
  assert.equal(text, BEFORE);
  assert.ok(e.message && !e.message.includes('secret'), String(e));
});

each('invoke of an agent that fails, refuses, or is not there: {}', FACES, async (face) => {
  for (const [agent, prompt, status] of [['chat', 'fail', 502], ['swarms', 'fail', 502], ['cycls-broken', 'fail', 502], ['chat', 'refuse', 429], ['nobody', 'x', 404], ['dead', 'x', 502]]) {
    const e = await failure(() => model(`${face}, ${agent}`).invoke(prompt));
    assert.equal(e.status, status, `${agent}: ${e}`);
  }
});

await main('langchain');
