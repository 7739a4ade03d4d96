// The helpers of the official Node.js client over what is hard: parallel calls, structured output, custom tools,
// refusals, answers cut short. They rebuild the whole answer from its events and check each against what came before.

import OpenAI from 'openai';
import { ContentFilterFinishReasonError, LengthFinishReasonError } from 'openai/error';
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { AGENTS, BEFORE, FAILING, PATIENCE, PROMPT, PROXY, assert, each, failing, failure, test } from './harness.mjs';
import { ADA, BOTH, CALLED, HEARD, LOOKING, SCRIPTED, THOUGHT, chatTool, responsesTool, skyOf, usageOfChat, usageOfResponses } from './scripted.mjs';

const client = new OpenAI({ baseURL: `${PROXY}/v1`, apiKey: 'sk-interop', maxRetries: 0, timeout: PATIENCE });
const user = (text) => [{ role: 'user', content: text }];
const Person = z.object({ name: z.string(), age: z.int(), tags: z.array(z.string()) });

// --- chat.completions.stream ---

each('chat helper, every listener in order: {}', Object.keys(AGENTS), async (agent) => {
  const stream = client.chat.completions.stream({ model: agent, messages: user(PROMPT), stream_options: { include_usage: true } });
  const order = [];
  let text = '', chunks = 0, whole, last;
  stream.on('connect', () => order.push('connect'));
  stream.on('chunk', () => { chunks++; });
  stream.on('content', (delta, snapshot) => { text += delta; assert.equal(snapshot, text); });
  stream.on('content.done', ({ content }) => { order.push('content.done'); assert.equal(content, AGENTS[agent].text); });
  stream.on('message', (m) => { order.push('message'); last = m; });
  stream.on('chatCompletion', (c) => { order.push('chatCompletion'); whole = c; });
  stream.on('finalChatCompletion', () => order.push('finalChatCompletion'));
  stream.on('end', () => order.push('end'));
  const final = await stream.finalChatCompletion();
  await stream.done();
  assert.deepEqual(order.filter((o) => o !== 'message'), ['connect', 'content.done', 'chatCompletion', 'finalChatCompletion', 'end']);
  assert.ok(chunks > 1);
  assert.equal(text, AGENTS[agent].text);
  assert.equal(last.content, text);
  assert.equal(whole.id, final.id);
  assert.equal((await stream.finalMessage()).content, text);
  assert.equal(await stream.finalContent(), text);
  assert.deepEqual([final.choices.length, final.choices[0].finish_reason], [1, 'stop']);
  const usage = await stream.totalUsage();
  assert.equal(usage.total_tokens > 0, AGENTS[agent].usage, JSON.stringify(usage));
});

each('chat helper, parallel calls: {}', SCRIPTED, async (agent) => {
  const stream = client.chat.completions.stream({ model: agent, messages: user(BOTH), tools: [chatTool], stream_options: { include_usage: true } });
  const done = [], args = ['', ''];
  let text = '', calledBeforeText = false;
  stream.on('content', (d) => { text += d; calledBeforeText ||= args.some((a) => a); });
  stream.on('tool_calls.function.arguments.delta', (e) => { args[e.index] += e.arguments_delta; assert.equal(e.arguments, args[e.index]); });
  stream.on('tool_calls.function.arguments.done', (e) => { done.push([e.index, e.name, JSON.parse(e.arguments)]); });
  const final = await stream.finalChatCompletion();
  const { message, finish_reason } = final.choices[0];
  assert.equal(finish_reason, 'tool_calls');
  assert.equal(text, LOOKING);
  assert.ok(!calledBeforeText);
  assert.equal(message.content, LOOKING);
  assert.deepEqual(message.tool_calls.map((c) => [c.type, c.function.name, JSON.parse(c.function.arguments)]), CALLED.map((c) => ['function', 'get_weather', c]));
  assert.deepEqual(args, message.tool_calls.map((c) => c.function.arguments));
  assert.deepEqual(done.sort(), CALLED.map((c, i) => [i, 'get_weather', c]));
  assert.equal(new Set(message.tool_calls.map((c) => c.id)).size, 2);
  assert.ok(message.tool_calls.every((c) => c.id.startsWith('call_')));
  usageOfChat(final.usage);
});

