// Whether the official Node.js client, whose stream helpers are the strictest,
// can put together every stream that the faces write: the golden outputs of
// translate/testdata, as clients/python/types_check.py reads them. No network.

import OpenAI from 'openai';
import { ChatCompletionStream } from 'openai/lib/ChatCompletionStream';
import { ResponseStream } from 'openai/lib/responses/ResponseStream';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { assert, each, main } from './harness.mjs';

const TESTDATA = new URL('../../../translate/testdata/', import.meta.url);
const PROTOCOLS = ['chat', 'responses', 'cognipeer', 'ticos', 'swarms', 'cycls'];

// golden is what one face wrote for one case.
function golden(dir, face, mode) {
  const name = `${dir}/face.${face}.${mode}`;
  let body = readFileSync(new URL(name, TESTDATA), 'utf8');
  let status = 200;
  const m = /^HTTP (\d+)\n/.exec(body);
  if (m) {
    status = Number(m[1]);
    body = body.slice(m[0].length);
  }
  // What passes through is the backend's own.
  const passed = dir.startsWith(`${face}/`) && status === 200 && existsSync(new URL(`${dir}/backend.${mode}`, TESTDATA));
  let error; // what it tells, in a body or in a frame of its own
  if (passed) error = undefined;
  else if (status !== 200) ({ error } = JSON.parse(body));
  else if (mode === 'sse') {
    for (const line of body.split('\n')) {
      if (line.startsWith('data: {')) error ??= JSON.parse(line.slice(6)).error;
    }
  }
  return { name, body, status, error, passed };
}

// client reads one golden output, whatever it asks.
const client = (g) => new OpenAI({
  baseURL: 'http://golden/v1', apiKey: 'none', maxRetries: 0,
  fetch: async () => new Response(g.body, { status: g.status, headers: { 'content-type': g.status === 200 ? 'text/event-stream' : 'application/json' } }),
});

// told is what the items of a Response say, without their ids.
const told = (output) => output.map((item) => {
  switch (item.type) {
    case 'message': return [item.type, item.content.map((c) => [c.type, c.text ?? c.refusal, c.annotations ?? []]), item.status];
    case 'reasoning': return [item.type, item.summary.map((s) => s.text)];
    case 'function_call': return [item.type, item.call_id, item.name, item.arguments];
    case 'custom_tool_call': return [item.type, item.call_id, item.name, item.input];
    default: return [item.type];
  }
});

// message is what a message says. Of reasoning_content the helper keeps the last piece only: it does not know it.
const message = (m) => ({
  role: m.role, content: m.content ?? '', refusal: m.refusal ?? null, annotations: m.annotations ?? [],
  calls: (m.tool_calls ?? []).map((c) => [c.id, c.type, c.type === 'custom' ? [c.custom.name, c.custom.input] : [c.function.name, c.function.arguments]]),
});

// every looks at each stream of a face behind a protocol, and tells of all that fail.
async function every(protocol, face, look) {
  const wrong = [];
  let looked = 0;
  const dirs = readdirSync(new URL(protocol, TESTDATA), { withFileTypes: true }).filter((d) => d.isDirectory());
  for (const { name } of dirs) {
    const g = golden(`${protocol}/${name}`, face, 'sse');
    if (g.passed) continue;
    looked++;
    const whole = golden(`${protocol}/${name}`, face, 'json');
    try {
      if (g.error === undefined) {
        await look(g, whole.passed ? undefined : JSON.parse(whole.body));
        continue;
      }
      const raised = await look(g).then(() => assert.fail('nothing was thrown'), (e) => e);
      assert.ok(raised instanceof OpenAI.APIError, String(raised));
      assert.equal(raised.status, g.status === 200 ? undefined : g.status);
      assert.equal(raised.code, g.error.code);
      assert.ok(whole.passed || whole.status !== 200, 'the JSON face tells no failure');
    } catch (e) {
      wrong.push(`${g.name}: ${e.message}`);
    }
  }
  assert.ok(looked > 0 || protocol === face, 'no stream');
  assert.equal(wrong.length, 0, wrong.join('\n'));
}

for (const face of ['responses', 'cognipeer']) {
  each(`Responses streams put together: face.${face} behind {}`, PROTOCOLS, (protocol) => every(protocol, face, async (g, whole) => {
    const stream = client(g).responses.stream({ model: 'demo-model', input: 'Hello' });
    const heard = new Map(); // what the helper has gathered of the deltas, by its place
    for await (const event of stream) {
      if (event.snapshot !== undefined) heard.set(`${event.output_index} ${event.content_index ?? ''}`, event.snapshot);
    }
    const r = await stream.finalResponse();
    for (const [place, text] of heard) {
      const [item, part] = place.split(' ');
      assert.equal(text, part === '' ? r.output[item].arguments : r.output[item].content[part].text, 'the deltas, and the end');
    }
    const raw = await client(g).responses.create({ model: 'demo-model', input: 'Hello', stream: true });
    const again = await ResponseStream.fromReadableStream(raw.toReadableStream()).finalResponse();
    assert.deepEqual(told(again.output), told(r.output));
    if (!whole) return;
    assert.deepEqual([r.status, r.incomplete_details, told(r.output)], [whole.status, whole.incomplete_details, told(whole.output)]);
  }));
}

for (const face of ['chat', 'ticos']) {
  each(`Chat streams put together: face.${face} behind {}`, PROTOCOLS, (protocol) => every(protocol, face, async (g, whole) => {
    const ask = () => client(g).chat.completions.stream({ model: 'demo-model', messages: [] });
    const c = await ask().finalChatCompletion();
    assert.equal(c.choices.length, 1);
    const again = await ChatCompletionStream.fromReadableStream(ask().toReadableStream()).finalChatCompletion();
    assert.deepEqual(message(again.choices[0].message), message(c.choices[0].message));
    if (!whole) return;
    assert.equal(c.choices[0].finish_reason, whole.choices[0].finish_reason);
    assert.deepEqual(message(c.choices[0].message), message(whole.choices[0].message));
    assert.deepEqual(c.usage ?? null, whole.usage ?? null);
  }));
}

await main('types-node');
