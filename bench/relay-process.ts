// The relay under test: the native engine as the daemon opens it, with the benchmark's legs in its table.
// Sends what comes on the client's control leg back, as a control plane with the shortest of answers. With
// --interfaces it has its kernel path on those, and leaves it there when it ends. Prints "ready", or why it
// cannot have the io_uring that was asked for. The line `report` on standard input is answered by a line of
// JSON (RelayReport), `carried` by the packets of all legs.

import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { KernelPathEngine } from '../ts/engine/xdp/kernel-path-engine.js';
import { openNativeEngine } from '../ts/engine/native/native-engine.js';
import { NO_ACCOUNTS } from '../ts/wire/forwarding-table.js';
import { benchLegs, controlLeg, slotsFor, type LegPlan } from './relay-legs.js';

export interface RelayReport {
  /** User and system time of the process, µs. */
  readonly cpuUs: number;
  readonly rssBytes: number;
  /** Of these, JavaScript's heap, what it has freed included. */
  readonly heapBytes: number;
  readonly counters: Readonly<Record<string, number>>;
}

/** Few, so that what JavaScript has of them is little beside the table. */
const INSTALL_AT_ONCE = 1_000;

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    legs: { type: 'string', default: '1000' },
    client: { type: 'string', default: '' },
    server: { type: 'string', default: '' },
    flows: { type: 'string', default: '1' },
    destinations: { type: 'string', default: '1' },
    io: { type: 'string', default: 'mmsg' },
    bind: { type: 'string' },
    interfaces: { type: 'string' },
  },
});
const legs = Number(values.legs);
const maxLegs = slotsFor(legs);
const plan: LegPlan = {
  clientIp: values.client,
  serverIp: values.server,
  flows: Number(values.flows),
  destinations: Number(values.destinations),
};

const native = openNativeEngine({
  privateKey: new Uint8Array(32).fill(1),
  port: Number(values.port),
  io: values.io === 'io_uring' ? 'io_uring' : 'mmsg',
  maxLegs,
  maxPeers: 1,
  controlFramesPerSecond: 1,
});
if (values.io === 'io_uring') {
  const ring = native.describe().accelerators.find(({ name }) => name === 'io-uring');
  if (ring?.state !== 'on') {
    console.log(ring?.reason);
    await native.close();
    process.exit();
  }
}
const engine =
  values.interfaces === undefined
    ? native
    : new KernelPathEngine(native, {
        ...{ required: true, interfaces: values.interfaces.split(','), mode: 'native', detach: true },
        ...{
          bind: values.bind,
          maxLegs,
          accounts: NO_ACCOUNTS,
          addressed: [],
          wireguardSessions: 0,
        },
      });
for (let first = 0; first < legs; first += INSTALL_AT_ONCE) {
  engine.installLegs(benchLegs(plan, first, Math.min(legs, first + INSTALL_AT_ONCE)));
}
engine.installLegs([controlLeg(plan.clientIp)]);
engine.onEvents((events) => {
  const frames = events.flatMap((event) => (event.type === 'frame' ? [event] : []));
  engine.sendFrames(frames.map(({ from, frame }) => ({ to: from, frame })));
});
if (engine instanceof KernelPathEngine) {
  engine.activate();
  setInterval(() => void engine.check(), 1000).unref(); // as the daemon does
}
// What building the table left behind on the JavaScript heap is not the table's.
globalThis.gc?.();
console.log('ready');

createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'carried') {
      console.log(engine.legs().reduce((sum, { packets }) => sum + packets, 0));
      return;
    }
    const { user, system } = process.cpuUsage();
    const { rss, heapTotal } = process.memoryUsage();
    const report: RelayReport = {
      cpuUs: user + system,
      rssBytes: rss,
      heapBytes: heapTotal,
      counters: Object.fromEntries(engine.counters()),
    };
    console.log(JSON.stringify(report));
  })
  .on('close', () => void engine.close());
