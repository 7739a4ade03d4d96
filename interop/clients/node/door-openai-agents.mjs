// The Agents SDK of OpenAI at a door that checks keys and counts: over both APIs, by the retries of its client and by
// its own.

import { Agent, Runner, retryPolicies, setTracingDisabled } from '@openai/agents';
import { OpenAIChatCompletionsModel, OpenAIResponsesModel } from '@openai/agents-openai';
import OpenAI from 'openai';
import { Attempts, CEILING, DOOR, STRANGERS, WELCOME, WORDS, halfHour, keysOf, untilError, untilRefused } from './door-harness.mjs';
import { PATIENCE, assert, each, failure } from './harness.mjs';

setTracingDisabled(true);
const keys = keysOf('openai-agents');
const NAME = 'openai-agents';
const runner = new Runner({ tracingDisabled: true });
const MODELS = { chat: OpenAIChatCompletionsModel, responses: OpenAIResponsesModel };
const CELLS = Object.keys(MODELS).flatMap((face) => [`${face}, JSON`, `${face}, stream`]);

async function run(cell, key, { base = DOOR, model, modelSettings, ...more } = {}) {
  const [face, mode] = cell.split(', ');
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, timeout: PATIENCE, ...more });
  const agent = new Agent({ name: 'Interop', model: new MODELS[face](client, model ?? `scripted-${face}`), modelSettings });
  const result = await runner.run(agent, WORDS, { stream: mode === 'stream' });
  if (mode === 'stream') {
    for await (const _ of result);
    await result.completed;
  }
  assert.equal(result.finalOutput, `You said: ${WORDS}`);
}

each(`${NAME}: 401 is an AuthenticationError, never tried again: {}`, CELLS, async (cell) => {
  for (const kind of STRANGERS) {
    const attempts = new Attempts();
    const e = await failure(() => run(cell, keys.bad(kind), { fetch: attempts.fetch, ...(kind === 'none' && { defaultHeaders: { Authorization: null } }) }));
    assert.ok(e instanceof OpenAI.AuthenticationError, String(e));
    assert.deepEqual(attempts.statuses, [401]);
    assert.match(e.message, WELCOME);
  }
});

each(`${NAME}: an agent out of scope is a NotFoundError, like one that is missing: {}`, CELLS, async (cell) => {
  const seen = async (model) => {
    const e = await failure(() => run(cell, keys.of('scoped'), { model }));
    assert.ok(e instanceof OpenAI.NotFoundError, String(e));
    return [e.code, e.message.replaceAll(model, 'AGENT')];
  };
  assert.deepEqual(await seen('swarms'), await seen('nobody'));
});

each(`${NAME}: two different keys are a BadRequestError: {}`, CELLS, async (cell) => {
  const e = await failure(() => run(cell, keys.of('all'), { defaultHeaders: { 'x-api-key': keys.of('scoped') } }));
  assert.ok(e instanceof OpenAI.BadRequestError, String(e));
});

each(`${NAME}: a limit of requests is a RateLimitError: {}`, CELLS, async (cell) => {
  const key = keys.fresh('few');
  for (let i = 0; i < 2; i++) await run(cell, key, { maxRetries: 0 });
  const e = await failure(() => run(cell, key, { maxRetries: 0 }));
  assert.ok(e instanceof OpenAI.RateLimitError, String(e));
  halfHour((h) => e.headers.get(h), e.message);
});

each(`${NAME}: over the limit its client waits as long as it was told, and it gets its answer: {}`, CELLS, async (cell) => {
  const attempts = new Attempts(), key = keys.fresh('paced');
  await untilRefused(attempts, 429, () => run(cell, key, { fetch: attempts.fetch }));
});

for (const policy of ['providerSuggested', 'retryAfter']) {
  each(`${NAME}: over the limit it waits by itself as long as it was told, and gets its answer: ${policy}, {}`, CELLS, async (cell) => {
    const attempts = new Attempts(), key = keys.fresh('paced');
    const modelSettings = { retry: { maxRetries: 2, policy: retryPolicies[policy]() } };
    await untilRefused(attempts, 429, () => run(cell, key, { fetch: attempts.fetch, maxRetries: 0, modelSettings }));
  });
}

each(`${NAME}: the proxy's own ceiling is a 503, and is tried again after the wait that it told: {}`, ['chat, JSON', 'responses, stream'], async (cell) => {
  const attempts = new Attempts();
  await untilRefused(attempts, 503, () => run(cell, keys.of('all'), { base: CEILING, fetch: attempts.fetch, maxRetries: 100 }));
  const e = await untilError(() => run(cell, keys.of('all'), { base: CEILING, maxRetries: 0 }));
  assert.ok(e instanceof OpenAI.InternalServerError && e.status === 503, String(e));
});
