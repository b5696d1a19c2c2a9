// Instructions and allocations per packet of the native paths, counted by callgrind: the same on a busy
// machine as on a quiet one, so a change that costs something shows where a clock could not tell. They are
// held against bench/instruction-counts.json, which a commit changes on purpose and says why.
//
// Bypassed: the kernel (system calls are answered from memory) and, on the ways of packets, the AEAD.
// Valgrind knows no AVX-512, so what has a way for it is counted on its way for AVX2.
//
// Options: --record (writes what was counted), --json, --quick (accepted, changes nothing).

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { labUnavailable } from '../ts/lab/requirements.js';
import { percentile } from '../ts/lab/statistics.js';
import { columns } from './text-table.js';

/** A count may grow by this part of what is recorded. */
const TOLERANCE = 0.02;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const RECORD = join(ROOT, 'bench/instruction-counts.json');
const TOOLS = join(ROOT, 'build/bench/bench/native');

/** glibc chooses its string functions by the processor: one choice for all. */
const ENVIRONMENT = {
  ...process.env,
  GLIBC_TUNABLES: 'glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM',
};

interface Counted {
  /** Instructions of one packet, frame, leg or step: the least of several, without what timers add. */
  readonly instructions: number;
  readonly allocations: number;
}

interface Recorded {
  readonly compiler: string;
  /** Versions of what does the cryptography of handshakes, which are counted with it. */
  readonly libraries: string;
  /** bpf: instructions of the XDP program, not how many of them a packet takes. */
  readonly counts: Readonly<Record<string, Counted>>;
}

const JUDGE_ROWS: readonly (readonly [name: string, options: readonly string[]])[] = [
  ['64 in a row, one worker', ['--run', '64']],
  ['each another leg’s, one worker', []],
  ['each another leg’s, one worker, every limit', ['--limits']],
  ['64 in a row, several workers, every limit', ['--run', '64', '--several', '--limits']],
  ['each another leg’s, several workers, every limit', ['--several', '--limits']],
];

