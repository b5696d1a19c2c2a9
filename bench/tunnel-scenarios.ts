// What is measured of a userspace WireGuard, one round at a time.

import { mustRun } from '../ts/lab/command.js';
import { tcpThroughput } from '../ts/lab/iperf.js';
import { PORT, Tunnel, type WireguardInterface } from './wireguard-interface.js';
import type { ImplementationName } from './wireguard-implementations.js';

/** What a scenario measured of one implementation in one round. */
export type Round = Readonly<Record<string, number>>;

export interface Column {
  readonly field: string;
  readonly title: string;
  /** What one of the printed numbers stands for, e.g. 1000 for kilo; `percent` for a fraction. */
  readonly unit: number | 'percent';
}

/** An implementation under test. */
export interface Subject {
  readonly name: ImplementationName;
  readonly tunnel: Tunnel;
  /** An interface with many peers. */
  readonly crowd: WireguardInterface;
  readonly crowdBytes: number;
}

export interface Scenario {
  readonly id: string;
  readonly title: string;
  readonly columns: readonly Column[];
  /** One round over all subjects, in this order. */
  measure(subjects: readonly Subject[], context: Context): Promise<Map<ImplementationName, Round>>;
}

export interface Context {
  /** The folder of the built tools. */
  readonly tools: string;
  /** Whole seconds of a TCP measurement. */
  readonly tcpSeconds: number;
  readonly udpMs: number;
  readonly pings: number;
  readonly handshakes: number;
}

async function each(
  subjects: readonly Subject[],
  measure: (subject: Subject) => Promise<Round>,
): Promise<Map<ImplementationName, Round>> {
  const rounds = new Map<ImplementationName, Round>();
  for (const subject of subjects) rounds.set(subject.name, await measure(subject));
  return rounds;
}

/** Runs `work` and returns the CPU both ends used meanwhile, ns. */
async function withCpu<T>({ left, right }: Tunnel, work: Promise<T>): Promise<[T, number, number]> {
  const [leftBefore, rightBefore] = [left.cpu(), right.cpu()];
  const result = await work;
  return [result, left.cpu() - leftBefore, right.cpu() - rightBefore];
}

function tcp(streams: number): Scenario {
  return {
    id: `tcp-${streams}`,
    title: `TCP, ${streams === 1 ? 'one stream' : `${streams} streams`}`,
    columns: [
      { field: 'bitsPerSecond', title: 'Mbit/s', unit: 1e6 },
      { field: 'senderNsPerKilobyte', title: 'CPU ns/KB sender', unit: 1 },
      { field: 'receiverNsPerKilobyte', title: 'receiver', unit: 1 },
    ],
    measure: (subjects, { tcpSeconds }) =>
      each(subjects, async ({ tunnel }) => {
        const { left, right } = tunnel;
        const stream = tcpThroughput(left.namespace, right.namespace, Tunnel.RIGHT, tcpSeconds, streams);
        const [{ megabitsPerSecond, bytes }, sender, receiver] = await withCpu(tunnel, stream);
        return {
          bitsPerSecond: megabitsPerSecond * 1e6,
          senderNsPerKilobyte: (sender / bytes) * 1000,
          receiverNsPerKilobyte: (receiver / bytes) * 1000,
        };
      }),
  };
}

/** What bench/native/datagrams.cc prints. */
interface Delivery {
  readonly sent: number;
  readonly received: number;
  readonly duplicates: number;
  readonly corrupt: number;
  readonly receivingNs: number;
}

/** Datagrams that may be on their way: fewer than a TUN queue holds packets (500), or super-packets. */
const WINDOW = { burst: 400, bulk: 4096 } as const;

