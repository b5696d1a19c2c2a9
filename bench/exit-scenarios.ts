// What is measured of an exit, one subject and one round at a time.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mustRun } from '../ts/lab/command.js';
import { tcpThroughput } from '../ts/lab/iperf.js';
import { ECHO_PORT, FAR, WEB, type Subject } from './exit-subjects.js';
import { residentBytes } from './process-cpu.js';

/** What a scenario measured of one subject in one round. */
export type Round = Readonly<Record<string, number>>;

export interface Scenario {
  readonly id: string;
  readonly title: string;
  readonly columns: readonly {
    readonly field: string;
    readonly title: string;
    /** What one of the printed numbers stands for. */
    readonly unit: number;
  }[];
  readonly needsIpv6?: boolean;
  measure(subject: Subject, context: Context): Promise<Round>;
}

export interface Context {
  /** Whole seconds of a TCP measurement. */
  readonly tcpSeconds: number;
  readonly roundTrips: number;
  /** Connections that stay open. */
  readonly flows: number;
}

/** ns of this machine's processors that were not idle since it started, all processes' and the kernel's (proc_stat(5)). */
function busyNs(): number {
  const [, ...fields] = readFileSync('/proc/stat', 'utf8').split('\n')[0]?.split(/\s+/) ?? [];
  const ticks = fields
    .slice(0, 8)
    .reduce((sum, text, index) => sum + (index === 3 || index === 4 ? 0 : Number(text)), 0);
  return ticks * 1e7; // USER_HZ is 100
}

function tcp(direction: 'up' | 'down', family: 4 | 6): Scenario {
  const host = family === 4 ? WEB.ipv4 : WEB.ipv6;
  return {
    id: `tcp-${direction}-ipv${family}`,
    title: `TCP, one stream, ${direction === 'up' ? 'from the guest' : 'to the guest'}, IPv${family}`,
    columns: [
      { field: 'bitsPerSecond', title: 'Mbit/s', unit: 1e6 },
      { field: 'cpuNsPerByte', title: 'CPU s/GB, all of the machine', unit: 1 },
    ],
    needsIpv6: family === 6,
    async measure({ guest, web }, { tcpSeconds }) {
      const before = busyNs();
      const { megabitsPerSecond, bytes } = await tcpThroughput(
        guest,
        web,
        host,
        tcpSeconds,
        1,
        direction === 'down',
      );
      return { bitsPerSecond: megabitsPerSecond * 1e6, cpuNsPerByte: (busyNs() - before) / bytes };
    },
  };
}

/** By the long line, where what counts is how loss is mended. */
function overLine(direction: 'up' | 'down'): Scenario {
  return {
    id: `line-${direction}`,
    title: `TCP, one stream, ${direction === 'up' ? 'from the guest' : 'to the guest'}, 20 ms and 0.1 % loss beyond the exit`,
    columns: [{ field: 'bitsPerSecond', title: 'Mbit/s', unit: 1e6 }],
    async measure({ guest, far }, { tcpSeconds }) {
      const seconds = tcpSeconds + 2; // it takes a second to become fast
      const measured = await tcpThroughput(guest, far, FAR, seconds, 1, direction === 'down');
      return { bitsPerSecond: measured.megabitsPerSecond * 1e6 };
    },
  };
}

/** One byte to the web server and back by an open connection, one after the other; prints the round trips in ns. */
const ROUND_TRIPS = `
  import { connect } from 'node:net';
  const [host, port, count, seconds] = process.argv.slice(1);
  const socket = connect({ host, port: Number(port), noDelay: true });
  const last = Date.now() + 1000 * Number(seconds);
  const found = [];
  let begun;
  const send = () => { begun = process.hrtime.bigint(); socket.write('x'); };
  socket.on('connect', send).on('data', () => {
    found.push(Number(process.hrtime.bigint() - begun));
    if (found.length < Number(count) && Date.now() < last) setTimeout(send, 1);
    else { console.log(JSON.stringify(found.sort((a, b) => a - b))); process.exit(); }
  });
`;

async function roundTrips({ guest }: Subject, count: number, seconds: number): Promise<Round> {
  const text = await guest.mustRun(process.execPath, [
    ...['--input-type=module', '-e', ROUND_TRIPS],
    ...[WEB.ipv4, ...[ECHO_PORT, count, seconds].map(String)],
  ]);
  const sorted = JSON.parse(text) as number[];
  const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? NaN;
  return { p50Ns: at(0.5), p99Ns: at(0.99) };
}

const P50_P99 = [
  { field: 'p50Ns', title: 'p50 µs', unit: 1000 },
  { field: 'p99Ns', title: 'p99 µs', unit: 1000 },
] as const;

