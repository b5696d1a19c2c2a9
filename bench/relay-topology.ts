// Three network namespaces, two plain cables:
//
//   client eth0 ───── client0 relay server0 ───── eth0 server
//   10.77.1.2        10.77.1.1     10.77.2.1     10.77.2.2
//
// The names begin as those of a lab world do, so that what a killed benchmark left behind goes with
// what killed labs left behind. Everything is removed when the process ends, SIGINT and SIGTERM included.

import { execFileSync } from 'node:child_process';
import { constants } from 'node:os';
import { DEFER_HARD_IRQS, FLUSH_TIMEOUT_NS } from '../ts/host/host-tuning.js';
import { mustRun } from '../ts/lab/command.js';
import { Namespace } from '../ts/lab/namespace.js';
import { removePins } from '../ts/lab/pins.js';

export const CLIENT_IP = '10.77.1.2';
export const RELAY_IP = '10.77.1.1';
export const SERVER_IP = '10.77.2.2';

export interface Deferral {
  readonly timeoutNs: number;
  /** Polls without a packet before its interrupt, on a veth the sender, has to wake it again. */
  readonly empty: number;
}

export const NO_DEFERRAL: Deferral = { timeoutNs: 0, empty: 0 };
/** What `omerta doctor` advises. */
export const ADVISED: Deferral = { timeoutNs: FLUSH_TIMEOUT_NS, empty: DEFER_HARD_IRQS };

export class Topology {
  readonly client = new Namespace(`om-${process.pid}-0-client`);
  readonly relay = new Namespace(`om-${process.pid}-0-relay`);
  readonly server = new Namespace(`om-${process.pid}-0-server`);

  static async create(): Promise<Topology> {
    const topology = new Topology();
    process.on('exit', () => topology.#remove());
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => process.exit(128 + constants.signals[signal]));
    const { client, relay, server } = topology;
    for (const { name } of [client, relay, server]) await mustRun('ip', ['netns', 'add', name]);
    await relay.ip(
      `link add client0 type veth peer name eth0 netns ${client.name}`,
      `link add server0 type veth peer name eth0 netns ${server.name}`,
      `address add ${RELAY_IP}/24 dev client0`,
      'address add 10.77.2.1/24 dev server0',
      'link set lo up', // for the engine's self-tests
      'link set client0 up',
      'link set server0 up',
    );
    await client.ip(
      `address add ${CLIENT_IP}/24 dev eth0`,
      'link set eth0 up',
      `route add default via ${RELAY_IP}`,
    );
    await server.ip(
      `address add ${SERVER_IP}/24 dev eth0`,
      'link set eth0 up',
      'route add default via 10.77.2.1',
    );
    await relay.sysctl('net.ipv4.ip_forward=1'); // for the row without a relay
    return topology;
  }

  /**
   * Whether the relay's client-side interface coalesces single datagrams: GRO, and a poll deferred by
   * up to 200 µs to have something to coalesce.
   */
  async setTuned(on: boolean): Promise<void> {
    const state = on ? 'on' : 'off';
    await this.relay.mustRun('ethtool', ['-K', 'client0', 'gro', state, 'rx-udp-gro-forwarding', state]);
    await this.deferPolls(this.relay, 'client0', on ? ADVISED : NO_DEFERRAL);
  }

  /** Software interrupt moderation: an interface that was just polled is polled again by a timer. */
  async deferPolls(namespace: Namespace, name: string, { timeoutNs, empty }: Deferral): Promise<void> {
    const folder = `/sys/class/net/${name}`;
    const write = `echo ${timeoutNs} > ${folder}/gro_flush_timeout; echo ${empty} > ${folder}/napi_defer_hard_irqs`;
    await this.withSysfs(namespace, write);
  }

  /** Runs a shell command that sees the namespace's interfaces in /sys, which only `ip netns exec` shows. */
  async withSysfs({ name }: Namespace, command: string): Promise<void> {
    await mustRun('ip', ['netns', 'exec', name, 'sh', '-ec', command]);
  }

  /**
   * What arrives at the relay's client-side interface is handled on this core, as a network card's
   * interrupts are bound to one; otherwise it is on the sender's.
   */
  async receiveOn(core: number): Promise<void> {
    const file = '/sys/class/net/client0/queues/rx-0/rps_cpus';
    const write = `echo ${(1 << core).toString(16)} > ${file}`;
    await mustRun('ip', ['netns', 'exec', this.relay.name, 'sh', '-c', write]);
  }

  #remove(): void {
    for (const namespace of [this.client, this.relay, this.server]) {
      namespace.killChildren();
      removePins(namespace.name);
      try {
        execFileSync('ip', ['netns', 'delete', namespace.name], { stdio: 'ignore' });
      } catch {
        // Never made: something failed before it.
      }
    }
  }
}