for (const stream of [true, false]) {
  const mode = stream ? 'stream' : 'JSON';

  each(`chat, runTools with parallel calls, ${mode}: {}`, SCRIPTED, async (agent) => {
    const called = [], roles = [];
    const runner = client.chat.completions.runTools({
      model: agent, messages: user(BOTH), stream,
      tools: [zodFunction({ name: 'get_weather', parameters: z.object({ city: z.string(), unit: z.string() }), function: (a) => { called.push(a); return skyOf(a); } })],
    });
    runner.on('message', (m) => roles.push(m.role));
    assert.equal(await runner.finalContent(), HEARD);
    assert.deepEqual(called, CALLED);
    assert.deepEqual(roles, ['assistant', 'tool', 'tool', 'assistant']);
    const said = runner.messages.filter((m) => m.role === 'tool').map((m) => [m.tool_call_id, m.content]);
    assert.deepEqual(said, runner.messages.find((m) => m.tool_calls).tool_calls.map((c, i) => [c.id, skyOf(CALLED[i])]));
    assert.equal((await runner.finalChatCompletion()).choices[0].finish_reason, 'stop');
    assert.equal(runner.allChatCompletions().length, 2);
  });

  each(`chat, zodResponseFormat, ${mode}: {}`, SCRIPTED, async (agent) => {
    const asked = { model: agent, messages: user('Who is it?'), response_format: zodResponseFormat(Person, 'person') };
    let parsed;
    if (stream) {
      const s = client.chat.completions.stream(asked);
      const seen = [];
      s.on('content.delta', (e) => { if (e.parsed) seen.push(e.parsed); });
      const { message } = (await s.finalChatCompletion()).choices[0];
      parsed = message.parsed;
      assert.deepEqual(seen.at(-1), ADA);
      assert.deepEqual(JSON.parse(message.content), ADA);
    } else {
      parsed = (await client.chat.completions.parse(asked)).choices[0].message.parsed;
    }
    assert.deepEqual(parsed, ADA);
  });

  each(`chat, a refusal is none of the content, ${mode}: {}`, SCRIPTED, async (agent) => {
    const asked = { model: agent, messages: user('refusal'), response_format: zodResponseFormat(Person, 'person') };
    let heard = '';
    const s = stream && client.chat.completions.stream(asked);
    if (s) s.on('refusal.delta', (e) => { heard += e.delta; });
    const { message, finish_reason } = (s ? await s.finalChatCompletion() : await client.chat.completions.parse(asked)).choices[0];
    assert.equal(message.refusal, 'I cannot help with „that“.');
    if (s) assert.equal(heard, message.refusal);
    assert.ok(!message.content && !message.parsed, JSON.stringify(message));
    assert.equal(finish_reason, 'stop');
  });

  each(`chat, length and content_filter are told, ${mode}: {}`, SCRIPTED, async (agent) => {
    for (const [word, text, want] of [['length', 'This is cut ', 'length'], ['thought', null, 'length'], ['filter', 'This is filtered ', 'content_filter']]) {
      const asked = { model: agent, messages: user(word) };
      const c = stream ? await client.chat.completions.stream(asked).finalChatCompletion() : await client.chat.completions.create(asked);
      assert.equal(c.choices[0].message.content || null, text, word);
      assert.equal(c.choices[0].finish_reason, want, word);
    }
  });

  each(`chat, structured output that was cut short is an error, ${mode}: {}`, SCRIPTED, async (agent) => {
    for (const [word, kind] of [['length', LengthFinishReasonError], ['filter', ContentFilterFinishReasonError]]) {
      const asked = { model: agent, messages: user(word), response_format: zodResponseFormat(Person, 'person') };
      const e = await failure(() => (stream ? client.chat.completions.stream(asked).finalChatCompletion() : client.chat.completions.parse(asked)));
      assert.ok(e instanceof kind, String(e));
    }
  });

  each(`chat, deprecated functions, ${mode}: {}`, SCRIPTED, async (agent) => {
    const { name, parameters } = chatTool.function;
    const asked = { model: agent, messages: user('the weather in Paris'), functions: [{ name, parameters }] };
    const ask = async (messages) => {
      if (!stream) return (await client.chat.completions.create({ ...asked, messages })).choices[0];
      let finish, call, content = '';
      for await (const c of await client.chat.completions.create({ ...asked, messages, stream: true })) {
        const { delta, finish_reason } = c.choices[0];
        assert.ok(!delta.tool_calls, 'tool_calls for one who knows functions only');
        content += delta.content ?? '';
        if (delta.function_call) {
          call ??= { name: '', arguments: '' };
          call.name += delta.function_call.name ?? '';
          call.arguments += delta.function_call.arguments ?? '';
        }
        finish = finish_reason ?? finish;
      }
      return { finish_reason: finish, message: { role: 'assistant', content, function_call: call } };
    };
    const first = await ask(asked.messages);
    assert.equal(first.finish_reason, 'function_call');
    assert.ok(!first.message.tool_calls);
    assert.equal(first.message.function_call.name, name);
    assert.deepEqual(JSON.parse(first.message.function_call.arguments), CALLED[0]);
    const second = await ask([
      ...asked.messages, { role: 'assistant', content: null, function_call: first.message.function_call }, { role: 'function', name, content: skyOf(CALLED[0]) },
    ]);
    assert.equal(second.finish_reason, 'stop');
    assert.equal(second.message.content, `The tools say: ${skyOf(CALLED[0])}`);
  });

  each(`chat, a custom tool, ${mode}: {}`, SCRIPTED, async (agent) => {
    const asked = {
      model: agent, messages: user('the weather, in code'), tool_choice: 'required',
      tools: [{ type: 'custom', custom: { name: 'run_code', description: 'Runs Python', format: { type: 'grammar', grammar: { syntax: 'lark', definition: 'start: /.+/s' } } } }],
    };
    let choice;
    if (stream) {
      const call = { id: '', type: '', name: '', input: '' };
      for await (const c of await client.chat.completions.create({ ...asked, stream: true })) {
        for (const t of c.choices[0].delta.tool_calls ?? []) {
          assert.equal(t.index, 0);
          call.id += t.id ?? '';
          call.type += t.type ?? '';
          call.name += t.custom?.name ?? '';
          call.input += t.custom?.input ?? '';
        }
        if (c.choices[0].finish_reason) choice = { finish_reason: c.choices[0].finish_reason };
      }
      choice.message = { tool_calls: [{ id: call.id, type: call.type, custom: { name: call.name, input: call.input } }] };
    } else {
      [choice] = (await client.chat.completions.create(asked)).choices;
    }
    assert.equal(choice.finish_reason, 'tool_calls');
    const [call] = choice.message.tool_calls;
    assert.deepEqual([call.type, call.custom.name, call.custom.input], ['custom', 'run_code', 'print(“hi”)\n']);
    const c = await client.chat.completions.create({
      ...asked, tool_choice: 'auto',
      messages: [...asked.messages, { role: 'assistant', content: null, tool_calls: [call] }, { role: 'tool', tool_call_id: call.id, content: 'hi' }],
    });
    assert.equal(c.choices[0].message.content, 'The tools say: hi');
  });

  each(`chat, citations, ${mode}: {}`, SCRIPTED, async (agent) => {
    const asked = { model: agent, messages: user('cite') };
    let text = '', notes = [];
    if (stream) {
      for await (const c of await client.chat.completions.create({ ...asked, stream: true })) {
        text += c.choices[0].delta.content ?? '';
        notes.push(...(c.choices[0].delta.annotations ?? []));
      }
    } else {
      const { message } = (await client.chat.completions.create(asked)).choices[0];
      [text, notes] = [message.content, message.annotations];
    }
    assert.equal(text, 'See here.');
    assert.deepEqual(notes, [{ type: 'url_citation', url_citation: { start_index: 4, end_index: 8, url: 'https://example.com/a?b=1&c=“é”', title: 'Hère' } }]);
  });
}

