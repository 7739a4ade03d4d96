// The AI SDK at a door that checks keys and counts, over both of its APIs.

import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, RetryError, generateText, streamText } from 'ai';
import { Attempts, CEILING, DOOR, STRANGERS, WELCOME, WORDS, halfHour, keysOf, left, untilError, untilRefused } from './door-harness.mjs';
import { assert, each, failure, test } from './harness.mjs';

const keys = keysOf('ai-sdk');
const NAME = 'ai-sdk';
const CELLS = ['chat', 'responses'].flatMap((face) => [`${face}, generateText`, `${face}, streamText`]);

// ask asks, with the retries that the SDK has by default, and returns the headers of the answer.
async function ask(cell, apiKey, { base = DOOR, model, maxRetries, ...more } = {}) {
  const [face, how] = cell.split(', ');
  const openai = createOpenAI({ baseURL: `${base}/v1`, apiKey, ...more });
  const settings = { model: openai[face](model ?? `scripted-${face}`), prompt: WORDS, maxRetries, providerOptions: { openai: { store: false } } };
  if (how === 'generateText') {
    const result = await generateText(settings);
    assert.equal(result.text, `You said: ${WORDS}`);
    return result.response.headers;
  }
  const result = streamText({ ...settings, onError() {} });
  let text = '';
  for await (const part of result.fullStream) {
    if (part.type === 'error') {
      assert.equal(text, '', 'words before the error');
      throw part.error;
    }
    if (part.type === 'text-delta') text += part.text;
  }
  assert.equal(text, `You said: ${WORDS}`);
  return (await result.response).headers;
}

function called(e, status, retryable) {
  assert.ok(APICallError.isInstance(e), String(e));
  assert.deepEqual([e.statusCode, e.isRetryable], [status, retryable], e.message);
  assert.ok(!/dragoman-interop/.test(e.responseBody + e.message), e.message);
  return (h) => e.responseHeaders[h];
}

each(`${NAME}: 401 is an APICallError, never tried again: {}`, CELLS, async (cell) => {
  for (const kind of STRANGERS) {
    const attempts = new Attempts();
    const e = await failure(() => ask(cell, keys.bad(kind), { fetch: attempts.fetch, ...(kind === 'none' && { headers: { Authorization: undefined } }) }));
    const get = called(e, 401, false);
    assert.deepEqual(attempts.statuses, [401], kind);
    assert.match(e.message, WELCOME);
    assert.equal(e.data.error.code, 'invalid_api_key');
    assert.equal(get('www-authenticate'), 'Bearer realm="dragoman"');
  }
});

test(`${NAME}: a key in x-api-key is as good`, async () => {
  for (const cell of CELLS) await ask(cell, 'unused', { headers: { Authorization: undefined, 'x-api-key': keys.of('all') } });
});

each(`${NAME}: two different keys are a 400: {}`, CELLS, async (cell) => {
  const attempts = new Attempts();
  const e = await failure(() => ask(cell, keys.of('all'), { fetch: attempts.fetch, headers: { 'x-api-key': keys.of('scoped') } }));
  called(e, 400, false);
  assert.deepEqual(attempts.statuses, [400]);
});

each(`${NAME}: an agent out of scope is a 404, like one that is missing: {}`, CELLS, async (cell) => {
  const seen = async (model) => {
    const attempts = new Attempts();
    const e = await failure(() => ask(cell, keys.of('scoped'), { model, fetch: attempts.fetch }));
    called(e, 404, false);
    assert.deepEqual(attempts.statuses, [404]);
    return [e.responseBody.replaceAll(model, 'AGENT'), e.message.replaceAll(model, 'AGENT')];
  };
  assert.deepEqual(await seen('swarms'), await seen('nobody'));
});

each(`${NAME}: a limit of requests is an APICallError that may be tried again, and what is left stands in every answer: {}`, CELLS, async (cell) => {
  const key = keys.fresh('few');
  for (const want of [1, 0]) {
    const headers = await ask(cell, key, { maxRetries: 0 });
    assert.equal(left((h) => headers[h]), want);
  }
  const e = await failure(() => ask(cell, key, { maxRetries: 0 }));
  halfHour(called(e, 429, true), e.message);
  assert.equal(e.data.error.type, 'rate_limit_error');
});

each(`${NAME}: over the limit it waits as long as it was told, and then gets its answer: {}`, CELLS, async (cell) => {
  const attempts = new Attempts(), key = keys.fresh('paced');
  await untilRefused(attempts, 429, () => ask(cell, key, { fetch: attempts.fetch }));
});

// More than a minute it does not heed: it tries again in vain, by its own backoff.
test(`${NAME}: over the limit for half an hour it gives up after all its attempts`, async () => {
  const key = keys.fresh('few');
  for (let i = 0; i < 2; i++) await ask('chat, generateText', key);
  const attempts = new Attempts();
  const e = await failure(() => ask('chat, generateText', key, { fetch: attempts.fetch, maxRetries: 1 }));
  assert.ok(RetryError.isInstance(e), String(e));
  assert.deepEqual(attempts.statuses, [429, 429]);
  halfHour(called(e.lastError, 429, true), e.lastError.message);
});

test(`${NAME}: a limit of an agent is an error that names it`, async () => {
  const e = await untilError(() => ask('chat, generateText', keys.of('all'), { model: 'rationed', maxRetries: 0 }));
  called(e, 429, true);
  assert.match(e.message, /"rationed".*1 request/);
});

each(`${NAME}: the proxy's own ceiling is a 503, and is tried again after the wait that it told: {}`, ['chat, generateText', 'responses, streamText'], async (cell) => {
  const attempts = new Attempts();
  await untilRefused(attempts, 503, () => ask(cell, keys.of('all'), { base: CEILING, fetch: attempts.fetch, maxRetries: 100 }));
  const e = await untilError(() => ask(cell, keys.of('all'), { base: CEILING, maxRetries: 0 }));
  called(e, 503, true);
  assert.match(e.message, /5 requests per second/);
});
