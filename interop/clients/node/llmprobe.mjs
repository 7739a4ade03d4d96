// llmprobe's conformance run over three kinds of backend. What it found is kept in reports/: a MUST that held there and
// does not hold any more is a failure, any other difference is shown. `interop/run --update-reports` writes them anew.

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PROXY, assert, each, main } from './harness.mjs';

const BACKENDS = { chat: 'scripted-chat', cycls: 'cycls-real', swarms: 'swarms' };
const SURFACES = ['models', 'chat', 'responses']; // the others are none of Dragoman's
const UPDATE = process.env.UPDATE_REPORTS === 'yes';
const PROBE = fileURLToPath(new URL('../../node_modules/llmprobe/bin/dist/llmprobe.mjs', import.meta.url));
const fileOf = (protocol) => new URL(`../../reports/llmprobe-${protocol}.txt`, import.meta.url);

// probe runs it and returns its findings. It keeps nothing, and finds nothing of a home: its library is not ours.
async function probe(agent) {
  const home = mkdtempSync(join(tmpdir(), 'llmprobe-'));
  try {
    const out = join(home, 'report.json');
    await promisify(execFile)(
      process.execPath,
      [PROBE, `${PROXY}/v1`, '-m', agent, '--no-bench', '--no-save', '--no-color', '--save', out],
      { env: { PATH: process.env.PATH, HOME: home }, maxBuffer: 16 << 20 },
    ).catch((e) => { if (e.code !== 1) throw e; }); // which says that the model is not a clever one
    return JSON.parse(readFileSync(out));
  } finally {
    rmSync(home, { recursive: true });
  }
}

// text writes findings as lines, with all that differs from run to run left out. How clever the agent is is no
// finding: it is scripted.
function text(protocol, { coverage, conformance }) {
  const stable = (s) => s.replace(/\s+/g, ' ').replace(/[0-9a-f]{16,}/g, '…').replace(/127\.0\.0\.1:\d+/g, '…').slice(0, 160).trim();
  const lines = [
    `llmprobe over the Chat and Responses faces, ${protocol} backend (${BACKENDS[protocol]})`, '',
    ...conformance.bySurface.map((s) => `${s.surface}: ${s.passed} of ${s.total} MUSTs`), '',
  ];
  for (const r of conformance.results.filter((r) => r.outcome !== 'skipped' && SURFACES.includes(r.surface))) {
    lines.push(`${r.outcome.padEnd(12)} ${r.id}: ${r.name}${r.outcome !== 'pass' && r.reason ? ` (${stable(r.reason)})` : ''}`);
    for (const f of r.failures) lines.push(`${' '.repeat(13)}${f.severity} ${f.id}: ${stable(f.message ?? f.label)}`);
  }
  lines.push('', ...coverage.entries.map((e) => `${e.supported ? 'has' : 'has not'} ${e.label}`));
  return `${lines.join('\n')}\n`;
}

const passed = (report) => new Set([...report.matchAll(/^pass +(\S+):/gm)].map((m) => m[1]));
const failed = (report) => new Set([...report.matchAll(/^ +MUST (\S+):/gm)].map((m) => m[1]));
const counts = (report) => Object.fromEntries([...report.matchAll(/^(\w+): (\d+) of \d+ MUSTs$/gm)].map((m) => [m[1], Number(m[2])]));

each('what MUST hold: {}', Object.keys(BACKENDS), async (protocol) => {
  const got = text(protocol, await probe(BACKENDS[protocol]));
  if (UPDATE) {
    writeFileSync(fileOf(protocol), got);
    return;
  }
  const want = readFileSync(fileOf(protocol), 'utf8');
  const [g, w] = [got, want].map((s) => s.split('\n'));
  const difference = [...w.filter((l) => !g.includes(l)).map((l) => `- ${l}`), ...g.filter((l) => !w.includes(l)).map((l) => `+ ${l}`)].join('\n');
  if (difference) console.log(`     llmprobe, ${protocol}: is not what reports/ has\n     ${difference.replaceAll('\n', '\n     ')}`);
  assert.deepEqual([...passed(want)].filter((id) => !passed(got).has(id)), [], 'checks that passed');
  assert.deepEqual([...failed(got)].filter((id) => !failed(want).has(id)), [], 'MUSTs that did not fail');
  for (const [surface, n] of Object.entries(counts(want))) assert.ok(counts(got)[surface] >= n, `${surface}: ${counts(got)[surface]} MUSTs, ${n} before`);
});

await main('llmprobe');