// --- responses.stream ---

// follow reads a stream's events as its grammar has them, and returns what the deltas add up to, item by item.
async function follow(stream) {
  const items = [], types = [];
  let seq = 0, open, part, terminal;
  for await (const e of stream) {
    types.push(e.type);
    assert.equal(e.sequence_number, seq++, e.type);
    assert.equal(terminal, undefined, `${e.type} after the terminal event`);
    if ('item_id' in e) assert.deepEqual([e.item_id, e.output_index], [open.id, items.length], e.type);
    switch (e.type) {
      case 'response.output_item.added':
        assert.equal(open, undefined, 'an item in an item');
        assert.equal(e.output_index, items.length);
        open = { id: e.item.id, type: e.item.type, name: e.item.name, call: e.item.call_id, text: '' };
        break;
      case 'response.content_part.added': case 'response.reasoning_summary_part.added':
        assert.equal(part, undefined, 'a part in a part');
        part = '';
        break;
      case 'response.output_text.delta': case 'response.refusal.delta': case 'response.reasoning_summary_text.delta':
        part += e.delta;
        break;
      case 'response.output_text.done': case 'response.reasoning_summary_text.done':
        assert.equal(e.text, part);
        break;
      case 'response.refusal.done':
        assert.equal(e.refusal, part);
        break;
      case 'response.content_part.done': case 'response.reasoning_summary_part.done':
        open.text += part;
        part = undefined;
        break;
      case 'response.function_call_arguments.delta': case 'response.custom_tool_call_input.delta':
        open.text += e.delta;
        break;
      case 'response.function_call_arguments.done':
        assert.equal(e.arguments, open.text);
        break;
      case 'response.custom_tool_call_input.done':
        assert.equal(e.input, open.text);
        break;
      case 'response.output_item.done':
        assert.deepEqual([e.item.id, e.item.call_id], [open.id, open.call]);
        items.push(open);
        open = undefined;
        break;
      case 'response.completed': case 'response.incomplete': case 'response.failed':
        terminal = e;
        break;
    }
  }
  assert.deepEqual(types.slice(0, 2), ['response.created', 'response.in_progress']);
  assert.ok(terminal, types.join(' '));
  assert.equal(open, undefined, 'an item that never ended');
  assert.deepEqual(terminal.response.output.map((o) => o.id), items.map((o) => o.id));
  return { items, types, terminal };
}

