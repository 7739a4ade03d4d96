// The official Node.js client of OpenAI: Chat Completions and Responses, with
// the helpers that check the order and the identity of all that they read.

import OpenAI from 'openai';
import {
  AGENTS, ARGUMENTS, BEFORE, FAILING, NAMES, PATIENCE, PROMPT, PROXY, QUESTION, RESULT, WEATHER, WITH_TOOLS,
  answered, assert, closed, each, failing, failure, fresh, main, release, runs, test,
} from './harness.mjs';

const client = new OpenAI({ baseURL: `${PROXY}/v1`, apiKey: 'sk-interop', maxRetries: 0, timeout: PATIENCE });
const user = (text) => [{ role: 'user', content: text }];
const passed = { chat: 'chat', responses: 'responses' };
const modelOf = (face, agent) => (passed[face] === agent ? 'demo-model' : agent);

function chatUsage(u) {
  assert.equal(u.total_tokens, u.prompt_tokens + u.completion_tokens);
  assert.ok(u.prompt_tokens > 0 && u.completion_tokens > 0, JSON.stringify(u));
}

each('chat, stream: {}', Object.keys(AGENTS), async (agent) => {
  const want = AGENTS[agent];
  let text = '', reasoning = '', role, finish, last;
  for await (const c of await client.chat.completions.create({ model: agent, messages: user(PROMPT), stream: true })) {
    assert.equal(c.object, 'chat.completion.chunk');
    assert.equal(c.model, modelOf('chat', agent));
    assert.ok(!c.usage, 'usage that nobody asked for');
    assert.equal(finish, undefined, 'a chunk after the finish');
    const [choice] = c.choices;
    role ??= choice.delta.role;
    text += choice.delta.content ?? '';
    reasoning += choice.delta.reasoning_content ?? '';
    if (choice.finish_reason) finish = choice.finish_reason;
    last = c;
  }
  assert.equal(text, want.text);
  assert.equal(reasoning, want.reasoning);
  assert.equal(role, 'assistant');
  assert.equal(finish, 'stop');
  assert.equal(last.choices[0].finish_reason, 'stop');
});

each('chat, stream helper with usage: {}', Object.keys(AGENTS), async (agent) => {
  const stream = client.chat.completions.stream({ model: agent, messages: user(PROMPT), stream_options: { include_usage: true } });
  let heard = '';
  stream.on('content', (delta) => { heard += delta; });
  const final = await stream.finalChatCompletion();
  assert.equal(heard, AGENTS[agent].text);
  assert.equal(final.choices[0].message.content, AGENTS[agent].text);
  assert.equal(final.choices[0].message.role, 'assistant');
  assert.equal(final.choices[0].finish_reason, 'stop');
  if (AGENTS[agent].usage) chatUsage(final.usage);
});

each('chat, JSON: {}', Object.keys(AGENTS), async (agent) => {
  const want = AGENTS[agent];
  const { data: c, response, request_id } = await client.chat.completions.create({ model: agent, messages: user(PROMPT) }).withResponse();
  assert.ok(request_id && request_id === response.headers.get('x-request-id'));
  assert.equal(response.headers.get('dragoman-agent'), agent);
  assert.equal(c.object, 'chat.completion');
  assert.equal(c.model, modelOf('chat', agent));
  const [choice] = c.choices;
  assert.equal(choice.message.content, want.text);
  assert.equal(choice.message.role, 'assistant');
  assert.equal(choice.message.reasoning_content ?? '', want.reasoning);
  assert.equal(choice.finish_reason, 'stop');
  if (want.usage) chatUsage(c.usage);
});

function responseIs(r, agent) {
  const want = AGENTS[agent];
  assert.equal(r.status, 'completed');
  assert.equal(r.model, modelOf('responses', agent));
  assert.equal(r.error, null);
  assert.equal(r.output_text, want.text);
  const thought = r.output.filter((o) => o.type === 'reasoning').flatMap((o) => o.summary).map((s) => s.text).join('');
  assert.equal(thought, want.reasoning);
  if (want.usage) {
    assert.equal(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens);
    assert.equal(typeof r.usage.input_tokens_details.cached_tokens, 'number');
    assert.equal(typeof r.usage.output_tokens_details.reasoning_tokens, 'number');
  }
}

