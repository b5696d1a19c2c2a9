// An engine with a kernel path and many legs, as a relay with many circuits has them:
// `many-legs.js COUNT leave|remove`, in a namespace with an interface eth0. Prints how long it took, as
// JSON; then either is killed, and leaves the legs in the kernel, or removes them.

import { LegIds } from '../core/runtime/leg-ids.js';
import { Turn } from '../core/runtime/turn.js';
import { KernelPathEngine } from '../engine/xdp/kernel-path-engine.js';
import { openNativeEngine } from '../engine/native/native-engine.js';
import { Prng } from '../sim/kernel/prng.js';
import { NO_ACCOUNTS } from '../wire/forwarding-table.js';
import type { Leg } from '../wire/leg.js';

const PORT = 51999;
const BATCH = 10_000;

/** Seconds of this process's CPU, and legs. */
export interface ManyLegs {
  readonly adopted: number;
  /** From the first leg to the program in place. */
  readonly taken: number;
  readonly removed: number;
}

const ip = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 9);
const key = new Uint8Array(16).fill(3);

/** The same ids in every process, chosen as a node chooses them. */
function idsOf(count: number, maxLegs: number): number[] {
  const random = new Prng(1);
  const turn = new Turn({ now: 0, wallClock: 0, random: (length) => random.bytes(length) });
  const ids = new LegIds(maxLegs);
  return Array.from({ length: count }, () => ids.create(turn).id);
}

function leg(id: number): Leg {
  return {
    id,
    key,
    epoch: 0,
    action: 'forward',
    source: { ip, port: 4000 },
    next: { address: { ip, port: 5000 }, id, key, epoch: 0 },
    lifetimeMs: 3_600_000,
    charging: { identity: 0, network: 0, limits: 0 },
  };
}

function cpuSeconds(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

async function main(count: number, leave: boolean): Promise<void> {
  const maxLegs = count + 1; // one for strangers
  const ids = idsOf(count, maxLegs);
  const native = openNativeEngine({
    ...{
      privateKey: new Uint8Array(32).fill(7),
      port: PORT,
      maxLegs,
      maxPeers: 16,
      controlFramesPerSecond: 1,
    },
  });
  const engine = new KernelPathEngine(native, {
    ...{ required: true, interfaces: ['eth0'], mode: 'native', detach: true, bind: undefined },
    ...{ maxLegs, wireguardSessions: 0, accounts: NO_ACCOUNTS, addressed: [] },
  });
  const taken = cpuSeconds(() => {
    for (let at = 0; at < count; at += BATCH) engine.installLegs(ids.slice(at, at + BATCH).map(leg));
    engine.activate();
  });
  const xdp = engine.describe().accelerators.find(({ name }) => name === 'xdp');
  const adopted = Number(/(\d+) legs adopted/.exec(xdp?.reason ?? '')?.[1] ?? 0);
  const removed = leave ? 0 : cpuSeconds(() => engine.removeLegs(ids));
  console.log(JSON.stringify({ adopted, taken, removed } satisfies ManyLegs));
  if (leave) process.kill(process.pid, 'SIGKILL');
  await engine.close(true);
}

await main(Number(process.argv[2]), process.argv[3] === 'leave');