const shape = (o) => [o.type, o.name, o.text];
const weatherCalls = CALLED.map((c) => ['function_call', 'get_weather', JSON.stringify(c).replaceAll(':', ': ').replaceAll(',', ', ')]);

each('responses helper, to the letter: {}', Object.keys(AGENTS), async (agent) => {
  const stream = client.responses.stream({ model: agent, input: PROMPT });
  const { items, terminal } = await follow(stream);
  const final = await stream.finalResponse();
  assert.equal(terminal.type, 'response.completed');
  assert.equal(items.filter((o) => o.type === 'message').map((o) => o.text).join(''), AGENTS[agent].text);
  assert.equal(items.filter((o) => o.type === 'reasoning').map((o) => o.text).join(''), AGENTS[agent].reasoning);
  assert.equal(final.output_text, AGENTS[agent].text);
  assert.equal(final.id, terminal.response.id);
});

each('responses helper, parallel calls: {}', SCRIPTED, async (agent) => {
  const stream = client.responses.stream({ model: agent, input: BOTH, tools: [responsesTool], store: false });
  const snapshots = {};
  stream.on('response.function_call_arguments.delta', (e) => { snapshots[e.output_index] = e.snapshot; });
  const { items } = await follow(stream);
  assert.deepEqual(items.map(shape), [['reasoning', undefined, THOUGHT], ['message', undefined, LOOKING], ...weatherCalls]);
  const final = await stream.finalResponse();
  assert.deepEqual([snapshots[2], snapshots[3]], final.output.slice(2).map((o) => o.arguments));
  assert.ok(final.output.slice(2).every((o) => o.status === 'completed' && o.call_id.startsWith('call_') && o.id.startsWith('fc_')));
  assert.equal(new Set(final.output.flatMap((o) => [o.id, o.call_id].filter(Boolean))).size, 6);
  usageOfResponses(final.usage);

  const input = [...user(BOTH), ...final.output.map(({ parsed_arguments, ...o }) => o)];
  for (const c of final.output.slice(2).reverse()) input.push({ type: 'function_call_output', call_id: c.call_id, output: skyOf(JSON.parse(c.arguments)) });
  const second = await client.responses.stream({ model: agent, input, tools: [responsesTool], store: false }).finalResponse();
  assert.ok(CALLED.every((c) => second.output_text.includes(skyOf(c))), second.output_text);
});

test('responses helper, parallel calls whose arguments come by turns', async () => {
  const { items } = await follow(client.responses.stream({ model: 'scripted-chat', input: `braided ${BOTH}`, tools: [responsesTool] }));
  assert.deepEqual(items.map(shape), [['reasoning', undefined, THOUGHT], ['message', undefined, LOOKING], ...weatherCalls]);
});

each('responses helper, a call and not a word: {}', SCRIPTED, async (agent) => {
  const { items } = await follow(client.responses.stream({ model: agent, input: 'only the weather in Rome', tools: [responsesTool] }));
  assert.deepEqual(items.map(shape), [['reasoning', undefined, THOUGHT], weatherCalls[1]]);
});

