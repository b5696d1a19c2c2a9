// What the engine spends on a packet beside the AEAD, from the TUN read to the GSO send and from the GRO
// receive to the TUN write (bench/native/data_path.cc). Needs root.
//
// Bypassed: the kernel. System calls are answered from memory, and what they take does not count.
//
// Options: --quick, --json (results on standard output).

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mustRun } from '../ts/lab/command.js';
import { labUnavailable } from '../ts/lab/requirements.js';
import { spread } from './spread.js';
import { columns, spreadText } from './text-table.js';

/** ns per packet, a value for each round. */
interface Figures {
  readonly aead: readonly number[];
  readonly rest: readonly number[];
}

/** What the tool prints. */
interface Measured {
  readonly suite: string;
  readonly library: string;
  readonly packets: string;
  readonly size: number;
  readonly seal: Figures;
  readonly open: Figures;
}

/** Beyond the AEAD, for packets that come in super-packets. */
const AIM = 150;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const missing = labUnavailable([]);
if (missing !== undefined) {
  console.error(`data-path: ${missing}`);
  process.exit(1);
}
const [rounds, milliseconds] = values.quick ? [3, 50] : [9, 200];
const tool = fileURLToPath(new URL('../../build/bench/bench/native/data_path', import.meta.url));
const measured = JSON.parse(
  await mustRun(tool, [String(rounds), String(milliseconds)], { timeoutMs: 120_000 }),
) as Measured[];

if (values.json) {
  console.log(JSON.stringify(measured));
} else {
  const head = ['ns a packet, median (min–max)', 'seal: AEAD', 'beside it', 'open: AEAD', 'beside it'];
  for (const suite of new Set(measured.map((one) => one.suite))) {
    const ofSuite = measured.filter((one) => one.suite === suite);
    console.log(`\n${suite}, ${ofSuite[0]?.library ?? ''}`);
    const rows = ofSuite.map(({ packets, size, seal, open }) => [
      `${packets}, ${size} B`,
      ...[seal.aead, seal.rest, open.aead, open.rest].map((ns) => spreadText(spread(ns))),
    ]);
    for (const line of columns([head, ...rows])) console.log(line);
  }
  const aimed = measured.filter(({ packets }) => packets.endsWith('super-packets'));
  const medians = aimed.flatMap(({ seal, open }) => [spread(seal.rest).median, spread(open.rest).median]);
  const most = Math.max(...medians);
  console.log(
    `\nbeside the AEAD below ${AIM} ns in super-packets: ${most < AIM ? 'met' : 'missed'}, at most ${Math.round(most)} ns`,
  );
}
