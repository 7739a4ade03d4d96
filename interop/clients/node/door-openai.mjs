// OpenAI's client at a door that checks keys and counts.

import OpenAI from 'openai';
import { Attempts, CEILING, DOOR, SCOPE, STRANGERS, WELCOME, WORDS, halfHour, keysOf, left, readAll, untilError, untilRefused } from './door-harness.mjs';
import { PATIENCE, assert, each, failure, fresh, release, test } from './harness.mjs';

const keys = keysOf('openai-node');
const NAME = 'openai-node';

const client = (apiKey, more = {}) => new OpenAI({ baseURL: `${DOOR}/v1`, apiKey, timeout: PATIENCE, ...more });
const user = (content) => [{ role: 'user', content }];
const chat = (c, more) => c.chat.completions.create({ model: 'scripted-chat', messages: user(WORDS), ...more });
const responses = (c, more) => c.responses.create({ model: 'scripted-responses', input: WORDS, ...more });

// All the ways to begin: what is refused is refused here, before any of the answer.
const BEGIN = {
  'chat, JSON': chat,
  'chat, stream': (c, more) => chat(c, { stream: true, ...more }),
  'responses, JSON': responses,
  'responses, stream': (c, more) => responses(c, { stream: true, ...more }),
};
const WAYS = Object.keys(BEGIN);

// ask begins, and reads the answer to its end.
async function ask(way, ...args) {
  const answer = await BEGIN[way](...args);
  if (way.endsWith('stream')) await readAll(answer);
  else assert.ok(answer.id);
}

const stranger = (kind, more) => client(keys.bad(kind), { ...(kind === 'none' && { defaultHeaders: { Authorization: null } }), ...more });
const same = (headers) => [...headers].filter(([k]) => !['date', 'x-request-id', 'content-length'].includes(k));

each(`${NAME}: 401 is an AuthenticationError, never tried again: {}`, STRANGERS.flatMap((k) => WAYS.map((w) => `${k}: ${w}`)), async (cell) => {
  const [kind, way] = cell.split(': ');
  const attempts = new Attempts();
  const e = await failure(() => BEGIN[way](stranger(kind, { fetch: attempts.fetch })));
  assert.ok(e instanceof OpenAI.AuthenticationError, String(e));
  assert.deepEqual(attempts.statuses, [401]);
  assert.deepEqual([e.status, e.type, e.param, e.code], [401, 'authentication_error', null, 'invalid_api_key']);
  assert.match(e.message, WELCOME);
  assert.ok(!/dragoman-interop|sk-short/.test(JSON.stringify(e) + e.message), e.message);
  assert.equal(e.headers.get('www-authenticate'), 'Bearer realm="dragoman"');
  assert.match(e.requestID, /^req_/);
});

test(`${NAME}: 401 is the same whatever is wrong with the key, of lists too`, async () => {
  const seen = async (kind) => {
    const e = await failure(() => chat(stranger(kind)));
    return [e.error, same(e.headers)];
  };
  const want = await seen('none');
  for (const kind of STRANGERS.slice(1)) assert.deepEqual(await seen(kind), want, kind);
  for (const ask of [(c) => c.models.list(), (c) => c.models.retrieve('chat')]) assert.ok((await failure(() => ask(stranger('unknown')))) instanceof OpenAI.AuthenticationError);
});

test(`${NAME}: a key in x-api-key is as good`, async () => {
  await chat(client('unused', { defaultHeaders: { Authorization: null, 'x-api-key': keys.of('all') } }));
  await responses(client(keys.of('all'), { defaultHeaders: { 'x-api-key': keys.of('all') } }));
});

each(`${NAME}: two different keys are a BadRequestError: {}`, WAYS, async (way) => {
  const attempts = new Attempts();
  const e = await failure(() => BEGIN[way](client(keys.of('all'), { fetch: attempts.fetch, defaultHeaders: { 'x-api-key': keys.of('scoped') } })));
  assert.ok(e instanceof OpenAI.BadRequestError, String(e));
  assert.deepEqual(attempts.statuses, [400]);
  assert.match(e.message, /Authorization.*x-api-key/);
});

each(`${NAME}: an agent out of scope is a NotFoundError, like one that is missing: {}`, WAYS, async (way) => {
  const seen = async (model) => {
    const attempts = new Attempts();
    const e = await failure(() => BEGIN[way](client(keys.of('scoped'), { fetch: attempts.fetch }), { model }));
    assert.ok(e instanceof OpenAI.NotFoundError, String(e));
    assert.deepEqual(attempts.statuses, [404]);
    return [e.code, e.param, JSON.stringify(e.error).replaceAll(model, 'AGENT'), e.message.replaceAll(model, 'AGENT'), same(e.headers)];
  };
  const want = await seen('nobody');
  assert.equal(want[0], 'model_not_found');
  assert.ok(!want[3].includes('cycls-real'), want[3]);
  for (const model of ['swarms', 'cycls-real']) assert.deepEqual(await seen(model), want, model);
});

test(`${NAME}: a list of models is what the key may call`, async () => {
  const list = async (c) => (await Array.fromAsync(c.models.list())).map((m) => m.id).sort();
  const c = client(keys.of('scoped'));
  assert.deepEqual(await list(c), SCOPE);
  assert.equal((await c.models.retrieve('chat')).id, 'chat');
  const bodies = await Promise.all(['swarms', 'nobody'].map(async (m) => JSON.stringify((await failure(() => c.models.retrieve(m))).error).replaceAll(m, '?')));
  assert.equal(bodies[0], bodies[1]);
  assert.ok((await list(client(keys.of('all')))).length > SCOPE.length);
});