each('responses helper, a custom tool: {}', SCRIPTED, async (agent) => {
  const tools = [{ type: 'custom', name: 'run_code', description: 'Runs Python', format: { type: 'grammar', syntax: 'lark', definition: 'start: /.+/s' } }];
  const stream = client.responses.stream({ model: agent, input: 'only', tools, tool_choice: { type: 'custom', name: 'run_code' } });
  const { items } = await follow(stream);
  assert.deepEqual(items.map(shape), [['reasoning', undefined, THOUGHT], ['custom_tool_call', 'run_code', 'print(“hi”)\n']]);
  const call = (await stream.finalResponse()).output[1];
  assert.equal(call.input, 'print(“hi”)\n');
  const second = await client.responses.create({
    model: agent, tools, input: [...user('only'), { type: 'custom_tool_call', call_id: call.call_id, name: call.name, input: call.input }, { type: 'custom_tool_call_output', call_id: call.call_id, output: 'hi' }],
  });
  assert.equal(second.output_text, 'The tools say: hi');
});

each('responses helper, a refusal: {}', SCRIPTED, async (agent) => {
  const stream = client.responses.stream({ model: agent, input: 'refusal' });
  const { items, types } = await follow(stream);
  assert.deepEqual(items.map(shape), [['message', undefined, 'I cannot help with „that“.']]);
  assert.ok(types.includes('response.refusal.delta') && !types.includes('response.output_text.delta'));
  const final = await stream.finalResponse();
  const [{ parsed, ...part }, ...others] = final.output[0].content;
  assert.deepEqual([part, others], [{ type: 'refusal', refusal: 'I cannot help with „that“.' }, []]);
  assert.equal(final.output_text, '');
});

each('responses helper, citations: {}', SCRIPTED, async (agent) => {
  const want = { type: 'url_citation', start_index: 4, end_index: 8, url: 'https://example.com/a?b=1&c=“é”', title: 'Hère' };
  const stream = client.responses.stream({ model: agent, input: 'cite' });
  const { types } = await follow(stream);
  const { annotations } = (await stream.finalResponse()).output[0].content[0];
  assert.deepEqual(annotations, [want]);
  assert.ok(types.includes('response.output_text.annotation.added'));
  assert.deepEqual((await client.responses.create({ model: agent, input: 'cite' })).output[0].content[0].annotations, [want]);
});

each('responses, an answer cut short is incomplete: {}', SCRIPTED, async (agent) => {
  for (const [word, text, reason] of [['length', 'This is cut ', 'max_output_tokens'], ['thought', '', 'max_output_tokens'], ['filter', 'This is filtered ', 'content_filter']]) {
    const stream = client.responses.stream({ model: agent, input: word });
    const { terminal } = await follow(stream);
    assert.equal(terminal.type, 'response.incomplete', word);
    for (const r of [await stream.finalResponse(), await client.responses.create({ model: agent, input: word })]) {
      assert.deepEqual([r.status, r.incomplete_details.reason, r.output_text, r.error], ['incomplete', reason, text, null], word);
      for (const o of r.output.filter((o) => o.type === 'message')) assert.equal(o.status, 'incomplete', word);
    }
  }
});

each('responses.parse and its stream, zodTextFormat: {}', SCRIPTED, async (agent) => {
  const asked = { model: agent, input: 'Who is it?', text: { format: zodTextFormat(Person, 'person') } };
  const r = await client.responses.parse(asked);
  assert.deepEqual(r.output_parsed, ADA);
  assert.deepEqual(JSON.parse(r.output_text), ADA);
  assert.equal(r.text.format.name, 'person');
  const stream = client.responses.stream(asked);
  await follow(stream);
  assert.deepEqual((await stream.finalResponse()).output_parsed, ADA);
});

each('responses.parse, arguments of a tool: {}', SCRIPTED, async (agent) => {
  const tools = [zodResponsesFunction({ name: 'get_weather', parameters: z.object({ city: z.string(), unit: z.string() }) })];
  for (const r of [await client.responses.parse({ model: agent, input: BOTH, tools }), await client.responses.stream({ model: agent, input: BOTH, tools }).finalResponse()]) {
    assert.deepEqual(r.output.filter((o) => o.type === 'function_call').map((o) => o.parsed_arguments), CALLED);
  }
});