each('responses, stream helper: {}', Object.keys(AGENTS), async (agent) => {
  const stream = client.responses.stream({ model: agent, input: PROMPT });
  let text = '', seen = 0, terminal;
  for await (const e of stream) {
    assert.equal(e.sequence_number, seen++);
    assert.equal(terminal, undefined, 'an event after the terminal one');
    if (e.type === 'response.output_text.delta') text += e.delta;
    if (e.type === 'response.completed') terminal = e;
  }
  assert.equal(text, AGENTS[agent].text);
  responseIs(await stream.finalResponse(), agent);
  assert.ok(terminal);
});

each('responses, events: {}', ['cycls-real', 'chat', 'responses', 'swarms'], async (agent) => {
  const events = [];
  for await (const e of await client.responses.create({ model: agent, input: PROMPT, stream: true })) events.push(e);
  assert.equal(events[0].type, 'response.created');
  assert.equal(events[1].type, 'response.in_progress');
  assert.equal(events.at(-1).type, 'response.completed');
  assert.equal(events.at(-1).response.id, events[0].response.id);
});

each('responses, JSON: {}', Object.keys(AGENTS), async (agent) => {
  const { data: r, request_id } = await client.responses.create({ model: agent, input: PROMPT }).withResponse();
  assert.ok(request_id);
  responseIs(r, agent);
});

// The SDK's own loop: it calls the function and sends its result back.
for (const stream of [true, false]) {
  each(`chat, runTools, ${stream ? 'stream' : 'JSON'}: {}`, WITH_TOOLS, async (agent) => {
    const called = [];
    const runner = client.chat.completions.runTools({
      model: agent,
      messages: user(QUESTION),
      stream,
      tools: [{
        type: 'function',
        function: {
          name: 'get_weather',
          description: 'The weather of a city',
          parameters: WEATHER,
          parse: JSON.parse,
          function: (args) => { called.push(args); return RESULT; },
        },
      }],
    }, { maxChatCompletions: 2 });
    answered(agent, await runner.finalContent());
    assert.deepEqual(called, [ARGUMENTS]);
  });

  each(`responses, tool round trip, ${stream ? 'stream' : 'JSON'}: {}`, WITH_TOOLS, async (agent) => {
    const tools = [{ type: 'function', name: 'get_weather', description: 'The weather of a city', parameters: WEATHER, strict: true }];
    const ask = async (input) => {
      const asked = { model: agent, input, tools, store: false };
      return stream ? client.responses.stream(asked).finalResponse() : client.responses.create(asked);
    };
    const first = await ask(user(QUESTION));
    const calls = first.output.filter((o) => o.type === 'function_call');
    assert.equal(calls.length, 1);
    assert.equal(calls[0].name, 'get_weather');
    assert.deepEqual(JSON.parse(calls[0].arguments), ARGUMENTS);
    const output = first.output.map(({ parsed_arguments, ...o }) => o);
    const second = await ask([
      ...user(QUESTION), ...output,
      { type: 'function_call_output', call_id: calls[0].call_id, output: JSON.stringify(RESULT) },
    ]);
    assert.equal(second.output.filter((o) => o.type === 'function_call').length, 0);
    answered(agent, second.output_text);
  });
}

each('chat, stream that fails in its middle: {}', FAILING, async (agent) => {
  const { prompt, goOn } = failing(agent);
  let text = '';
  const e = await failure(async () => {
    for await (const c of await client.chat.completions.create({ model: agent, messages: user(prompt), stream: true })) {
      assert.equal(c.choices[0].finish_reason, null);
      text += c.choices[0].delta.content ?? '';
      if (text === BEFORE) await goOn();
    }
  });
  assert.ok(e instanceof OpenAI.APIError && e.status === undefined, String(e));
  assert.ok(!String(e.message).includes('secret'));
  assert.equal(text, BEFORE);
});

each('chat, stream helper over an agent that fails: {}', FAILING, async (agent) => {
  const e = await failure(() => client.chat.completions.stream({ model: agent, messages: user('fail, please') }).finalChatCompletion());
  assert.ok(e instanceof OpenAI.OpenAIError, String(e));
  assert.ok(!/missing finish_reason|missing role/.test(e.message), e.message);
});

each('responses, stream that fails in its middle: {}', FAILING, async (agent) => {
  const { prompt, goOn } = failing(agent);
  let text = '';
  const e = await failure(async () => {
    for await (const c of await client.responses.create({ model: agent, input: prompt, stream: true })) {
      assert.notEqual(c.type, 'response.completed');
      if (c.type === 'response.output_text.delta') text += c.delta;
      if (text === BEFORE) await goOn();
    }
  });
  assert.ok(e instanceof OpenAI.APIError && e.status === undefined, String(e));
  assert.equal(text, BEFORE);
});

