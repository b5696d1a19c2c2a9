// What is measured: the engine and its peers, each a process of its own in the relay's namespace, all
// on the same core. They are started once; one that is not driven costs nothing.

import { execFileSync, type ChildProcess } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { IoChoice } from '../ts/contract/engine.js';
import { idOf, processCpu } from './process-cpu.js';
import type { RelayReport } from './relay-process.js';
import { CLIENT_IP, RELAY_IP, SERVER_IP, type Topology } from './relay-topology.js';

/** The relay's core; generator and sink share the other. */
export const RELAY_CORE = '1';
export const LOAD_CORE = '0';
export const FLOWS = 4;

export const FORWARDERS = ['single', 'batch', 'gather', 'coalesced', 'dgram'] as const;
type ForwarderName = (typeof FORWARDERS)[number];
export const ENGINES = ['engine', 'engine-1k', 'engine-1m'] as const;
type EngineName = (typeof ENGINES)[number];
export type SubjectName = EngineName | 'engine-io-uring' | ForwarderName | 'xdp' | 'coturn' | 'none';

export const TITLES: Readonly<Record<SubjectName, string>> = {
  engine: 'Omerta relay',
  'engine-io-uring': 'Omerta relay, io_uring',
  'engine-1k': 'Omerta relay, 1,000 legs',
  'engine-1m': 'Omerta relay, 1,000,000 legs',
  xdp: 'Omerta relay, XDP',
  single: 'recvfrom/sendto forwarder',
  batch: 'recvmmsg/sendmmsg forwarder',
  gather: 'recvmmsg/gathered GSO forwarder',
  coalesced: 'recvmsg/sendmsg forwarder, GRO and GSO',
  dgram: 'node:dgram forwarder',
  coturn: 'coturn',
  none: 'no relay (routed)',
};

export interface Subject {
  readonly name: SubjectName;
  /** How the generator dresses its datagrams, and what the sink expects. */
  readonly protocol: 'omerta' | 'plain' | 'turn';
  readonly address: string;
  readonly port: number;
  readonly legs: number;
  readonly destinations: number;
  /** CPU the process has used, ns; undefined when there is no process. */
  cpu(): number | undefined;
  /** The engine's own word on CPU, memory and counters. */
  report(): Promise<RelayReport | undefined>;
}

/** The engine in a process. */
export interface RelayProcess extends Subject {
  readonly process: ChildProcess;
  /** Packets its legs have carried, by their counters. */
  carried(): Promise<number>;
}

/** What a relay's process is started with beside its legs. */
export interface RelayOptions {
  /** Whether it has its kernel path on the topology's interfaces. */
  readonly xdp?: boolean;
  /** How it calls its sockets. */
  readonly io?: IoChoice;
  readonly port?: number | undefined;
  readonly core?: string | undefined;
  /** The folder of another release (ts/lab/release.ts). */
  readonly installation?: string | undefined;
}

function linesOf(child: ChildProcess): Interface {
  if (child.stdout === null) throw new Error('standard output is not a pipe');
  return createInterface({ input: child.stdout });
}

function nextLine(lines: Interface, child: ChildProcess, what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const ended = (): void => reject(new Error(`${what} ended before it answered`));
    child.once('exit', ended);
    lines.once('line', (line) => {
      child.off('exit', ended);
      resolve(line);
    });
  });
}

export class Subjects {
  #nextPort = 20_000;
  constructor(
    readonly topology: Topology,
    /** The folder of the built tools. */
    readonly tools: string,
  ) {}

  #spawn(command: readonly string[], core = RELAY_CORE): ChildProcess {
    return this.topology.relay.spawn('taskset', ['-c', core, ...command], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  }

