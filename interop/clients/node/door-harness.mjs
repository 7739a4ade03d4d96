// What clients at a door that checks keys and counts have in common: keys, and a record of their attempts.

import { assert } from './harness.mjs';

export const DOOR = process.env.DOOR_URL;
export const CEILING = process.env.CEILING_URL;

export const WELCOME = /A valid key is needed.*Authorization: Bearer KEY.*x-api-key: KEY/;
export const STRANGERS = ['none', 'unknown', 'short', 'expired', 'disabled'];
// The agents of door/config.yaml that a scoped key may call.
export const SCOPE = ['chat', 'scripted-chat', 'scripted-responses'];
export const WORDS = 'hello';

// A timer of Node.js may fire up to a millisecond early, by the clock that it is not made of.
const EARLY = 2;

// keysOf are those of one client; see door/keys.py.
export function keysOf(client) {
  const used = {};
  const of = (kind) => `dragoman-interop-${client}-${kind}`;
  return {
    of,
    // fresh is one that counts, and that no other test uses.
    fresh: (kind) => of(`${kind}-${(used[kind] = (used[kind] ?? 0) + 1)}`),
    bad: (kind) => ({ unknown: of('nobody'), short: 'sk-short' })[kind] ?? of(kind),
  };
}

// Attempts is what a client sent and got back: when, which status, and how long it was told to wait. Its fetch is
// for the client.
export class Attempts {
  all = [];

  constructor(heard = () => {}) {
    this.fetch = async (url, init) => {
      const a = { sent: performance.now(), count: new Headers(init?.headers ?? url.headers).get('x-stainless-retry-count') };
      this.all.push(a);
      const r = await fetch(url, init);
      Object.assign(a, { received: performance.now(), status: r.status, ms: Number(r.headers.get('retry-after-ms')), s: Number(r.headers.get('retry-after')) });
      heard(r);
      return r;
    };
  }

  get statuses() {
    return this.all.map((a) => a.status);
  }

  // told checks that none came before the time that the one before it was told.
  told() {
    for (const [i, two] of this.all.slice(1).entries()) {
      const one = this.all[i];
      assert.ok(0 < one.ms && one.ms <= 1000 * one.s, JSON.stringify(one));
      const waited = two.sent - one.received;
      assert.ok(waited >= one.ms - EARLY, `told ${one.ms} ms, waited ${waited}`);
    }
  }
}

// untilRefused asks until one of the attempts at an answer was refused, which must not be the last.
export async function untilRefused(attempts, status, ask) {
  for (let i = 0; i < 50; i++) {
    attempts.all.length = 0;
    await ask();
    assert.equal(attempts.statuses.at(-1), 200);
    if (attempts.all.length > 1) {
      assert.deepEqual([...new Set(attempts.statuses.slice(0, -1))], [status]);
      attempts.told();
      return;
    }
  }
  assert.fail('no attempt was refused');
}

// untilError asks until that fails, and returns how.
export async function untilError(ask) {
  for (let i = 0; i < 50; i++) {
    try {
      await ask();
    } catch (e) {
      return e;
    }
  }
  assert.fail('it never failed');
}

// left checks what an answer tells of a key that may ask twice an hour, and returns what remains.
export function left(get) {
  assert.equal(get('x-ratelimit-limit-requests'), '2');
  assert.match(get('x-ratelimit-reset-requests'), /s$/);
  assert.ok(get('ratelimit') && get('ratelimit-policy'));
  return Number(get('x-ratelimit-remaining-requests'));
}

// halfHour checks what a refused one is told: to wait for the next of two an hour, a little of which has passed.
export function halfHour(get, message) {
  assert.equal(left(get), 0);
  const s = Number(get('retry-after')), ms = Number(get('retry-after-ms'));
  assert.ok(1000 < s && s <= 1800 && 1000 * (s - 1) < ms && ms <= 1000 * s, `${s} s, ${ms} ms`);
  assert.ok(message.includes('2 requests per hour') && message.includes(String(s)), message);
}

// readAll reads a stream to its end, and returns how many parts it had.
export async function readAll(stream) {
  let n = 0;
  for await (const _ of stream) n++;
  assert.ok(n > 0, 'an empty stream');
  return n;
}