each('responses, stream helper over an agent that fails: {}', FAILING, async (agent) => {
  const e = await failure(() => client.responses.stream({ model: agent, input: 'fail, please' }).finalResponse());
  assert.ok(e instanceof OpenAI.APIError, String(e));
});

each('JSON of an agent that fails is a 502: {}', [...FAILING, 'ticos', 'cognipeer'], async (agent) => {
  for (const ask of [
    () => client.chat.completions.create({ model: agent, messages: user('fail, please') }),
    () => client.responses.create({ model: agent, input: 'fail, please' }),
  ]) {
    const e = await failure(ask);
    assert.ok(e instanceof OpenAI.InternalServerError, String(e));
    assert.equal(e.status, 502);
    assert.equal(e.type, 'server_error');
    assert.ok(e.requestID);
    assert.ok(!e.message.includes('secret'), e.message);
  }
});

test('an agent that has run is not run again', async () => {
  for (const ask of [
    (prompt) => client.chat.completions.create({ model: 'cycls-broken', messages: user(prompt) }, { maxRetries: 2 }),
    (prompt) => client.responses.create({ model: 'cycls-broken', input: prompt }, { maxRetries: 2 }),
  ]) {
    const prompt = `count ${fresh()}`;
    await failure(() => ask(prompt));
    assert.equal(await runs(prompt), 1);
  }
});

test('an unknown model, a dead agent, a refusal, a field that cannot be', async () => {
  let e = await failure(() => client.chat.completions.create({ model: 'nobody', messages: user(PROMPT), stream: true }));
  assert.ok(e instanceof OpenAI.NotFoundError && e.code === 'model_not_found' && e.message.includes('cycls-real'), String(e));
  e = await failure(() => client.responses.create({ model: 'nobody', input: PROMPT }));
  assert.ok(e instanceof OpenAI.NotFoundError && e.code === 'model_not_found', String(e));
  e = await failure(() => client.chat.completions.create({ model: 'dead', messages: user(PROMPT) }));
  assert.equal(e.status, 502);
  e = await failure(() => client.responses.create({ model: 'dead', input: PROMPT, stream: true }));
  assert.equal(e.status, 502);
  for (const agent of ['chat', 'responses', 'swarms', 'cycls']) {
    e = await failure(() => client.chat.completions.create({ model: agent, messages: user('refuse') }));
    assert.ok(e instanceof OpenAI.RateLimitError && e.headers.get('retry-after') === '7', String(e));
  }
  e = await failure(() => client.chat.completions.create({ model: 'cycls-real', messages: user(PROMPT), n: 2 }));
  assert.ok(e instanceof OpenAI.BadRequestError && e.param === 'n', String(e));
});

test('models.list() names every agent', async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.deepEqual(ids.sort(), NAMES);
});

test('a request id of the client\'s own comes back', async () => {
  const name = fresh();
  const { request_id } = await client.chat.completions
    .create({ model: 'cycls-real', messages: user(PROMPT) }, { headers: { 'X-Request-Id': name } }).withResponse();
  assert.equal(request_id, name);
});

test('chat: the first words come before the agent has ended', async () => {
  const name = fresh();
  let text = '';
  for await (const c of await client.chat.completions.create({ model: 'cycls-real', messages: user(`gate ${name}`), stream: true })) {
    text += c.choices[0].delta.content ?? '';
    if (text === 'first ') await release(name);
  }
  assert.equal(text, 'first second');
});

test('responses: the first words come before the agent has ended', async () => {
  const name = fresh();
  const stream = client.responses.stream({ model: 'cycls-real', input: `gate ${name}` });
  let text = '';
  for await (const e of stream) {
    if (e.type !== 'response.output_text.delta') continue;
    text += e.delta;
    if (text === 'first ') await release(name);
  }
  assert.equal(text, 'first second');
  assert.equal((await stream.finalResponse()).output_text, 'first second');
});

test('a client that leaves ends the agent', async () => {
  const name = fresh();
  const stream = await client.chat.completions.create({ model: 'cycls-real', messages: user(`hold ${name}`), stream: true });
  for await (const c of stream) {
    if (c.choices[0].delta.content) break; // which aborts
  }
  await closed(name);
  const other = fresh();
  const responses = client.responses.stream({ model: 'cycls-real', input: `hold ${other}` });
  responses.on('response.output_text.delta', () => responses.abort());
  const e = await failure(() => responses.finalResponse());
  assert.ok(e instanceof OpenAI.APIUserAbortError, String(e));
  await closed(other);
});

await import('./openai-helpers.mjs');
await main('openai-node');
