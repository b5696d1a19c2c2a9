// Single 64-byte packets of mixed flows through namespaces, client – relay – server: what forwarding one
// costs by XDP, by this project's relay in user space, and by coturn.

import { setTimeout as sleep } from 'node:timers/promises';
import { mustRun } from '../ts/lab/command.js';
import type { Subject, SubjectName, Subjects } from './relay-subjects.js';
import { LIVE_DESTINATIONS, LIVE_FLOWS, type LiveTraffic } from './xdp-live.js';
import { spread, type Spread } from './spread.js';

export const LEGS = 10_000;
/** Of what is offered, at the rates that are reported. */
const TOLERATED_LOSS = 0.01;
/** What is offered while looking for the highest rate: this, and so much more each time. */
const FIRST_RATE = 40_000;
const STEP = 1.2;
const HIGHEST_RATE = 3_000_000;

export interface Cost {
  readonly offered: number;
  readonly packetsPerSecond: Spread;
  readonly loss: Spread;
  /** Of the relay's interface and the relay's process, per packet that arrived. */
  readonly nsPerPacket: Spread;
  readonly processNsPerPacket: Spread;
}

export interface EndToEnd {
  readonly name: SubjectName;
  readonly atItsHighest: Cost;
  /** At the rate user space manages; undefined for subjects that are not asked. */
  readonly atEqualRate: Cost | undefined;
}

interface Round {
  readonly packetsPerSecond: number;
  readonly loss: number;
  readonly nsPerPacket: number;
  readonly processNsPerPacket: number;
}

async function round(
  traffic: LiveTraffic,
  subject: Subject,
  rate: number,
  durationMs: number,
): Promise<Round> {
  const { protocol, port } = subject;
  if (protocol === 'plain') throw new Error('a plain forwarder is not driven by live frames');
  const before = { napi: traffic.cpu(), process: subject.cpu() ?? 0 };
  const { sent, received, ns } = await traffic.run({ protocol, port, legs: LEGS, rate, durationMs });
  const napi = traffic.cpu() - before.napi;
  const process = (subject.cpu() ?? 0) - before.process;
  if (received === 0) throw new Error(`${subject.name}: nothing arrived`);
  return {
    packetsPerSecond: (received / ns) * 1e9,
    loss: 1 - received / sent,
    nsPerPacket: (napi + process) / received,
    processNsPerPacket: process / received,
  };
}

/** The highest rate at which as good as nothing is lost. */
async function highestRate(traffic: LiveTraffic, subject: Subject): Promise<number> {
  let good = FIRST_RATE;
  for (let rate = FIRST_RATE; rate < HIGHEST_RATE; rate *= STEP) {
    const { loss } = await round(traffic, subject, rate, 200);
    if (loss > TOLERATED_LOSS) {
      const again = await round(traffic, subject, rate, 200);
      if (again.loss > TOLERATED_LOSS) break;
    }
    good = rate;
  }
  return good;
}

function costOf(offered: number, rounds: readonly Round[]): Cost {
  const of = (field: keyof Round): Spread => spread(rounds.map((each) => each[field]));
  return {
    offered,
    packetsPerSecond: of('packetsPerSecond'),
    loss: of('loss'),
    nsPerPacket: of('nsPerPacket'),
    processNsPerPacket: of('processNsPerPacket'),
  };
}

/** The relay in the kernel, with its process: `xdp` of the benchmark. */
export function startXdp(subjects: Subjects, port?: number, core?: string): ReturnType<Subjects['relay']> {
  return subjects.relay(
    'xdp',
    { legs: LEGS, flows: LIVE_FLOWS, destinations: LIVE_DESTINATIONS },
    true,
    port,
    core,
  );
}

