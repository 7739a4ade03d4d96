// LangChain's model for OpenAI at a door that checks keys and counts, over both APIs.

import { ChatOpenAI } from '@langchain/openai';
import { Attempts, CEILING, DOOR, STRANGERS, WELCOME, WORDS, halfHour, keysOf, untilError, untilRefused } from './door-harness.mjs';
import { PATIENCE, assert, each, failure, test } from './harness.mjs';

const keys = keysOf('langchain');
const NAME = 'langchain';
const CELLS = ['chat', 'responses'].flatMap((face) => [`${face}, invoke`, `${face}, stream`]);

async function ask(cell, apiKey, { base = DOOR, model, maxRetries, ...more } = {}) {
  const [face, how] = cell.split(', ');
  const m = new ChatOpenAI({
    model: model ?? `scripted-${face}`, apiKey, useResponsesApi: face === 'responses', timeout: PATIENCE, maxRetries,
    configuration: { baseURL: `${base}/v1`, ...more },
  });
  let text = '';
  if (how === 'invoke') text = (await m.invoke(WORDS)).text;
  else for await (const c of await m.stream(WORDS)) text += c.text;
  assert.equal(text, `You said: ${WORDS}`);
}

each(`${NAME}: 401 is MODEL_AUTHENTICATION, never tried again: {}`, CELLS, async (cell) => {
  for (const kind of STRANGERS) {
    const attempts = new Attempts();
    const e = await failure(() => ask(cell, keys.bad(kind), { fetch: attempts.fetch, ...(kind === 'none' && { defaultHeaders: { Authorization: null } }) }));
    assert.deepEqual(attempts.statuses, [401], kind);
    assert.deepEqual([e.status, e.code, e.lc_error_code], [401, 'invalid_api_key', 'MODEL_AUTHENTICATION'], String(e));
    assert.match(e.message, WELCOME);
  }
});

each(`${NAME}: two different keys are a 400: {}`, CELLS, async (cell) => {
  const e = await failure(() => ask(cell, keys.of('all'), { defaultHeaders: { 'x-api-key': keys.of('scoped') } }));
  assert.equal(e.status, 400, String(e));
});

each(`${NAME}: an agent out of scope is MODEL_NOT_FOUND, like one that is missing: {}`, CELLS, async (cell) => {
  const seen = async (model) => {
    const attempts = new Attempts();
    const e = await failure(() => ask(cell, keys.of('scoped'), { model, fetch: attempts.fetch }));
    assert.deepEqual(attempts.statuses, [404]);
    assert.deepEqual([e.status, e.lc_error_code], [404, 'MODEL_NOT_FOUND'], String(e));
    return e.message.replaceAll(model, 'AGENT');
  };
  assert.equal(await seen('swarms'), await seen('nobody'));
});

each(`${NAME}: a limit of requests is MODEL_RATE_LIMIT, and a wait of half an hour is not tried again: {}`, CELLS, async (cell) => {
  const key = keys.fresh('few');
  for (let i = 0; i < 2; i++) await ask(cell, key);
  const attempts = new Attempts();
  const e = await failure(() => ask(cell, key, { fetch: attempts.fetch }));
  assert.deepEqual([e.status, e.lc_error_code], [429, 'MODEL_RATE_LIMIT'], String(e));
  halfHour((h) => e.headers.get(h), e.message);
  assert.deepEqual([e.name, e.retryAfterMs / 1000, attempts.statuses], ['RateLimitCapacityError', Number(e.headers.get('retry-after')), [429]]);
});

each(`${NAME}: over the limit it waits as long as it was told, and then gets its answer: {}`, CELLS, async (cell) => {
  const attempts = new Attempts(), key = keys.fresh('paced');
  await untilRefused(attempts, 429, () => ask(cell, key, { fetch: attempts.fetch }));
});

// It waits by its own count here, a second and more at first: what a 503 tells of the wait it does not read.
test(`${NAME}: the proxy's own ceiling is a 503, and is tried again`, async () => {
  const attempts = new Attempts();
  await untilRefused(attempts, 503, () => ask('chat, invoke', keys.of('all'), { base: CEILING, fetch: attempts.fetch }));
  const e = await untilError(() => ask('responses, invoke', keys.of('all'), { base: CEILING, maxRetries: 0 }));
  assert.equal(e.status, 503, String(e));
});
