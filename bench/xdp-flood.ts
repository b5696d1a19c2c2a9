// Spoofed garbage at the generator's full rate beside a circuit, and what the daemon has to do with it.
//
// Undisturbed: the circuit's frames at a fixed rate, and nothing else. Flooded: the same frames at the same
// rate from the same generator, which sends garbage whenever none of them is due. Of garbage there are eight
// kinds in turn: no protocol of ours, frames on unknown legs, on a leg from elsewhere, on a leg from its own
// address with a wrong tag, WireGuard data and cookie replies for no session, handshakes, STUN requests.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { idOf, processCpu, residentBytes } from './process-cpu.js';
import { RELAY_CORE, type Subject } from './relay-subjects.js';
import type { Topology } from './relay-topology.js';
import { spread, type Spread } from './spread.js';
import type { LiveTraffic } from './xdp-live.js';

const BINARY = fileURLToPath(new URL('../../bin/omerta', import.meta.url));
const DAEMON_PORT = 25_000;

export interface Flood {
  /** The circuit's frames a second that were asked of the generator. */
  readonly rate: number;
  readonly undisturbed: Spread;
  readonly flooded: Spread;
  /** Delivered under the flood over delivered without, round by round. */
  readonly kept: Spread;
  /** Delivered of what was sent, under the flood. */
  readonly delivered: Spread;
  readonly garbagePerSecond: Spread;
}

/** @param part 1: garbage as fast as it goes; 2: half as much, and so on. */
export async function flood(
  traffic: LiveTraffic,
  xdp: Subject,
  legs: number,
  rate: number,
  part: number,
  { rounds, durationMs }: { readonly rounds: number; readonly durationMs: number },
): Promise<Flood> {
  const load = { protocol: 'omerta', port: xdp.port, legs, rate, durationMs } as const;
  const undisturbed: number[] = [];
  const flooded: number[] = [];
  const delivered: number[] = [];
  const garbage: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const quiet = await traffic.run(load);
    const loud = await traffic.run({ ...load, flood: part });
    if (round === 0) continue;
    undisturbed.push((quiet.received / quiet.ns) * 1e9);
    flooded.push((loud.received / loud.ns) * 1e9);
    delivered.push(loud.received / loud.sent);
    garbage.push((loud.garbage / loud.ns) * 1e9);
  }
  return {
    rate,
    undisturbed: spread(undisturbed),
    flooded: spread(flooded),
    kept: spread(flooded.map((value, at) => value / (undisturbed[at] ?? NaN))),
    delivered: spread(delivered),
    garbagePerSecond: spread(garbage),
  };
}

export interface DaemonUnderFlood {
  readonly garbage: number;
  readonly seconds: number;
  /** Of one core, while garbage comes, and before it. */
  readonly cpuShare: number;
  readonly idleCpuShare: number;
  readonly residentBefore: number;
  readonly residentAfter: number;
}

/** The shipped daemon, `omerta relay --accel xdp`, under the same garbage. */
export async function daemonUnderFlood(
  topology: Topology,
  traffic: LiveTraffic,
  seconds: number,
): Promise<DaemonUnderFlood> {
  const state = mkdtempSync(join(tmpdir(), 'omerta-bench-'));
  const daemon = topology.relay.spawn(
    'taskset',
    [
      ...[
        '-c',
        RELAY_CORE,
        process.execPath,
        BINARY,
        'relay',
        '--state',
        state,
        '--port',
        String(DAEMON_PORT),
      ],
      ...[
        '--accel',
        'xdp',
        '--accel-interface',
        'client0',
        '--accel-interface',
        'server0',
        '--status',
        'off',
      ],
      '--json',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    await new Promise((resolve, reject) => {
      daemon.stdout?.once('data', resolve);
      daemon.once('exit', () => reject(new Error('omerta relay ended before it served')));
    });
    const id = idOf(daemon);
    await traffic.pin();
    const load = { protocol: 'omerta', port: DAEMON_PORT, legs: 1, rate: 1, flood: 1 } as const;
    await traffic.run({ ...load, durationMs: 1000 }); // what it takes at first, it has then
    await sleep(1000);
    const idleBefore = processCpu(id);
    await sleep(2000);
    const before = processCpu(id);
    const residentBefore = residentBytes(id);
    const { garbage, ns } = await traffic.run({ ...load, durationMs: seconds * 1000 });
    const cpu = processCpu(id) - before;
    return {
      garbage,
      seconds: ns / 1e9,
      cpuShare: cpu / ns,
      idleCpuShare: (before - idleBefore) / 2e9,
      residentBefore,
      residentAfter: residentBytes(id),
    };
  } finally {
    daemon.kill('SIGTERM');
    if (daemon.exitCode === null) await new Promise((resolve) => daemon.once('exit', resolve));
    rmSync(state, { recursive: true, force: true });
  }
}
