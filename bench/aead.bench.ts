// Sealing and opening by every AEAD implementation of this machine (bench/native/aead.cc).
// Options: --quick, --json (results on standard output).

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mustRun } from '../ts/lab/command.js';
import { spread } from './spread.js';
import { columns, spreadText } from './text-table.js';

/** What the tool prints: ns per packet, a value for each round. */
interface Measured {
  readonly suite: string;
  readonly implementation: string;
  readonly size: number;
  readonly sessions: number;
  readonly seal: readonly number[];
  readonly open: readonly number[];
}

const AIMS = [
  { suite: 'ChaCha20-Poly1305', limit: 700 },
  { suite: 'AES-256-GCM', limit: 220 },
] as const;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const [rounds, milliseconds] = values.quick ? [3, 20] : [9, 60];
const tool = fileURLToPath(new URL('../../build/bench/bench/native/aead', import.meta.url));
const measured = JSON.parse(
  await mustRun(tool, [String(rounds), String(milliseconds)], { timeoutMs: 120_000 }),
) as Measured[];

const find = (suite: string, implementation: string, size: number, sessions: number): Measured | undefined =>
  measured.find(
    (one) =>
      one.suite === suite &&
      one.implementation === implementation &&
      one.size === size &&
      one.sessions === sessions,
  );

if (values.json) {
  console.log(JSON.stringify(measured));
} else {
  const subjects = measured.filter(({ size }) => size === 64);
  const head = ['ns a packet, median (min–max)', 'seal 64 B', 'open 64 B', 'seal 1420 B', 'open 1420 B'];
  const rows = subjects.map(({ suite, implementation }) => {
    const of = (size: number, sessions: number, operation: 'seal' | 'open'): string => {
      const ns = find(suite, implementation, size, sessions)?.[operation];
      return spreadText(ns && spread(ns));
    };
    return [
      `${suite}, ${implementation}`,
      ...[of(64, 1, 'seal'), of(64, 1, 'open'), of(1420, 1, 'seal'), of(1420, 1, 'open')],
      of(1420, 1000, 'seal'),
    ];
  });
  for (const line of columns([[...head, 'of 1,000 sessions'], ...rows])) console.log(line);
  for (const { suite, limit } of AIMS) {
    const ns = find(suite, 'engine', 1420, 1)?.seal;
    if (ns === undefined) continue;
    const { median } = spread(ns);
    console.log(`\n${suite}: 1420 B sealed in at most ${limit} ns: ${median <= limit ? 'met' : 'missed'}`);
  }
}