  async #startReady(
    name: SubjectName,
    command: readonly string[],
    core = RELAY_CORE,
  ): Promise<[ChildProcess, Interface]> {
    const child = this.#spawn(command, core);
    const lines = linesOf(child);
    const said = await nextLine(lines, child, TITLES[name]);
    if (said !== 'ready') throw new Error(`${TITLES[name]} said "${said}" and not "ready"`);
    return [child, lines];
  }

  async engine(name: EngineName): Promise<Subject> {
    const legs = name === 'engine-1m' ? 1_000_000 : 1_000;
    // The comparison of table sizes sends a datagram of another leg each time to one address, so that
    // look-ups and nothing else differ.
    return this.relay(name, { legs, flows: FLOWS, destinations: name === 'engine' ? 4 : 1 });
  }

  /** The reason when io_uring cannot be had. */
  async ioUringEngine(): Promise<Subject | string> {
    const plan = { legs: 1000, flows: FLOWS, destinations: 4 };
    return this.relay('engine-io-uring', plan, { io: 'io_uring' }).catch(
      (error: unknown) => (error as Error).message,
    );
  }

  /** The engine with these legs. */
  async relay(
    name: SubjectName,
    plan: { readonly legs: number; readonly flows: number; readonly destinations: number },
    options: RelayOptions = {},
  ): Promise<RelayProcess> {
    const { legs, flows, destinations } = plan;
    const { xdp = false, io = 'mmsg', port = this.#nextPort++, core = RELAY_CORE, installation } = options;
    const program =
      installation === undefined
        ? fileURLToPath(new URL('relay-process.js', import.meta.url))
        : `${installation}/dist/bench/relay-process.js`;
    const [child, lines] = await this.#startReady(
      name,
      [
        process.execPath,
        '--expose-gc',
        program,
        ...['--port', String(port), '--legs', String(legs), '--client', CLIENT_IP, '--server', SERVER_IP],
        ...['--flows', String(flows), '--destinations', String(destinations), '--io', io],
        ...(xdp ? ['--interfaces', 'client0,server0', '--bind', RELAY_IP] : []),
      ],
      core,
    );
    const id = idOf(child);
    const ask = async (question: 'report' | 'carried'): Promise<unknown> => {
      const line = nextLine(lines, child, TITLES[name]);
      child.stdin?.write(`${question}\n`);
      return JSON.parse(await line) as unknown;
    };
    return {
      ...{ name, protocol: 'omerta', address: RELAY_IP, port, legs, destinations, process: child },
      cpu: () => processCpu(id),
      report: async () => (await ask('report')) as RelayReport,
      carried: async () => (await ask('carried')) as number,
    };
  }

  async forwarder(name: ForwarderName): Promise<Subject> {
    const port = this.#nextPort++;
    const destinations = 4;
    const options = ['--port', String(port), '--server', SERVER_IP, '--destinations', String(destinations)];
    const command =
      name === 'dgram'
        ? [process.execPath, fileURLToPath(new URL('dgram-forwarder.js', import.meta.url))]
        : [`${this.tools}/forwarder`, '--mode', name];
    const [child] = await this.#startReady(name, [...command, ...options]);
    const id = idOf(child);
    return {
      ...{ name, protocol: 'plain', address: RELAY_IP, port, legs: 1000, destinations },
      cpu: () => processCpu(id),
      report: () => Promise.resolve(undefined),
    };
  }

  /** The reason when coturn is not installed. */
  async coturn(): Promise<Subject | string> {
    try {
      execFileSync('sh', ['-c', 'command -v turnserver'], { stdio: 'ignore' });
    } catch {
      return 'coturn is not installed: sudo apt-get install coturn';
    }
    const port = this.#nextPort++;
    // No authentication: it is a matter of allocations, and channel data never carries any. One relay
    // thread, because there is one core.
    const child = this.#spawn([
      'turnserver',
      ...['-n', '--no-auth', '--no-cli', '--no-tls', '--no-dtls', '--no-tcp', '--no-tcp-relay'],
      ...['--listening-ip', RELAY_IP, '--relay-ip', '10.77.2.1', '--listening-port', String(port)],
      ...['--relay-threads', '1', '--log-file', '/dev/null', '--no-stdout-log', '--simple-log'],
      ...['--pidfile', '/dev/null', '--realm', 'bench'],
    ]);
    child.stdout?.resume();
    const id = idOf(child);
    const up = async (): Promise<boolean> =>
      (await this.topology.relay.mustRun('ss', ['-Hlun', `sport = :${port}`])) !== '';
    for (let attempt = 0; !(await up()); attempt++) {
      if (attempt === 50 || child.exitCode !== null) return 'turnserver did not open its port within 5 s';
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return {
      ...{ name: 'coturn', protocol: 'turn', address: RELAY_IP, port, legs: 1000, destinations: 4 },
      cpu: () => processCpu(id),
      report: () => Promise.resolve(undefined),
    };
  }

  /** Packets routed by the kernel: what the way costs without a relay on it. */
  none(): Subject {
    return {
      ...{ name: 'none', protocol: 'plain', address: SERVER_IP, port: 50_000, legs: 1000, destinations: 1 },
      cpu: () => undefined,
      report: () => Promise.resolve(undefined),
    };
  }
}
