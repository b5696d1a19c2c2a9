// What one relayed frame costs each forwarding table inside Node, and its tag alone.

import { Bench } from 'tinybench';
import { WasmForwardingTable } from '../ts/engine/wasm/wasm-forwarding-table.js';
import { ForwardingTableModel } from '../ts/wire/forwarding-table.js';
import { encodeFrame, FrameKind, frameTag } from '../ts/wire/frame.js';
import type { LegEntry } from '../ts/wire/leg-entry.js';
import { parseSocketAddress } from '../ts/wire/socket-address.js';
import { UNCHARGED } from '../ts/wire/leg.js';

const LEGS = 10_000;

const from = parseSocketAddress('192.0.2.1:4000');
const to = parseSocketAddress('198.51.100.2:5000');
if (from === undefined || to === undefined) throw new Error('the addresses above are wrong');
const key = new Uint8Array(16).fill(1);

const frames = Array.from({ length: LEGS }, (_, i) =>
  encodeFrame({
    kind: FrameKind.forward,
    hopLimit: 8,
    epoch: 0,
    legId: i + 1,
    key,
    payload: new Uint8Array(1400),
  }),
);
const entries = frames.map((_, i): LegEntry => ({
  id: i + 1,
  key,
  epoch: 0,
  action: 'forward',
  source: from,
  next: { address: to, id: 7, key: key.map((byte) => byte + 1), epoch: 1 },
  expiresAt: 0n,
  charging: UNCHARGED,
}));

const bench = new Bench({ name: `one 1416-byte frame over ${LEGS} legs`, time: 500 });
let turn = 0;
/** The next leg's frame, in a buffer that may be rewritten. */
const scratch = new Uint8Array(1416);
const nextFrame = (): Uint8Array => {
  turn = (turn + 1) % LEGS;
  const frame = frames[turn];
  if (frame !== undefined) scratch.set(frame);
  return scratch;
};

bench.add('copying the frame (part of every row below)', () => {
  nextFrame();
});
bench.add('tag, TypeScript', () => {
  frameTag(key, nextFrame());
});
for (const [name, table] of [
  ['judge and rewrite, TypeScript model', new ForwardingTableModel(LEGS)],
  ['judge and rewrite, WASM', new WasmForwardingTable(LEGS)],
] as const) {
  for (const entry of entries) table.install(entry);
  let now = 1n;
  bench.add(name, () => {
    const decision = table.judge(from, nextFrame(), now++);
    if (decision.verdict !== 'forward') throw new Error(`${name}: ${decision.reason}`);
  });
}

await bench.run();
for (const task of bench.tasks) {
  const { result } = task;
  if (result.state !== 'completed') throw new Error(`${task.name}: ${result.state}`);
  console.log(`${task.name.padEnd(46)} ${(result.latency.p50 * 1e6).toFixed(0).padStart(6)} ns (median)`);
}
