// Runs the tests of one client and prints a line for each, as
// clients/python/harness.py does.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

export const PROXY = process.env.DRAGOMAN_URL;
const REAL = process.env.CYCLS_REAL_URL;
const BROKEN = process.env.CYCLS_BROKEN_URL;

const expected = JSON.parse(readFileSync(new URL('../expected.json', import.meta.url)));
export const PROMPT = expected.prompt;
export const AGENTS = expected.agents;

// All that the proxy has in front of it.
export const NAMES = [...readFileSync(new URL('../../config.yaml', import.meta.url), 'utf8').matchAll(/^  - name: (\S+)$/gm)].map((m) => m[1]).sort();

// What takes longer hangs, and that is a failure.
export const PATIENCE = 60_000;

const tests = [];

export function test(name, fn) {
  tests.push({ name, fn });
}

// each registers a test for each name, which it gets as its argument.
export function each(template, names, fn) {
  for (const n of names) test(template.replace('{}', n), () => fn(n));
}

export { assert };

// failure is the error that fn rejects with.
export async function failure(fn) {
  let result;
  try {
    result = await fn();
  } catch (e) {
    return e;
  }
  assert.fail(`no error, but ${JSON.stringify(result)}`);
}

// fresh is a name that no other test uses.
export const fresh = () => randomUUID();

export async function release(name) {
  const r = await fetch(`${REAL}/interop/release/${name}`, { method: 'POST' });
  assert.equal(r.status, 200);
}

// closed waits until the agent that holds under this name was cancelled.
export async function closed(name) {
  const r = await fetch(`${REAL}/interop/closed/${name}`, { signal: AbortSignal.timeout(PATIENCE) });
  assert.equal(r.status, 200);
}

// runs is how often the broken agent was run with a prompt.
export async function runs(prompt) {
  const r = await fetch(`${BROKEN}/interop/runs?prompt=${encodeURIComponent(prompt)}`);
  return (await r.json()).runs;
}

export const BEFORE = 'I will try, but ';
export const FAILING = ['cycls-broken', 'chat', 'responses', 'swarms', 'cycls'];

// failing is a prompt at which an agent fails, and what to do when its words
// were read.
export function failing(agent) {
  if (agent !== 'cycls-broken') return { prompt: 'fail, please', goOn: async () => {} };
  const name = fresh();
  return { prompt: `gate ${name}`, goOn: () => release(name) };
}

export const QUESTION = 'What is the weather in Paris?';
export const RESULT = { result: 4711, sky: 'clear' };
export const ARGUMENTS = { city: 'Paris', unit: 'celsius' };
export const WITH_TOOLS = ['chat', 'responses', 'swarms'];
export const WEATHER = {
  type: 'object',
  properties: { city: { type: 'string' }, unit: { type: 'string' } },
  required: ['city', 'unit'],
  additionalProperties: false,
};

// answered checks what an agent said of the tool's result.
export function answered(agent, text) {
  if (agent === 'swarms') assert.ok(text.includes('4711'), text); // which has no place for a result but the task
  else assert.equal(text, `The tool says: ${JSON.stringify(RESULT)}`);
}

async function attempt(client, { name, fn }) {
  let timer;
  try {
    await Promise.race([
      fn(),
      new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error('it hangs')), PATIENCE);
      }),
    ]);
  } catch (e) {
    return `FAIL ${client}: ${name}\n     ${String(e?.stack ?? e).replaceAll('\n', '\n     ')}`;
  } finally {
    clearTimeout(timer);
  }
  return `ok   ${client}: ${name}`;
}

export async function main(client) {
  // An error that nobody waits for belongs to the test that made it, but kills all of them.
  process.on('unhandledRejection', (e) => {
    console.log(`FAIL ${client}: an error that no one was told\n     ${e?.stack ?? e}`);
    process.exitCode = 1;
  });
  console.log(`plan ${tests.length}`);
  const waiting = [...tests];
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let t = waiting.shift(); t; t = waiting.shift()) {
        const line = await attempt(client, t);
        if (line.startsWith('FAIL')) process.exitCode = 1;
        console.log(line);
      }
    }),
  );
  process.exit();
}
