// The forwarding table's verdict alone, ns of CPU per 64-byte frame: table sizes, limits, workers.
// One process a row (bench/native/judge.cc), so that none inherits another's caches or memory.

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { columns } from './text-table.js';

const tool = fileURLToPath(new URL('../../build/bench/bench/native/judge', import.meta.url));
const MILLION = ['--legs', '1000000', '--batches', '500'];
const ROWS: readonly (readonly [title: string, options: readonly string[]])[] = [
  ['1,000 legs, 64 frames of a leg in a row', ['--run', '64']],
  ['1,000 legs, every frame another leg’s', []],
  ['1,000,000 legs, every frame another leg’s', MILLION],
];
const COLUMNS: readonly (readonly [title: string, options: readonly string[]])[] = [
  ['one worker', []],
  ['with every limit', ['--limits']],
  ['several workers', ['--several']],
  ['with every limit', ['--several', '--limits']],
];

interface Measured {
  readonly medianNs: number;
  readonly bytesPerLeg: number;
}

const measure = (options: readonly string[]): Measured =>
  JSON.parse(execFileSync(tool, [...options], { encoding: 'utf8' })) as Measured;

const rows = ROWS.map(([title, row]) => [
  title,
  ...COLUMNS.map(([, column]) => measure([...row, ...column]).medianNs.toFixed(0)),
]);
console.log(columns([['ns per frame', ...COLUMNS.map(([title]) => title)], ...rows]).join('\n'));
// 16 legs of an identity, whose account takes 64 bytes.
const { bytesPerLeg } = measure(MILLION);
console.log(`\nmemory of 1,000,000 legs and 62,500 accounts: ${bytesPerLeg.toFixed(0)} bytes a leg`);
