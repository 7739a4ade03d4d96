// The AI SDK with its provider for OpenAI, over both of its APIs.

import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, NoObjectGeneratedError, Output, generateObject, generateText, isStepCount, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';
import {
  AGENTS, ARGUMENTS, BEFORE, FAILING, PROMPT, PROXY, QUESTION, RESULT, WITH_TOOLS,
  answered, assert, closed, each, failing, failure, fresh, main, release, runs, test,
} from './harness.mjs';
import { ADA, BOTH, CALLED, HEARD, LOOKING, SCRIPTED, THOUGHT, skyOf } from './scripted.mjs';

const openai = createOpenAI({ baseURL: `${PROXY}/v1`, apiKey: 'sk-interop' });

// What was said before is sent again, and not referred to by its id, but where a test wants that.
const common = { maxRetries: 0, providerOptions: { openai: { store: false } } };
const FACES = ['chat', 'responses'];
const model = (face, agent) => openai[face](agent);

const pairs = FACES.flatMap((face) => Object.keys(AGENTS).map((agent) => `${face}, ${agent}`));
const split = (pair) => pair.split(', ');

function usageIs(agent, usage) {
  if (!AGENTS[agent].usage) return;
  assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0, JSON.stringify(usage));
  assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
}

each('streamText: {}', pairs, async (pair) => {
  const [face, agent] = split(pair);
  const result = streamText({ ...common, model: model(face, agent), prompt: PROMPT, onError() {} });
  let text = '', reasoning = '';
  const open = new Set();
  for await (const part of result.fullStream) {
    switch (part.type) {
      case 'text-start': case 'reasoning-start': open.add(part.id); break;
      case 'text-end': case 'reasoning-end': assert.ok(open.delete(part.id)); break;
      case 'text-delta': assert.ok(open.has(part.id)); text += part.text; break;
      case 'reasoning-delta': reasoning += part.text; break;
      case 'error': throw part.error;
    }
  }
  assert.equal(open.size, 0);
  assert.equal(text, AGENTS[agent].text);
  // The SDK reads no reasoning from chat chunks.
  if (face === 'responses') assert.equal(reasoning, AGENTS[agent].reasoning);
  assert.equal(await result.text, AGENTS[agent].text);
  assert.equal(await result.finishReason, 'stop');
  usageIs(agent, await result.usage);
});

each('generateText: {}', pairs, async (pair) => {
  const [face, agent] = split(pair);
  const result = await generateText({ ...common, model: model(face, agent), prompt: PROMPT });
  assert.equal(result.text, AGENTS[agent].text);
  if (face === 'responses') assert.equal(result.reasoningText ?? '', AGENTS[agent].reasoning);
  assert.equal(result.finishReason, 'stop');
  usageIs(agent, result.usage);
});

each('cycls-real gets system prompt and history: {}', FACES, async (face) => {
  const result = await generateText({
    ...common, model: model(face, 'cycls-real'), instructions: 'Be brief.',
    messages: [{ role: 'user', content: 'one' }, { role: 'assistant', content: 'two' }, { role: 'user', content: 'echo' }],
  });
  assert.deepEqual(JSON.parse(result.text), [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'one' },
    { role: 'assistant', content: 'two' },
    { role: 'user', content: 'echo' },
  ]);
});

const withTools = FACES.flatMap((face) => WITH_TOOLS.map((agent) => `${face}, ${agent}`));

function toolkit(called) {
  return {
    get_weather: tool({
      description: 'The weather of a city',
      inputSchema: z.object({ city: z.string(), unit: z.string() }),
      execute: async (args) => { called.push(args); return RESULT; },
    }),
  };
}

each('streamText with a tool that it runs: {}', withTools, async (pair) => {
  const [face, agent] = split(pair);
  const called = [];
  const result = streamText({ ...common, model: model(face, agent), prompt: QUESTION, tools: toolkit(called), stopWhen: isStepCount(2), onError() {} });
  for await (const part of result.fullStream) if (part.type === 'error') throw part.error;
  assert.deepEqual(called, [ARGUMENTS]);
  const steps = await result.steps;
  assert.deepEqual(steps.map((s) => s.finishReason), ['tool-calls', 'stop']);
  answered(agent, steps[1].text);
});

each('generateText with a tool that it runs: {}', withTools, async (pair) => {
  const [face, agent] = split(pair);
  const called = [];
  const result = await generateText({ ...common, model: model(face, agent), prompt: QUESTION, tools: toolkit(called), stopWhen: isStepCount(2) });
  assert.deepEqual(called, [ARGUMENTS]);
  assert.deepEqual(result.steps.map((s) => s.finishReason), ['tool-calls', 'stop']);
  answered(agent, result.text);
});