const LATENCY: Scenario = {
  id: 'round-trip',
  title: 'one byte there and back by an open connection, idle',
  columns: P50_P99,
  measure: (subject, { roundTrips: count }) => roundTrips(subject, count, Infinity),
};

const LOADED: Scenario = {
  id: 'round-trip-loaded',
  title: 'the same while one stream sends as fast as it goes',
  columns: P50_P99,
  async measure(subject, { roundTrips: count, tcpSeconds }) {
    const { guest, web } = subject;
    const load = tcpThroughput(guest, web, WEB.ipv4, tcpSeconds + 1);
    const [measured] = await Promise.all([roundTrips(subject, count, tcpSeconds), load]);
    return measured;
  },
};

/** So many at once: less than an exit lets one guest have connecting (128). */
const AT_ONCE = 120;
/** Connections that are begun together, each with a byte there and back; prints the ns until the last has its byte. */
const CONNECTIONS = `
  import { connect } from 'node:net';
  const [host, port, count] = process.argv.slice(1);
  const begun = process.hrtime.bigint();
  let left = Number(count);
  for (let each = 0; each < Number(count); each++) {
    const socket = connect({ host, port: Number(port), noDelay: true });
    socket.on('connect', () => socket.write('x')).once('data', () => {
      if (--left > 0) return;
      console.log(Number(process.hrtime.bigint() - begun));
      process.exit();
    });
  }
`;

const CONNECT: Scenario = {
  id: 'connections',
  title: `connections, ${AT_ONCE} begun at once, until each has had a byte there and back`,
  columns: [{ field: 'perSecond', title: 'per second', unit: 1 }],
  async measure({ guest }) {
    const text = await guest.mustRun(process.execPath, [
      ...['--input-type=module', '-e', CONNECTIONS],
      ...[WEB.ipv4, String(ECHO_PORT), String(AT_ONCE)],
    ]);
    return { perSecond: AT_ONCE / (Number(text) / 1e9) };
  },
};

/** Of them so many are begun in a second: an exit lets one guest begin 200. */
const FLOWS_PER_SECOND = 150;
/** Opens connections, each with a byte there and back, and keeps them until standard input ends; prints a line when all are open. */
const FLOWS = `
  import { connect } from 'node:net';
  const [host, port, count, perSecond] = process.argv.slice(1);
  let begun = 0, open = 0;
  const timer = setInterval(() => {
    if (++begun === Number(count)) clearInterval(timer);
    const socket = connect({ host, port: Number(port) });
    socket.on('connect', () => socket.write('x')).once('data', () => ++open === Number(count) && console.log('open'));
  }, 1000 / Number(perSecond));
  process.stdin.on('end', () => process.exit()).resume();
`;

/** What the exit's processes have resident, and what the kernel has in slabs, for all of the machine. */
async function memory({ exit }: Subject): Promise<{ readonly processes: number; readonly kernel: number }> {
  const ids = (await mustRun('ip', ['netns', 'pids', exit.name])).trim().split(/\s+/).filter(Boolean);
  const slab = /^Slab:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  return {
    processes: ids.reduce((sum, id) => sum + residentBytes(Number(id)), 0),
    kernel: Number(slab) * 1024,
  };
}

const IDLE_FLOWS: Scenario = {
  id: 'idle-flows',
  title: 'memory of a connection that is open and idle',
  columns: [
    { field: 'processBytes', title: "kB, the exit's processes", unit: 1000 },
    { field: 'kernelBytes', title: 'kB, the kernel, both ends of the connection included', unit: 1000 },
  ],
  async measure(subject, { flows }) {
    const before = await memory(subject);
    const args = [WEB.ipv4, ...[ECHO_PORT, flows, FLOWS_PER_SECOND].map(String)];
    const holder = subject.guest.spawn(process.execPath, ['--input-type=module', '-e', FLOWS, ...args], {
      stdio: ['pipe', 'pipe', 2],
    });
    if (holder.stdin === null || holder.stdout === null) throw new Error('the connections cannot be begun');
    await once(holder.stdout, 'data');
    const after = await memory(subject);
    holder.stdin.end();
    await once(holder, 'exit');
    return {
      processBytes: (after.processes - before.processes) / flows,
      kernelBytes: (after.kernel - before.kernel) / flows,
    };
  },
};

export const SCENARIOS: readonly Scenario[] = [
  tcp('up', 4),
  tcp('down', 4),
  tcp('up', 6),
  tcp('down', 6),
  overLine('up'),
  overLine('down'),
  LATENCY,
  LOADED,
  CONNECT,
  IDLE_FLOWS,
];
