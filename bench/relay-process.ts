// The relay under test: the native engine as the daemon opens it, with the benchmark's legs in its table.
// Prints "ready"; each line on standard input is answered by a line of JSON (RelayReport).

import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { openNativeEngine } from '../ts/engine/native-engine.js';
import { benchLegs, type LegPlan } from './relay-legs.js';

export interface RelayReport {
  /** User and system time of the process, µs. */
  readonly cpuUs: number;
  readonly rssBytes: number;
  readonly counters: Readonly<Record<string, number>>;
}

const INSTALL_AT_ONCE = 10_000;

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    legs: { type: 'string', default: '1000' },
    client: { type: 'string', default: '' },
    server: { type: 'string', default: '' },
    flows: { type: 'string', default: '1' },
    destinations: { type: 'string', default: '1' },
  },
});
const legs = Number(values.legs);
const plan: LegPlan = {
  clientIp: values.client,
  serverIp: values.server,
  flows: Number(values.flows),
  destinations: Number(values.destinations),
};

const engine = openNativeEngine({
  privateKey: new Uint8Array(32).fill(1),
  port: Number(values.port),
  maxLegs: legs,
  maxPeers: 1,
  controlFramesPerSecond: 1,
});
for (let first = 0; first < legs; first += INSTALL_AT_ONCE) {
  engine.installLegs(benchLegs(plan, first, Math.min(legs, first + INSTALL_AT_ONCE)));
}
// What building the table left behind on the JavaScript heap is not the table's.
globalThis.gc?.();
console.log('ready');

createInterface({ input: process.stdin })
  .on('line', () => {
    const { user, system } = process.cpuUsage();
    const report: RelayReport = {
      cpuUs: user + system,
      rssBytes: process.memoryUsage.rss(),
      counters: Object.fromEntries(engine.counters()),
    };
    console.log(JSON.stringify(report));
  })
  .on('close', () => void engine.close());