each('streamText of an agent that fails in its middle: {}', FACES.flatMap((f) => FAILING.map((a) => `${f}, ${a}`)), async (pair) => {
  const [face, agent] = split(pair);
  const { prompt, goOn } = failing(agent);
  const result = streamText({ ...common, model: model(face, agent), prompt, onError() {} });
  let text = '', error, finish;
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') text += part.text;
    if (part.type === 'error') error = part.error;
    if (part.type === 'finish') finish = part.finishReason;
    if (text === BEFORE) await goOn();
  }
  assert.equal(text, BEFORE);
  assert.ok(error, 'a failed stream ended without an error');
  assert.ok(finish === undefined || finish === 'error', finish);
});

each('generateText of an agent that fails is a 502, and it is not run again: {}', FACES, async (face) => {
  for (const agent of FAILING) {
    const prompt = `fail ${fresh()}`;
    const e = await failure(() => generateText({ ...common, model: model(face, agent), prompt }));
    assert.ok(APICallError.isInstance(e), String(e));
    assert.equal(e.statusCode, 502);
    assert.ok(!e.message.includes('secret'), e.message);
    if (agent === 'cycls-broken') assert.equal(await runs(prompt), 1);
  }
});

each('an unknown model, a dead agent, a refusal: {}', FACES, async (face) => {
  for (const [agent, prompt, status] of [['nobody', PROMPT, 404], ['dead', PROMPT, 502], ['chat', 'refuse', 429], ['cycls', 'refuse', 429]]) {
    const e = await failure(() => generateText({ ...common, model: model(face, agent), prompt }));
    assert.ok(APICallError.isInstance(e), String(e));
    assert.equal(e.statusCode, status);
    assert.ok(e.responseHeaders['x-request-id']);
    if (status === 429) assert.equal(e.responseHeaders['retry-after'], '7');
    if (status === 404) assert.ok(e.message.includes('cycls-real'), e.message);
  }
});

each('the first words come before the agent has ended: {}', FACES, async (face) => {
  const name = fresh();
  const result = streamText({ ...common, model: model(face, 'cycls-real'), prompt: `gate ${name}`, onError() {} });
  let text = '';
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error;
    if (part.type !== 'text-delta') continue;
    text += part.text;
    if (text === 'first ') await release(name);
  }
  assert.equal(text, 'first second');
});

each('a client that leaves ends the agent: {}', FACES, async (face) => {
  const name = fresh();
  const leave = new AbortController();
  const result = streamText({ ...common, model: model(face, 'cycls-real'), prompt: `hold ${name}`, abortSignal: leave.signal, onError() {} });
  for await (const part of result.fullStream) if (part.type === 'text-delta') leave.abort();
  await closed(name);
});

// --- what is hard: calls side by side, objects, citations, answers cut short ---

const cells = FACES.flatMap((face) => SCRIPTED.map((agent) => `${face}, ${agent}`));
const Person = z.object({ name: z.string(), age: z.int(), tags: z.array(z.string()) });
const weathers = (called) => ({
  get_weather: tool({ description: 'The weather of a city', inputSchema: z.object({ city: z.string(), unit: z.string() }), execute: async (args) => { called.push(args); return skyOf(args); } }),
});

each('streamText, two calls at once, to the last word: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  const called = [], order = [], inputs = {};
  const result = streamText({ ...common, model: model(face, agent), prompt: BOTH, tools: weathers(called), stopWhen: isStepCount(3), onError() {} });
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error;
    if (part.type === 'tool-input-delta') inputs[part.id] = (inputs[part.id] ?? '') + part.delta;
    if (part.type !== order.at(-1) && !part.type.endsWith('-delta')) order.push(part.type);
  }
  assert.deepEqual(called, CALLED);
  const steps = await result.steps;
  assert.deepEqual(steps.map((s) => [s.text, s.finishReason]), [[LOOKING, 'tool-calls'], [HEARD, 'stop']]);
  assert.deepEqual(steps[0].toolCalls.map((c) => c.input), CALLED);
  assert.deepEqual(steps[0].toolCalls.map((c) => JSON.parse(inputs[c.toolCallId])), CALLED);
  assert.deepEqual(steps[0].toolResults.map((r) => [r.toolCallId, r.output]), steps[0].toolCalls.map((c) => [c.toolCallId, skyOf(c.input)]));
  assert.ok(order.indexOf('text-end') < order.indexOf('tool-call'), order.join());
  if (face === 'responses') assert.equal(steps[0].reasoningText, THOUGHT);
  for (const s of steps) assert.deepEqual([s.usage.inputTokens, s.usage.outputTokens, s.usage.totalTokens], [11, 7, 18]);
});