each('what has no JSON for a schema refuses it by its name: {}', ['cycls-real', 'cognipeer', 'ticos'], async (agent) => {
  let e = await failure(() => client.responses.parse({ model: agent, input: 'Who?', text: { format: zodTextFormat(Person, 'person') } }));
  assert.ok(e instanceof OpenAI.BadRequestError && e.param.startsWith('text.format'), String(e.param));
  e = await failure(() => client.chat.completions.stream({ model: agent, messages: user('Who?'), response_format: zodResponseFormat(Person, 'person') }).finalChatCompletion());
  assert.ok(e instanceof OpenAI.BadRequestError && e.param.startsWith('response_format'), String(e.param));
});

// Each word of „You said: hello“ is a token of the scripted agent.
const TOKENS = ['You ', 'said: ', 'hello'];
const probable = (p) => [p.token, p.logprob, p.top_logprobs.map((t) => [t.token, t.logprob])];
const PROBABLE = TOKENS.map((w) => [w, -0.125, [['yes', -1.5], ['no', -2.25]]]);

each('logprobs, over both APIs: {}', SCRIPTED, async (agent) => {
  const asked = { model: agent, messages: user('hello'), logprobs: true, top_logprobs: 2 };
  const final = await client.chat.completions.stream(asked).finalChatCompletion();
  for (const c of [final, await client.chat.completions.create(asked)]) {
    assert.deepEqual(c.choices[0].logprobs.content.map(probable), PROBABLE);
    assert.deepEqual(c.choices[0].logprobs.content.map((p) => Buffer.from(p.bytes ?? p.token).toString()), TOKENS);
  }
  const include = { model: agent, input: 'hello', include: ['message.output_text.logprobs'], top_logprobs: 2 };
  const stream = client.responses.stream(include);
  const deltas = [];
  let done;
  stream.on('response.output_text.delta', (e) => deltas.push(...e.logprobs));
  stream.on('response.output_text.done', (e) => { done = e.logprobs; });
  for (const r of [await stream.finalResponse(), await client.responses.create(include)]) {
    assert.deepEqual(r.output.at(-1).content[0].logprobs.map(probable), PROBABLE);
  }
  assert.deepEqual(deltas.map(probable), PROBABLE);
  assert.deepEqual(done.map(probable), PROBABLE);
});

// --- failures ---

each('responses helper, an agent that fails in its middle: {}', [...FAILING, ...SCRIPTED], async (agent) => {
  const { prompt, goOn } = failing(agent);
  const stream = client.responses.stream({ model: agent, input: prompt });
  let text = '', snapshot = '';
  stream.on('response.output_text.delta', (event) => { snapshot = event.snapshot; });
  const e = await failure(async () => {
    for await (const event of stream) {
      assert.notEqual(event.type, 'response.completed');
      if (event.type !== 'response.output_text.delta') continue;
      text += event.delta;
      if (text === BEFORE) await goOn();
    }
  });
  assert.deepEqual([text, snapshot], [BEFORE, BEFORE]);
  assert.ok(e instanceof OpenAI.APIError, String(e));
  assert.ok(!e.message.includes('secret'), e.message);
});

each('a stream that was cut is a failure: {}', SCRIPTED, async (agent) => {
  for (const ask of [
    () => client.responses.stream({ model: agent, input: 'cut' }).finalResponse(),
    () => client.chat.completions.stream({ model: agent, messages: user('cut') }).finalChatCompletion(),
    async () => { for await (const _ of await client.responses.create({ model: agent, input: 'cut', stream: true })); },
    async () => { for await (const _ of await client.chat.completions.create({ model: agent, messages: user('cut'), stream: true })); },
  ]) {
    const e = await failure(ask);
    assert.ok(e instanceof OpenAI.APIError, String(e));
    assert.ok(e.message && !/missing finish_reason|ended without/.test(e.message), e.message);
  }
});

each('an abort in mid-stream ends both helpers as the user\'s: {}', ['chat', 'responses', 'swarms', 'cycls'], async (agent) => {
  const chat = client.chat.completions.stream({ model: agent, messages: user(PROMPT) });
  chat.on('content', () => chat.abort());
  const responses = client.responses.stream({ model: agent, input: PROMPT });
  responses.on('response.output_text.delta', () => responses.abort());
  const errors = await Promise.all([failure(() => chat.finalChatCompletion()), failure(() => responses.finalResponse())]);
  for (const e of errors) assert.ok(e instanceof OpenAI.APIUserAbortError, String(e));
  for (const s of [chat, responses]) assert.ok(s.aborted && s.ended);
});

