// One scenario of the relay benchmark: every subject in turn, round after round, the order reversed each
// time, the first round discarded.

import { run as runToEnd } from '../ts/lab/command.js';
import { CLIENT_IP, SERVER_IP } from './relay-topology.js';
import { FLOWS, LOAD_CORE, TITLES, type Subject, type SubjectName, type Subjects } from './relay-subjects.js';
import { spread, type Spread } from './spread.js';

export interface Scenario {
  readonly id: string;
  readonly title: string;
  readonly mode: 'single' | 'batched' | 'bulk';
  /** Bytes of the whole frame, which is the UDP payload. */
  readonly size: number;
  readonly subjects: readonly SubjectName[];
  /** Datagrams per second; undefined = as fast as the generator can. */
  readonly rate?: number;
  /** bulk: every datagram of a message is another leg's, and with that another destination's. */
  readonly mixed?: boolean;
  /** The relay's interface coalesces single datagrams. */
  readonly tuned?: boolean;
}

/** The generator's exit code when a TURN server refused it or did not answer. */
const NOT_SERVED = 3;

/** What the generator prints, see bench/native/generator.cc. */
interface Delivery {
  readonly sent: number;
  readonly received: number;
  readonly duplicates: number;
  readonly corrupt: number;
  /** Of an earlier run. */
  readonly stale: number;
  readonly sinkOverflow: number;
  readonly receivingNs: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
}

export interface Round {
  /** CPU of the relay process per datagram that arrived; undefined without a process. */
  readonly nsPerPacket: number | undefined;
  readonly packetsPerSecond: number;
  /** Fraction of the datagrams sent that did not arrive. */
  readonly loss: number;
  /** CPU time over wall time while datagrams arrived: near 1 is saturated. */
  readonly busy: number | undefined;
  readonly p50Ns: number;
  readonly p99Ns: number;
  /** The engine's getrusage over the scheduler's sum; undefined for others. */
  readonly accounting: number | undefined;
}

export type Measurements = ReadonlyMap<SubjectName, readonly Round[]>;

/** One field over a subject's rounds; undefined when the subject or the field is absent. */
export function spreadOf(
  measurements: Measurements | undefined,
  name: SubjectName,
  field: (round: Round) => number | undefined,
): Spread | undefined {
  const values = (measurements?.get(name) ?? []).map(field).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : spread(values);
}

/** A field of one subject over another's, round by round: what shakes both shakes the ratio little. */
export function ratioOf(
  measurements: Measurements | undefined,
  name: SubjectName,
  other: SubjectName,
  field: (round: Round) => number | undefined,
): Spread | undefined {
  const rounds = measurements?.get(name) ?? [];
  const others = measurements?.get(other) ?? [];
  const ratios = rounds.flatMap((round, i) => {
    const another = others[i];
    const [a, b] = [field(round), another === undefined ? undefined : field(another)];
    return a === undefined || b === undefined ? [] : [a / b];
  });
  return ratios.length === 0 ? undefined : spread(ratios);
}

/** Undefined when the machine was so busy that one run's datagrams were not all counted in it. */
async function measure(
  { tools, topology }: Subjects,
  scenario: Scenario,
  subject: Subject,
  durationMs: number,
): Promise<Round | undefined> {
  const netns = (name: string): string => `/run/netns/${name}`;
  const before = await subject.report();
  const cpuBefore = subject.cpu();
  const { code, stdout, stderr } = await runToEnd('taskset', [
    ...['-c', LOAD_CORE, `${tools}/generator`],
    ...['--client-netns', netns(topology.client.name), '--server-netns', netns(topology.server.name)],
    ...['--relay', subject.address, '--relay-port', String(subject.port), '--server', SERVER_IP],
    ...['--protocol', subject.protocol, '--mode', scenario.mode, '--size', String(scenario.size)],
    ...['--flows', String(FLOWS), '--destinations', String(subject.destinations)],
    ...['--legs', String(subject.legs), '--duration-ms', String(durationMs)],
    ...(scenario.rate === undefined ? [] : ['--rate', String(scenario.rate)]),
    ...(scenario.mixed === true ? ['--mixed'] : []),
  ]);
  const cpuAfter = subject.cpu();
  const after = await subject.report();
  if (code === NOT_SERVED) return undefined;
  if (code !== 0) throw new Error(`the generator ended with code ${code}: ${stderr.trim()}`);
  const got = JSON.parse(stdout) as Delivery;
  const where = `${TITLES[subject.name]}, ${scenario.title}`;
  if (got.received === 0) throw new Error(`${where}: nothing arrived (client ${CLIENT_IP})`);
  if (got.corrupt + got.duplicates > 0) {
    throw new Error(`${where}: ${got.corrupt} corrupt and ${got.duplicates} duplicate datagrams`);
  }
  const cpu = cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore;
  if (before !== undefined && after !== undefined) {
    // The relay's own count must agree with what the sink saw, or CPU is divided by the wrong number.
    const forwarded = (after.counters.forwarded_packets ?? 0) - (before.counters.forwarded_packets ?? 0);
    if (Math.abs(forwarded - got.received) > got.received / 1000) return undefined;
  }
  if (got.sinkOverflow + got.stale > got.received / 1000) return undefined;
  const ownCpu = before === undefined || after === undefined ? undefined : (after.cpuUs - before.cpuUs) * 1e3;
  return {
    nsPerPacket: cpu === undefined ? undefined : cpu / got.received,
    packetsPerSecond: (got.received / got.receivingNs) * 1e9,
    loss: 1 - got.received / got.sent,
    busy: cpu === undefined ? undefined : cpu / got.receivingNs,
    p50Ns: got.p50Ns,
    p99Ns: got.p99Ns,
    accounting: cpu === undefined || ownCpu === undefined ? undefined : ownCpu / cpu,
  };
}

/** Measures a scenario: `rounds` kept ones after one that is discarded. */
export async function run(
  subjects: Subjects,
  available: ReadonlyMap<SubjectName, Subject>,
  scenario: Scenario,
  rounds: number,
  durationMs: number,
): Promise<Measurements> {
  const taking = scenario.subjects.map((name) => available.get(name)).filter((s) => s !== undefined);
  const kept = new Map<SubjectName, Round[]>(taking.map(({ name }) => [name, []]));
  if (scenario.tuned === true) await subjects.topology.setTuned(true);
  for (let round = 0; round <= rounds; round++) {
    for (const subject of round % 2 === 0 ? taking : taking.toReversed()) {
      let result: Round | undefined;
      for (let attempt = 0; result === undefined; attempt++) {
        if (attempt === 3) throw new Error(`${scenario.title}: the machine is too busy to measure anything`);
        result = await measure(subjects, scenario, subject, durationMs);
      }
      if (round > 0) kept.get(subject.name)?.push(result);
    }
  }
  if (scenario.tuned === true) await subjects.topology.setTuned(false);
  return kept;
}
