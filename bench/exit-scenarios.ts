// What is measured of an exit, one subject and one round at a time.

import { readFileSync } from 'node:fs';
import { tcpThroughput } from '../ts/lab/iperf.js';
import { ECHO_PORT, WEB, type Subject } from './exit-subjects.js';

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
  measure(subject: Subject, context: Context): Promise<Round>;
}

export interface Context {
  /** Whole seconds of a TCP measurement. */
  readonly tcpSeconds: number;
  readonly roundTrips: number;
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

/** One byte to the web server and back by an open connection, one after the other; prints the round trips in ns. */
const ROUND_TRIPS = `
  import { connect } from 'node:net';
  const [host, port, count] = process.argv.slice(1);
  const socket = connect({ host, port: Number(port), noDelay: true });
  const found = [];
  let begun;
  const send = () => { begun = process.hrtime.bigint(); socket.write('x'); };
  socket.on('connect', send).on('data', () => {
    found.push(Number(process.hrtime.bigint() - begun));
    if (found.length < Number(count)) setTimeout(send, 1);
    else { console.log(JSON.stringify(found.sort((a, b) => a - b))); process.exit(); }
  });
`;

const LATENCY: Scenario = {
  id: 'round-trip',
  title: 'one byte there and back by an open connection, idle',
  columns: [
    { field: 'p50Ns', title: 'p50 µs', unit: 1000 },
    { field: 'p99Ns', title: 'p99 µs', unit: 1000 },
  ],
  async measure({ guest }, { roundTrips }) {
    const text = await guest.mustRun(process.execPath, [
      ...['--input-type=module', '-e', ROUND_TRIPS],
      ...[WEB.ipv4, String(ECHO_PORT), String(roundTrips)],
    ]);
    const sorted = JSON.parse(text) as number[];
    const at = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? NaN;
    return { p50Ns: at(0.5), p99Ns: at(0.99) };
  },
};

/** So many at once: less than an exit lets one guest begin in a second (200). */
const AT_ONCE = 150;
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

export const SCENARIOS: readonly Scenario[] = [
  tcp('up', 4),
  tcp('down', 4),
  tcp('up', 6),
  tcp('down', 6),
  LATENCY,
  CONNECT,
];
