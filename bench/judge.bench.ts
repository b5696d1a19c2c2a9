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

/** Bytes a leg. */
interface Memory {
  readonly table: number;
  readonly accounts: number;
  /** Which of the host's addresses each remote talks to, where the host has one and where it has several. */
  readonly oneAddress: number;
  readonly severalAddresses: number;
}

const run = (...options: readonly string[]): unknown =>
  JSON.parse(execFileSync(tool, options, { encoding: 'utf8' }));
const nsPerFrame = (...options: readonly string[]): string =>
  (run(...options) as { readonly medianNs: number }).medianNs.toFixed(0);

const rows = ROWS.map(([title, row]) => [
  title,
  ...COLUMNS.map(([, column]) => nsPerFrame(...row, ...column)),
]);
console.log(columns([['ns per frame', ...COLUMNS.map(([title]) => title)], ...rows]).join('\n'));
const memory = run('--legs', '1000000', '--memory') as Memory;
console.log(
  [
    '\nmemory of 1,000,000 legs, bytes a leg',
    ...columns([
      ['forwarding table', memory.table.toFixed(1)],
      ['accounts (62,500 identities)', memory.accounts.toFixed(1)],
      ['return addresses, host with one address of a family', memory.oneAddress.toFixed(1)],
      ['return addresses, host with several', memory.severalAddresses.toFixed(1)],
    ]),
  ].join('\n'),
);