each('generateText, two calls at once, to the last word: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  const called = [];
  const result = await generateText({ ...common, model: model(face, agent), prompt: BOTH, tools: weathers(called), stopWhen: isStepCount(3) });
  assert.deepEqual(called, CALLED);
  assert.equal(result.text, HEARD);
  assert.deepEqual(result.steps.map((s) => s.finishReason), ['tool-calls', 'stop']);
  if (face === 'responses') assert.equal(result.steps[0].reasoningText, THOUGHT);
});

each('a tool that must be called, by any and by its name: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  for (const toolChoice of ['required', { type: 'tool', toolName: 'get_weather' }]) {
    const result = await generateText({ ...common, model: model(face, agent), prompt: 'Anything about Rome', tools: weathers([]), toolChoice });
    assert.deepEqual(result.toolCalls.map((c) => c.input), [CALLED[1]]);
  }
  const { text, toolCalls } = await generateText({ ...common, model: model(face, agent), prompt: BOTH, tools: weathers([]), toolChoice: 'none' });
  assert.deepEqual([text, toolCalls], [`You said: ${BOTH}`, []]);
});

each('generateObject and streamObject: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  const asked = { ...common, model: model(face, agent), prompt: 'Who is it?', schema: Person };
  const whole = await generateObject(asked);
  assert.deepEqual([whole.object, whole.finishReason], [ADA, 'stop']);
  const stream = streamObject({ ...asked, onError() {} });
  const partial = [];
  for await (const p of stream.partialObjectStream) partial.push(p);
  assert.deepEqual(partial.at(-1), ADA);
  assert.ok(partial.length > 1);
  assert.deepEqual(await stream.object, ADA);
  const { output } = await generateText({ ...common, model: model(face, agent), prompt: 'Who is it?', output: Output.object({ schema: Person }) });
  assert.deepEqual(output, ADA);
});

each('an object of an agent that has none: {}', FACES, async (face) => {
  const e = await failure(() => generateObject({ ...common, model: model(face, 'cycls-real'), prompt: 'Who is it?', schema: Person }));
  assert.ok(APICallError.isInstance(e), String(e));
  assert.equal(e.statusCode, 400);
});

each('answers cut short, and objects: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  for (const [word, text, finish] of [['length', 'This is cut ', 'length'], ['filter', 'This is filtered ', 'content-filter'], ['thought', '', 'length']]) {
    const whole = await generateText({ ...common, model: model(face, agent), prompt: word });
    assert.deepEqual([whole.text, whole.finishReason], [text, finish]);
    const stream = streamText({ ...common, model: model(face, agent), prompt: word, onError() {} });
    assert.deepEqual([await stream.text, await stream.finishReason], [text, finish]);
  }
  const e = await failure(() => generateObject({ ...common, model: model(face, agent), prompt: 'length', schema: Person }));
  assert.ok(NoObjectGeneratedError.isInstance(e), String(e));
  assert.equal(e.finishReason, 'length');
});

each('citations are sources: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  const want = [['url', 'https://example.com/a?b=1&c=“é”', 'Hère']];
  const seen = (sources) => sources.map((s) => [s.sourceType, s.url, s.title]);
  const whole = await generateText({ ...common, model: model(face, agent), prompt: 'cite' });
  assert.deepEqual([whole.text, seen(whole.sources)], ['See here.', want]);
  const stream = streamText({ ...common, model: model(face, agent), prompt: 'cite', onError() {} });
  assert.deepEqual([await stream.text, seen(await stream.sources)], ['See here.', want]);
});

each('a stream that fails or breaks off in its middle: {}', cells, async (pair) => {
  const [face, agent] = split(pair);
  for (const prompt of ['fail', 'cut', 'fail at once']) {
    const result = streamText({ ...common, model: model(face, agent), prompt, onError() {} });
    let text = '', error, finish;
    for await (const part of result.fullStream) {
      if (part.type === 'text-delta') text += part.text;
      if (part.type === 'error') error = part.error;
      if (part.type === 'finish') finish = part.finishReason;
    }
    assert.equal(text, BEFORE, prompt);
    assert.ok(error, prompt);
    assert.ok(finish === undefined || finish === 'error', finish);
  }
});

// With store (which is its default) the SDK refers to its earlier output by item_reference.
each('responses: what was said before is referred to by its id', ['chat', 'scripted-chat', 'scripted-responses', 'swarms'], async (agent) => {
  const ran = [];
  const asked = [];
  const watched = createOpenAI({ baseURL: `${PROXY}/v1`, apiKey: 'sk-interop', fetch: (url, init) => { asked.push(init.body); return fetch(url, init); } });
  const got = await generateText({ maxRetries: 0, model: watched.responses(agent), prompt: QUESTION, tools: toolkit(ran), stopWhen: isStepCount(2) });
  assert.equal(got.steps.length, 2);
  assert.ok(ran.length > 0 && got.text, got.text);
  assert.ok(asked.length === 2 && asked[1].includes('item_reference'), asked[1]);
});

await main('ai-sdk');
