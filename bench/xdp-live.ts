// Live frames through the relay benchmark's topology, and the CPU that forwards them.
//
//   core 0: generator (BPF_PROG_TEST_RUN with live frames), sink       core 1: everything of the relay's
//
// A packet handed to an interface is received by its NAPI, which would run where the sender is. Threaded
// NAPI makes a thread of it: it can be pinned to the relay's core, and the scheduler accounts for it.

import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { mustRun } from '../ts/lab/command.js';
import type { Namespace } from '../ts/lab/namespace.js';
import { processCpu } from './process-cpu.js';
import { CLIENT_IP, RELAY_IP, SERVER_IP, type Topology } from './relay-topology.js';
import { LOAD_CORE, RELAY_CORE } from './relay-subjects.js';

export interface Delivery {
  /** Frames on legs. */
  readonly sent: number;
  readonly garbage: number;
  readonly received: number;
  readonly repeated: number;
  readonly corrupt: number;
  readonly stale: number;
  /** How long the generator ran. */
  readonly ns: number;
  /** From the generator to the sink, of frames at a rate. */
  readonly latencyUs: { readonly p50: number; readonly p99: number };
}

export interface Load {
  readonly protocol: 'omerta' | 'turn';
  readonly port: number;
  readonly legs: number;
  /** Frames a second; 0 = as fast as it goes. */
  readonly rate: number;
  /** Garbage besides: 1 as fast as it goes, 2 half as much, and so on. */
  readonly flood?: number;
}

/** What `generate` (bench/native/xdp/live.bpf.c) sends from and to. */
export const LIVE_FLOWS = 16;
export const LIVE_DESTINATIONS = 4;

/** Ids of the NAPI threads of an interface whose name no other namespace's interface has. */
function napiThreads(name: string): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((id) => {
      try {
        return readFileSync(`/proc/${id}/comm`, 'utf8').startsWith(`napi/${name}-`);
      } catch {
        return false; // ended
      }
    });
}

interface Link {
  readonly address: string;
}

export class LiveTraffic {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  #threads: readonly number[] = [];

  private constructor(
    private readonly topology: Topology,
    child: ChildProcess,
    lines: Interface,
  ) {
    this.#child = child;
    this.#lines = lines;
  }

  static async start(topology: Topology, tools: string): Promise<LiveTraffic> {
    const { client, relay, server } = topology;
    const mac = async (namespace: Namespace, name: string): Promise<string> => {
      const [link] = JSON.parse(await namespace.mustRun('ip', ['-json', 'link', 'show', name])) as [Link];
      return link.address;
    };
    // coturn's clients send by sockets, whose checksums are the interface's to compute.
    await client.mustRun('ethtool', ['-K', 'eth0', 'tx', 'off']);
    // Neighbours are known: a machine that relays has been talked to.
    await relay.ip(
      `neigh replace ${SERVER_IP} lladdr ${await mac(server, 'eth0')} dev server0 nud permanent`,
      `neigh replace ${CLIENT_IP} lladdr ${await mac(client, 'eth0')} dev client0 nud permanent`,
      'link set lo up',
    );
    const child = topology.client.spawn(
      'taskset',
      [
        ...['-c', LOAD_CORE, `${tools}/xdp/xdp_traffic`],
        ...['--client-netns', `/run/netns/${client.name}`, '--server-netns', `/run/netns/${server.name}`],
        ...['--client', CLIENT_IP, '--relay', RELAY_IP, '--relay-mac', await mac(relay, 'client0')],
        ...['--server', SERVER_IP],
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    if (child.stdout === null) throw new Error('standard output is not a pipe');
    const lines = createInterface({ input: child.stdout });
    const traffic = new LiveTraffic(topology, child, lines);
    if ((await traffic.#line()) !== 'ready') throw new Error('xdp_traffic is not ready');
    return traffic;
  }

  #line(): Promise<string> {
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error('xdp_traffic ended before it answered'));
      this.#child.once('exit', ended);
      this.#lines.once('line', (line) => {
        this.#child.off('exit', ended);
        resolve(line);
      });
    });
  }

  /** To be called when the relay's program is attached: its interface then has NAPI. */
  async pin(): Promise<void> {
    const { relay, server } = this.topology;
    await this.topology.withSysfs(relay, 'echo 1 > /sys/class/net/client0/threaded');
    await this.topology.withSysfs(server, 'echo 1 > /sys/class/net/eth0/threaded');
    this.#threads = napiThreads('client0');
    if (this.#threads.length === 0) throw new Error('client0 has no NAPI thread');
    const sinks = napiThreads('eth0');
    for (const id of this.#threads) await mustRun('taskset', ['-pc', RELAY_CORE, String(id)]);
    for (const id of sinks) await mustRun('taskset', ['-pc', LOAD_CORE, String(id)]);
    // Receiving goes before processes, as an interrupt does; a queue holds no more than 256 frames. Linux
    // stops such threads for a twentieth of each second they fill (kernel.sched_rt_runtime_us).
    for (const id of [...this.#threads, ...sinks]) await mustRun('chrt', ['-f', '-p', '1', String(id)]);
  }

  /** ns the relay's interface has spent on a CPU: receiving, the XDP program, and sending what it sends on. */
  cpu(): number {
    return this.#threads.reduce((sum, id) => sum + processCpu(id), 0);
  }

  end(): void {
    this.#child.stdin?.end();
  }

  async #deliver(load: Load, durationMs: number): Promise<Delivery> {
    const { protocol, port, legs, rate, flood } = load;
    const answer = this.#line();
    this.#child.stdin?.write(`${protocol} ${port} ${legs} ${Math.round(rate)} ${durationMs} ${flood ?? 0}\n`);
    const delivery = JSON.parse(await answer) as Delivery;
    if (delivery.corrupt > 0) throw new Error(`${delivery.corrupt} frames arrived corrupt`);
    if (delivery.repeated > 0) throw new Error(`${delivery.repeated} frames arrived once more`);
    return delivery;
  }

  run(load: Load & { readonly durationMs: number }): Promise<Delivery> {
    return this.#deliver(load, load.durationMs);
  }

  /** Goes on until it is stopped. */
  start(load: Load): { stop(): Promise<Delivery> } {
    const delivery = this.#deliver(load, 0);
    delivery.catch(() => undefined); // it is told by stop()
    return {
      stop: () => {
        this.#child.stdin?.write('stop\n');
        return delivery;
      },
    };
  }
}