/** Runs a tool under callgrind; what it reported, by name. */
function count(
  tool: string,
  options: readonly string[],
): Map<string, { each: number[]; allocations: number[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'omerta-instructions-'));
  try {
    const valgrind = [
      '--tool=callgrind',
      '--fair-sched=try',
      '--collect-atstart=no',
      `--callgrind-out-file=${folder}/out`,
    ];
    const run = spawnSync('valgrind', [...valgrind, join(TOOLS, tool), ...options], {
      encoding: 'utf8',
      env: ENVIRONMENT,
      timeout: 300_000,
    });
    if (run.status !== 0)
      throw new Error(`${tool} under valgrind ended with ${run.status ?? 'a signal'}:\n${run.stderr}`);
    const found = new Map<string, { each: number[]; allocations: number[] }>();
    for (const file of readdirSync(folder)) {
      const text = readFileSync(join(folder, file), 'utf8');
      const [, name = '', units = '1', allocations = '0'] =
        /^desc: Trigger: Client Request: (.*)\|(\d+)\|(\d+)$/m.exec(text) ?? [];
      const total = /^summary: (\d+)$/m.exec(text)?.[1];
      if (name === '' || total === undefined) continue;
      const row = found.get(name) ?? { each: [], allocations: [] };
      row.each.push(Number(total) / Number(units));
      row.allocations.push(Number(allocations) / Number(units));
      found.set(name, row);
    }
    if (found.size === 0)
      throw new Error(`${tool} reported nothing: it was built without valgrind’s headers`);
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Instructions of the XDP program and its functions, as their sections in the object file have them: 8 bytes each. */
function bpfInstructions(): number | undefined {
  try {
    const object = join(ROOT, 'build/native/xdp/generated/relay.bpf.o');
    const sections = execFileSync('readelf', ['-SW', object], { encoding: 'utf8' });
    const sizes = [
      ...sections.matchAll(/\s(?:\.text|xdp\S*)\s+PROGBITS\s+[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)/g),
    ];
    const bytes = sizes.reduce((sum, [, size = '0']) => sum + Number.parseInt(size, 16), 0);
    return bytes === 0 ? undefined : bytes / 8;
  } catch {
    return undefined;
  }
}

/** Of the libraries the tools were linked with. */
function libraryVersions(): string {
  return ['libsodium', 'libcrypto']
    .map(
      (name) => `${name} ${execFileSync('pkg-config', ['--modversion', name], { encoding: 'utf8' }).trim()}`,
    )
    .join(', ');
}

const { values } = parseArgs({
  options: {
    record: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  },
});
const missing =
  spawnSync('valgrind', ['--version']).status === 0
    ? labUnavailable([])
    : 'needs valgrind: sudo apt-get install valgrind';
if (missing !== undefined) {
  console.log(`skipped: instructions: ${missing}`);
  process.exit(0);
}

const counts: Record<string, Counted> = {};
const take = (found: ReturnType<typeof count>): void => {
  for (const [name, { each, allocations }] of found) {
    counts[name] = {
      instructions: Math.round(Math.min(...each) * 10) / 10,
      allocations: percentile(allocations, 0.5) ?? 0,
    };
  }
};
console.error('  ways of packets …');
take(count('data_path', ['--count', '16']));
console.error('  verdicts …');
for (const [name, options] of JUDGE_ROWS)
  take(count('judge', ['--legs', '1000', '--batches', '2', '--count', name, ...options]));
console.error('  handshakes, splitting and joining …');
take(count('steps', ['5']));
const bpf = bpfInstructions();
if (bpf !== undefined) counts['XDP program, whole'] = { instructions: bpf, allocations: 0 };
else console.error('  skipped: the XDP program is not built here');

const compiler = execFileSync('c++', ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
const libraries = libraryVersions();
const recorded = JSON.parse(readFileSync(RECORD, 'utf8')) as Recorded;
const names = [...new Set([...Object.keys(recorded.counts), ...Object.keys(counts)])].sort();
if (values.record) {
  const sorted = Object.fromEntries(
    names.flatMap((name) => (counts[name] === undefined ? [] : [[name, counts[name]]])),
  );
  writeFileSync(RECORD, `${JSON.stringify({ compiler, libraries, counts: sorted }, undefined, 2)}\n`);
}
const comparable = (name: string): boolean =>
  compiler === recorded.compiler && (libraries === recorded.libraries || !name.startsWith('handshake'));
const change = (name: string): number | undefined => {
  if (!comparable(name)) return undefined;
  const [now, then] = [counts[name], recorded.counts[name]];
  return now === undefined || then === undefined ? undefined : now.instructions / then.instructions - 1;
};
const grown = names.filter((name) => (change(name) ?? 0) > TOLERANCE);
const shrunk = names.filter((name) => (change(name) ?? 0) < -TOLERANCE);
const gone = names.filter((name) => counts[name] === undefined && recorded.counts[name] !== undefined);
const unknown = names.filter((name) => recorded.counts[name] === undefined);
// The way of a packet; a leg or a handshake may allocate.
const allocating = names.filter(
  (name) => /^(seal|open|forward|judge|split|join)/.test(name) && (counts[name]?.allocations ?? 0) > 0,
);
const show = (value: number | undefined): string => value?.toLocaleString('en-US') ?? '–';
if (values.json) console.log(JSON.stringify({ compiler, libraries, counts, grown, allocating }));
else {
  const rows = names.map((name) => {
    const by = change(name);
    return [
      name,
      show(recorded.counts[name]?.instructions),
      show(counts[name]?.instructions),
      by === undefined ? '' : `${by < 0 ? '' : '+'}${(by * 100).toFixed(1)} %`,
      show(counts[name]?.allocations),
    ];
  });
  console.log(columns([['instructions', 'recorded', 'now', 'change', 'allocations'], ...rows]).join('\n'));
}
if (values.record) process.exit(0);
if (compiler !== recorded.compiler)
  console.log(`skipped: counts recorded with ${recorded.compiler} are not held against those of ${compiler}`);
else if (libraries !== recorded.libraries)
  console.log(`skipped: handshakes, recorded with ${recorded.libraries}; here are ${libraries}`);
const complaints = [
  ...grown.map((name) => `${name}: more than ${TOLERANCE * 100} % above what is recorded`),
  ...gone.map((name) => `${name}: recorded, and not counted any more`),
  ...unknown.map((name) => `${name}: not recorded`),
  ...allocating.map((name) => `${name}: allocates`),
];
for (const complaint of complaints) console.error(`instructions: ${complaint}`);
if (shrunk.length > 0) console.error(`less than recorded, so that it is kept: ${shrunk.join('; ')}`);
if (complaints.length > 0 || shrunk.length > 0)
  console.error('on purpose? npm run bench -- instructions --record, and a commit that says why');
process.exit(complaints.length > 0 ? 1 : 0);
