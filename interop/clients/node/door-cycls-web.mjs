// The vendor's web client of Cycls (.149) at a door that checks keys and counts: how it asks for an answer, as its
// code has it. It shows 409 only; whatever else is not a 200 it tries once more, a second later.

import { Attempts, CEILING, DOOR, STRANGERS, WORDS, keysOf } from './door-harness.mjs';
import { assert, each, failure, test } from './harness.mjs';

const keys = keysOf('cycls-web');
const NAME = 'cycls-web';

// ask asks an agent, with the keys that getToken gives: at first one that may be old, then a fresh one.
async function ask(base, getToken, attempts) {
  const send = async (fresh) => attempts.fetch(`${base}/chat`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${await getToken(fresh)}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ messages: [{ role: 'user', content: WORDS, parts: [{ type: 'text', text: WORDS }] }], detach: true }),
  });
  const once = async () => {
    let r = await send(false);
    if (r.status === 401) r = await send(true);
    if (!r.ok) {
      const told = await r.json();
      throw Object.assign(new Error(r.status === 409 ? told.detail : `HTTP ${r.status}`), { status: r.status, told });
    }
    let text = '';
    for (const line of (await r.text()).split('\n')) {
      if (!line.startsWith('data: ') || line === 'data: [DONE]') continue;
      const item = JSON.parse(line.slice(6));
      if (item.type === 'text') text += item.text;
    }
    return text;
  };
  try {
    return await once();
  } catch (e) {
    if (e.status === 409) throw e;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return once();
  }
}

const ANSWER = `You said: ${WORDS}`;
const CHAT = `${DOOR}/agents/scripted-chat`;
const always = (key) => async () => key;

each(`${NAME}: an old key is told by 401, and a fresh one does: {}`, STRANGERS.slice(1), async (kind) => {
  const attempts = new Attempts();
  assert.equal(await ask(CHAT, async (fresh) => (fresh ? keys.of('all') : keys.bad(kind)), attempts), ANSWER);
  assert.deepEqual(attempts.statuses, [401, 200]);
});

test(`${NAME}: without a good key all it ever hears is 401`, async () => {
  const attempts = new Attempts();
  const e = await failure(() => ask(CHAT, always(keys.bad('unknown')), attempts));
  assert.deepEqual(attempts.statuses, [401, 401, 401, 401]);
  assert.deepEqual(Object.keys(e.told), ['detail']);
  assert.equal(e.told.detail, 'Not authenticated'); // the vendor's own word
});

test(`${NAME}: an agent out of scope is a 404, like one that is missing`, async () => {
  const seen = async (name) => {
    const e = await failure(() => ask(`${DOOR}/agents/${name}`, always(keys.of('scoped')), new Attempts()));
    assert.equal(e.status, 404);
    return JSON.stringify(e.told).replaceAll(name, 'AGENT');
  };
  assert.equal(await seen('swarms'), await seen('nobody'));
});

test(`${NAME}: over the limit its second attempt is answered, if it was told to wait for a second at most`, async () => {
  const attempts = new Attempts(), key = keys.fresh('brisk');
  for (let i = 0; attempts.all.length < 2; i++) {
    assert.ok(i < 50, 'no attempt was refused');
    attempts.all.length = 0;
    assert.equal(await ask(CHAT, always(key), attempts), ANSWER);
  }
  assert.deepEqual(attempts.statuses, [429, 200]);
  attempts.told();
});

test(`${NAME}: over a limit of long it fails with 429, after a second attempt`, async () => {
  const key = keys.fresh('few');
  for (let i = 0; i < 2; i++) await ask(CHAT, always(key), new Attempts());
  const attempts = new Attempts();
  const e = await failure(() => ask(CHAT, always(key), attempts));
  assert.deepEqual([e.status, attempts.statuses], [429, [429, 429]]);
  assert.match(e.told.detail, /2 requests per hour/);
});

test(`${NAME}: the proxy's own ceiling is a 503, and is tried again`, async () => {
  const key = keys.of('all');
  for (let i = 0; i < 50; i++) {
    const attempts = new Attempts();
    await ask(`${CEILING}/agents/scripted-chat`, always(key), attempts).catch((e) => assert.equal(e.status, 503));
    if (String(attempts.statuses) === '503,200') return;
  }
  assert.fail('no attempt was refused, and the next one answered');
});