each('a status of the backend is that error: {}', SCRIPTED, async (agent) => {
  const kinds = {
    400: [OpenAI.BadRequestError, 400], 404: [OpenAI.NotFoundError, 404], 409: [OpenAI.ConflictError, 409], 422: [OpenAI.BadRequestError, 400],
    429: [OpenAI.RateLimitError, 429], 500: [OpenAI.InternalServerError, 502], 503: [OpenAI.InternalServerError, 503], 401: [OpenAI.InternalServerError, 502],
  };
  for (const [status, [kind, want]] of Object.entries(kinds)) {
    for (const ask of [
      () => client.chat.completions.create({ model: agent, messages: user(`status ${status}`) }),
      () => client.chat.completions.stream({ model: agent, messages: user(`status ${status}`) }).finalChatCompletion(),
      () => client.responses.create({ model: agent, input: `status ${status}` }),
      () => client.responses.stream({ model: agent, input: `status ${status}` }).finalResponse(),
    ]) {
      const e = await failure(ask);
      assert.ok(e instanceof kind, `${status}: ${e}`);
      assert.equal(e.status, want, `${status}: ${e}`);
      assert.ok(e.requestID && e.type, `${status}: ${JSON.stringify(e)}`);
      assert.equal(e.message.includes(`scripted status ${status}`), [400, 404, 409, 422, 429].includes(Number(status)), e.message);
    }
  }
});

// --- what the backend was sent ---

const sent = (r) => JSON.parse(r.output_text ?? r.choices[0].message.content);

test('chat to responses: what the backend gets of a full request', async () => {
  const { data, response } = await client.chat.completions.create({
    model: 'scripted-responses', messages: [{ role: 'system', content: 'Be brief.' }, ...user('echo')], tools: [chatTool], tool_choice: 'auto', parallel_tool_calls: false,
    temperature: 0.25, top_p: 0.5, max_completion_tokens: 999, reasoning_effort: 'low', verbosity: 'low', seed: 7, stop: ['x'],
    metadata: { a: 'b' }, user: 'u', response_format: zodResponseFormat(Person, 'person'),
  }).withResponse();
  const got = sent(data);
  assert.deepEqual([got.store, got.temperature, got.top_p, got.max_output_tokens, got.parallel_tool_calls, got.tool_choice], [false, 0.25, 0.5, 999, false, 'auto']);
  assert.deepEqual([got.reasoning.effort, got.text.verbosity, got.text.format.name, got.text.format.strict], ['low', 'low', 'person', true]);
  assert.equal(got.tools[0].strict, false);
  assert.deepEqual(got.tools[0].parameters, chatTool.function.parameters);
  assert.deepEqual([got.metadata, got.user], [{ a: 'b' }, 'u']);
  const dropped = response.headers.get('dragoman-dropped');
  assert.ok(dropped.includes('seed') && dropped.includes('stop'), dropped);
  assert.ok(!('seed' in got) && !('stop' in got));
});

test('responses to chat: what the backend gets of a full request', async () => {
  const { data, response } = await client.responses.create({
    model: 'scripted-chat', instructions: 'Be brief.', input: user('echo'), tools: [responsesTool], parallel_tool_calls: false, temperature: 0.25, top_p: 0.5,
    max_output_tokens: 999, reasoning: { effort: 'low', summary: 'auto' }, text: { format: zodTextFormat(Person, 'person'), verbosity: 'low' },
    truncation: 'auto', include: ['reasoning.encrypted_content'], metadata: { a: 'b' }, store: false,
  }).withResponse();
  const got = sent(data);
  assert.deepEqual(got.messages, [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'echo' }]);
  assert.deepEqual([got.temperature, got.top_p, got.max_tokens, got.parallel_tool_calls, got.reasoning_effort], [0.25, 0.5, 999, false, 'low']);
  assert.deepEqual([got.response_format.json_schema.name, got.response_format.json_schema.strict, got.tools[0].function.strict], ['person', true, true]);
  assert.deepEqual(got.tools[0].function.parameters, responsesTool.parameters);
  assert.ok(!('store' in got) && !('include' in got) && !('truncation' in got), Object.keys(got).join());
  const dropped = response.headers.get('dragoman-dropped');
  for (const field of ['truncation', 'include', 'reasoning.summary']) assert.ok(dropped.includes(field), `${field}: ${dropped}`);
});