function udp(size: number, mode: 'burst' | 'bulk'): Scenario {
  const how = mode === 'burst' ? 'one by one' : 'in super-packets (UDP_SEGMENT)';
  return {
    id: `udp-${size}-${mode}`,
    title: `UDP, ${size.toLocaleString('en-US')} bytes, sent ${how}`,
    columns: [
      { field: 'packetsPerSecond', title: 'thousand/s', unit: 1000 },
      { field: 'loss', title: 'loss', unit: 'percent' },
      { field: 'senderNs', title: 'CPU ns/packet sender', unit: 1 },
      { field: 'receiverNs', title: 'receiver', unit: 1 },
    ],
    measure: (subjects, { tools, udpMs }) =>
      each(subjects, async ({ tunnel }) => {
        const { left, right } = tunnel;
        const work = mustRun(`${tools}/datagrams`, [
          ...['--from-netns', left.netns, '--to-netns', right.netns, '--to', Tunnel.RIGHT],
          ...['--size', String(size), '--mode', mode, '--window', String(WINDOW[mode])],
          ...['--duration-ms', String(udpMs)],
        ]);
        const [text, sender, receiver] = await withCpu(tunnel, work);
        const got = JSON.parse(text) as Delivery;
        if (got.received === 0 || got.duplicates + got.corrupt > 0)
          throw new Error(
            `${left.implementation.title}: of ${got.sent} datagrams ${got.received} arrived, ${got.duplicates} twice, ${got.corrupt} changed`,
          );
        return {
          packetsPerSecond: (got.received / got.receivingNs) * 1e9,
          loss: 1 - got.received / got.sent,
          senderNs: sender / got.received,
          receiverNs: receiver / got.received,
        };
      }),
  };
}

/** What bench/native/pings.cc prints of one tunnel. */
interface RoundTrips {
  readonly lost: number;
  readonly p50Ns: number;
  readonly p90Ns: number;
  readonly p99Ns: number;
}

const PING: Scenario = {
  id: 'ping',
  title: 'ping, idle, the implementations in turn',
  columns: [
    { field: 'p50Ns', title: 'p50 µs', unit: 1000 },
    { field: 'p90Ns', title: 'p90 µs', unit: 1000 },
    { field: 'p99Ns', title: 'p99 µs', unit: 1000 },
    { field: 'loss', title: 'loss', unit: 'percent' },
  ],
  async measure(subjects, { tools, pings }) {
    const targets = subjects.map(({ tunnel }) => `${tunnel.left.netns}=${Tunnel.RIGHT}`);
    const options = ['--count', String(pings), '--interval-us', '1000'];
    const results = JSON.parse(await mustRun(`${tools}/pings`, [...options, ...targets])) as RoundTrips[];
    return new Map(
      subjects.map(({ name }, index) => {
        const { lost, p50Ns, p90Ns, p99Ns } = results[index] ?? { lost: NaN, p50Ns: 0, p90Ns: 0, p99Ns: 0 };
        return [name, { p50Ns, p90Ns, p99Ns, loss: lost / pings }];
      }),
    );
  },
};

export const CROWD = 10_000;
/** Below what any of them takes for a flood and answers with a cookie. */
const HANDSHAKES_PER_SECOND = 500;

/** What bench/native/handshakes.cc prints. */
interface Handshakes {
  readonly sent: number;
  readonly completed: number;
  readonly cookies: number;
}

const HANDSHAKE: Scenario = {
  id: 'handshake',
  title: `handshakes answered, ${CROWD.toLocaleString('en-US')} peers configured, ${HANDSHAKES_PER_SECOND}/s`,
  columns: [
    { field: 'cpuNs', title: 'CPU µs each', unit: 1000 },
    { field: 'perCore', title: 'per second and core', unit: 1 },
    { field: 'residentBytes', title: 'MB resident before', unit: 1e6 },
  ],
  measure: (subjects, { tools, handshakes }) =>
    each(subjects, async ({ crowd, crowdBytes }) => {
      const before = crowd.cpu();
      const text = await mustRun(`${tools}/handshakes`, [
        ...['--netns', crowd.netns, '--to', '127.0.0.1', '--port', String(PORT)],
        ...['--public-key', Buffer.from(crowd.publicKey, 'base64').toString('hex')],
        ...['--count', String(handshakes), '--rate', String(HANDSHAKES_PER_SECOND)],
      ]);
      const cpuNs = (crowd.cpu() - before) / handshakes;
      const { sent, completed, cookies } = JSON.parse(text) as Handshakes;
      if (completed < sent)
        throw new Error(
          `${crowd.implementation.title}: ${completed} of ${sent} handshakes, ${cookies} cookies`,
        );
      return { cpuNs, perCore: 1e9 / cpuNs, residentBytes: crowdBytes };
    }),
};

export const SCENARIOS: readonly Scenario[] = [
  tcp(1),
  tcp(8),
  udp(64, 'burst'),
  udp(64, 'bulk'),
  udp(1300, 'burst'),
  udp(1300, 'bulk'),
  PING,
  HANDSHAKE,
];