each(`${NAME}: a limit of requests is a RateLimitError before any of the answer, and what is left stands in every answer: {}`, WAYS, async (way) => {
  const c = client(keys.fresh('few'), { maxRetries: 0 });
  for (const want of [1, 0]) {
    const { data, response } = await BEGIN[way](c).withResponse();
    assert.equal(left((h) => response.headers.get(h)), want);
    if (way.endsWith('stream')) await readAll(data);
  }
  const e = await failure(() => BEGIN[way](c));
  assert.ok(e instanceof OpenAI.RateLimitError, String(e));
  assert.deepEqual([e.status, e.type, e.code], [429, 'rate_limit_error', 'rate_limit_exceeded']);
  halfHour((h) => e.headers.get(h), e.message);
});

// More than a minute it does not heed, and would try again in vain, were it not told not to.
test(`${NAME}: over the limit for half an hour it gives up at once`, async () => {
  const key = keys.fresh('few');
  for (let i = 0; i < 2; i++) await chat(client(key));
  const attempts = new Attempts();
  const e = await failure(() => chat(client(key, { fetch: attempts.fetch })));
  assert.ok(e instanceof OpenAI.RateLimitError, String(e));
  assert.deepEqual(attempts.statuses, [429]);
});

each(`${NAME}: over the limit it waits as long as it was told, and then gets its answer: {}`, WAYS, async (way) => {
  const attempts = new Attempts();
  const c = client(keys.fresh('paced'), { fetch: attempts.fetch });
  await untilRefused(attempts, 429, () => ask(way, c));
  assert.deepEqual(attempts.all.map((a) => a.count).slice(0, 2), ['0', '1']);
});

for (const [face, begin, word] of [['chat', chat, 'max_tokens'], ['responses', responses, 'max_output_tokens']]) {
  test(`${NAME}: a limit of tokens is a RateLimitError, charged with what the agent reports: ${face}`, async () => {
    const c = client(keys.fresh('tokens'), { maxRetries: 0 });
    const remaining = async () => {
      const { headers } = await begin(c, { [word]: 1000 }).asResponse();
      assert.equal(headers.get('x-ratelimit-limit-tokens'), '2000');
      assert.match(headers.get('x-ratelimit-reset-tokens'), /s$/);
      return Number(headers.get('x-ratelimit-remaining-tokens'));
    };
    const first = await remaining(), second = await remaining();
    assert.ok(0 < first && first < 1000 && first - 30 < second && second < first, `${first}, ${second}`);
    // More than the bucket holds is admitted when it is full, and so never now.
    const e = await failure(() => begin(c, { [word]: 5000 }));
    assert.ok(e instanceof OpenAI.RateLimitError, String(e));
    assert.match(e.message, /2000 tokens per hour/);
    assert.ok(Number(e.headers.get('retry-after')) > 0);
  });
}

each(`${NAME}: of streams at the same time one waits for its turn, and the next is a RateLimitError: {}`, ['chat, stream', 'responses, stream'], async (way) => {
  const c = client(keys.fresh('single'), { maxRetries: 0 });
  const name = fresh();
  const running = (await chat(c, { model: 'cycls-real', messages: user(`gate ${name}`), stream: true }))[Symbol.asyncIterator]();
  await running.next();
  const others = [1, 2].map(() => ask(way, c));
  // There is one place in line, so that one of the two is refused, and the other is known to wait.
  const e = await failure(() => Promise.race(others));
  assert.ok(e instanceof OpenAI.RateLimitError, String(e));
  assert.match(e.message, /at the same time/);
  assert.ok(Number(e.headers.get('retry-after')) >= 1);
  await release(name);
  while (!(await running.next()).done);
  assert.deepEqual((await Promise.allSettled(others)).map((r) => r.status).sort(), ['fulfilled', 'rejected']);
  await chat(c);
});

test(`${NAME}: over the limit of concurrency it waits as long as it was told, and then gets its answer`, async () => {
  const key = keys.fresh('single'), name = fresh();
  const running = (await chat(client(key), { model: 'cycls-real', messages: user(`gate ${name}`), stream: true }))[Symbol.asyncIterator]();
  await running.next();
  let refuse;
  const refused = new Promise((resolve) => { refuse = resolve; });
  const seen = [1, 2].map(() => new Attempts((r) => r.status === 429 && refuse()));
  const others = seen.map((a) => chat(client(key, { fetch: a.fetch, maxRetries: 100 })));
  await refused;
  await release(name);
  while (!(await running.next()).done);
  await Promise.all(others);
  for (const a of seen) a.told();
});

each(`${NAME}: the proxy's own ceiling is a 503, and is tried again after the wait that it told: {}`, ['chat, JSON', 'responses, stream'], async (way) => {
  const attempts = new Attempts();
  await untilRefused(attempts, 503, () => ask(way, client(keys.of('all'), { baseURL: `${CEILING}/v1`, fetch: attempts.fetch, maxRetries: 100 })));
  const e = await untilError(() => BEGIN[way](client(keys.of('all'), { baseURL: `${CEILING}/v1`, maxRetries: 0 })));
  assert.ok(e instanceof OpenAI.InternalServerError, String(e));
  assert.deepEqual([e.status, e.code], [503, 'overloaded']);
  assert.match(e.message, /5 requests per second/);
  assert.ok(Number(e.headers.get('retry-after')) >= 1);
});