/** Every subject in turn, round after round. */
export async function endToEnd(
  traffic: LiveTraffic,
  taking: readonly Subject[],
  { rounds, durationMs }: { readonly rounds: number; readonly durationMs: number },
): Promise<EndToEnd[]> {
  const rates = new Map<SubjectName, number>();
  for (const subject of taking) rates.set(subject.name, await highestRate(traffic, subject));
  const highest = new Map<SubjectName, Round[]>(taking.map(({ name }) => [name, []]));
  const equal: Round[] = [];
  const userspace = rates.get('engine') ?? FIRST_RATE;
  const xdp = taking.find(({ name }) => name === 'xdp');
  for (let count = 0; count <= rounds; count++) {
    for (const subject of count % 2 === 0 ? taking : taking.toReversed()) {
      const result = await round(traffic, subject, rates.get(subject.name) ?? FIRST_RATE, durationMs);
      if (count > 0) highest.get(subject.name)?.push(result);
    }
    if (xdp !== undefined) {
      const result = await round(traffic, xdp, userspace, durationMs);
      if (count > 0) equal.push(result);
    }
  }
  return taking.map(({ name }) => ({
    name,
    atItsHighest: costOf(rates.get(name) ?? 0, highest.get(name) ?? []),
    atEqualRate: name === 'xdp' ? costOf(userspace, equal) : undefined,
  }));
}

/** ns of the attached program alone, by the kernel's own count, which reads the clock twice a packet. */
export async function programTime(
  subjects: Subjects,
  traffic: LiveTraffic,
  xdp: Subject,
  rate: number,
): Promise<number> {
  const { relay } = subjects.topology;
  const links = await relay.mustRun('ip', ['-details', 'link', 'show', 'client0']);
  const id = /prog\/xdp id (\d+)/.exec(links)?.[1];
  if (id === undefined) throw new Error('client0 has no program');
  const read = async (): Promise<{ readonly run_time_ns?: number; readonly run_cnt?: number }> =>
    JSON.parse(await mustRun('bpftool', ['-j', 'prog', 'show', 'id', id])) as {
      readonly run_time_ns?: number;
    };
  await mustRun('sysctl', ['-qw', 'kernel.bpf_stats_enabled=1']);
  try {
    const before = await read();
    await traffic.run({ protocol: 'omerta', port: xdp.port, legs: LEGS, rate, durationMs: 300 });
    const after = await read();
    const runs = (after.run_cnt ?? 0) - (before.run_cnt ?? 0);
    return ((after.run_time_ns ?? 0) - (before.run_time_ns ?? 0)) / runs;
  } finally {
    await mustRun('sysctl', ['-qw', 'kernel.bpf_stats_enabled=0']);
  }
}

export interface Restart {
  /** Frames that came to the relay's interface, and those of them that did not arrive. */
  readonly sent: number;
  readonly lost: number;
  /** Frames the generator had no room for in the cable, which holds 256: they never came to the relay. */
  readonly refused: number;
  readonly programs: number;
}

/**
 * The daemon is killed under load, and another started that adopts its legs and puts its own program in
 * place. What is sent and what arrives is counted from before to after.
 */
export async function restart(
  subjects: Subjects,
  traffic: LiveTraffic,
  xdp: Awaited<ReturnType<typeof startXdp>>,
  rate: number,
): Promise<Restart & { readonly successor: Awaited<ReturnType<typeof startXdp>> }> {
  const { relay } = subjects.topology;
  const program = async (): Promise<string> =>
    /prog\/xdp id (\d+)/.exec(await relay.mustRun('ip', ['-details', 'link', 'show', 'client0']))?.[1] ?? '';
  const refusals = async (): Promise<number> =>
    Number(
      /tx_queue_0_xdp_xmit_errors: (\d+)/.exec(
        await subjects.topology.client.mustRun('ethtool', ['-S', 'eth0']),
      )?.[1],
    );
  const seen = new Set([await program()]);
  const before = await refusals();
  const load = traffic.run({ protocol: 'omerta', port: xdp.port, legs: LEGS, rate, durationMs: 5000 });
  await sleep(1000);
  xdp.process.kill('SIGKILL');
  await sleep(500);
  seen.add(await program());
  const successor = await startXdp(subjects, xdp.port, '0');
  seen.add(await program());
  const { sent, received } = await load;
  const refused = (await refusals()) - before;
  return { sent: sent - refused, lost: sent - refused - received, refused, programs: seen.size, successor };
}
