// Two members, two relays, and what is between them: what tests and studies of direct paths start from.

import type { PathPolicy } from '../../core/path/path-policy.js';
import type { Network } from '../../core/protocol/network.js';
import { toHex } from '../../wire/bytes.js';
import { formatIp, type SocketAddress } from '../../wire/socket-address.js';
import {
  ADDRESS_RESTRICTED,
  FULL_CONE,
  PORT_RESTRICTED,
  SYMMETRIC,
  type NatBehaviourModel,
} from '../kernel/nat.js';
import { Simulation, type SimNode, type SimNodeOptions, type SimUplink } from './simulation.js';
import { bootstrapOf, ip, OPEN_POLICY } from './world-parts.js';

export const KINDS = ['public', 'full', 'addr-R', 'port-R', 'symmetric'] as const;
/** Symmetric ones by how they give ports; `symmetric` gives any. */
export type Kind = (typeof KINDS)[number] | 'sequential' | 'preserving';

const NAT_OF: Readonly<Record<Exclude<Kind, 'public'>, NatBehaviourModel>> = {
  full: FULL_CONE,
  'addr-R': ADDRESS_RESTRICTED,
  'port-R': PORT_RESTRICTED,
  symmetric: SYMMETRIC,
  sequential: { ...SYMMETRIC, ports: 'sequential' },
  preserving: { ...SYMMETRIC, ports: 'preserving' },
};

const PORT = 51_820;
/** Its tables are small: hundreds of worlds are made. */
const SMALL_RELAY = { ...OPEN_POLICY, limits: { circuits: 16, admissions: 16 } };

export class PairWorld {
  readonly simulation: Simulation;
  readonly relays: readonly SimNode[];
  readonly a: SimNode;
  readonly b: SimNode;

  /** Nobody is started. @param direct of the members @param more of both @param policyOfA default: every way is used */
  constructor(
    seed: number,
    a: Kind | SimUplink[],
    b: Kind | SimUplink[],
    direct: boolean | readonly [boolean, boolean] = true,
    more: Pick<SimNodeOptions, 'innerMtu'> = {},
    policyOfA?: PathPolicy,
  ) {
    this.simulation = new Simulation({ seed });
    this.relays = [1, 2].map((place) =>
      this.simulation.node({
        name: `relay-${place}`,
        address: { ip: ip(`192.0.2.${place}`), port: PORT },
        relay: SMALL_RELAY,
        latencyMs: 5,
      }),
    );
    const network: Network = {
      id: this.simulation.prng.bytes(16),
      name: 'home',
      key: this.simulation.prng.bytes(32),
      bootstraps: this.relays.map(bootstrapOf),
    };
    const [ofA, ofB] = typeof direct === 'boolean' ? [direct, direct] : direct;
    const member = (name: string, place: number, kind: Kind | SimUplink[], directPaths: boolean): SimNode => {
      const uplinks = typeof kind === 'string' ? [this.uplink(kind, place)] : kind;
      const [{ address, nat } = { address: { ip: ip('10.0.0.2'), port: PORT } }] = uplinks;
      return this.simulation.node({
        name,
        address,
        ...(nat && { nat }),
        uplinks,
        networks: [network],
        latencyMs: this.simulation.prng.integer(5, 40),
        directPaths,
        ...more,
        ...(name === 'a' && policyOfA !== undefined && { pathPolicy: policyOfA }),
      });
    };
    this.a = member('a', 1, a, ofA);
    this.b = member('b', 2, b, ofB);
  }

  /** An uplink of this kind, with a link whose model can be changed. */
  uplink(kind: Kind, place: number): SimUplink {
    if (kind === 'public') return { address: { ip: ip(`198.51.100.${place}`), port: PORT }, link: {} };
    const nat = this.simulation.nat(ip(`198.18.0.${place}`), NAT_OF[kind]);
    return { address: { ip: ip(`10.0.${place}.2`), port: PORT }, nat, link: {} };
  }

  start(): void {
    for (const node of [...this.relays, this.a, this.b]) node.start();
    this.simulation.run(1500);
  }

  /** One ping after the other from `a` to `b` until one is answered. @returns ms it took */
  firstPacket(): number | undefined {
    const { simulation, a, b } = this;
    a.ping(b.identity);
    return simulation.runUntil(() => a.pongs.length > 0, 5000, 1);
  }

  pathOf(node: SimNode): string {
    const [status] = node.mesh.status(node.step).networks[0]?.members ?? [];
    return status?.path ?? 'unknown';
  }

  /** Nothing but by relays from one of the directions on; `undefined`: all comes through again. */
  cut(direction: 'a to b' | 'b to a' | 'both' | undefined): void {
    const isOf = (node: SimNode, { ip: at }: SocketAddress): boolean =>
      formatIp(at) === formatIp(node.nat?.ip ?? node.address.ip);
    this.simulation.internet.blocked = (from, to) =>
      (direction !== undefined && direction !== 'b to a' && isOf(this.a, from) && isOf(this.b, to)) ||
      (direction !== undefined && direction !== 'a to b' && isOf(this.b, from) && isOf(this.a, to));
  }

  /** Both talk directly; streams of pings go both ways. */
  talk(everyMs: number): readonly [Stream, Stream] {
    this.start();
    if (this.firstPacket() === undefined) throw new Error('no first packet');
    const streams = [
      new Stream(this, this.a, this.b, everyMs),
      new Stream(this, this.b, this.a, everyMs),
    ] as const;
    if (this.simulation.runUntil(() => this.bothDirect, 10_000) === undefined) throw new Error('not direct');
    this.simulation.run(1000);
    return streams;
  }

  get bothDirect(): boolean {
    return this.pathOf(this.a) === 'direct' && this.pathOf(this.b) === 'direct';
  }
}

/** Which of the networks of `twoNetworks` an address is in. */
export const networkOf = ({ ip: at }: SocketAddress): number =>
  formatIp(at).startsWith('198.51.101.') ? 2 : 1;

/**
 * Two members with an address in each of two networks, of which relays are in the first.
 * @param metered whether `a` pays for what goes by the second
 * @returns what drops everything in one
 */
export function twoNetworks(
  seed: number,
  metered = false,
): {
  readonly world: PairWorld;
  readonly cut: (network: number | undefined) => void;
} {
  const uplinks = (place: number): SimUplink[] =>
    [1, 2].map((network) => ({
      address: { ip: ip(`198.51.${99 + network}.${place}`), port: PORT },
      link: {},
      metered: metered && place === 1 && network === 2,
    }));
  const world = new PairWorld(seed, uplinks(1), uplinks(2));
  const cut = (network: number | undefined): void => {
    world.simulation.internet.blocked = (from, to) =>
      networkOf(from) !== networkOf(to) || networkOf(from) === network;
  };
  cut(undefined);
  return { world, cut };
}

/** Pings from one to the other at a steady pace: what was not answered was lost on the way there or back. */
export class Stream {
  readonly #from: SimNode;
  readonly #sent = new Map<string, number>();

  constructor(
    readonly world: PairWorld,
    from: SimNode,
    to: SimNode,
    everyMs: number,
  ) {
    this.#from = from;
    const { queue } = world.simulation;
    const send = (): void => {
      if (this.#stopped) return;
      this.#sent.set(from.ping(to.identity), queue.now);
      queue.at(queue.now + everyMs, send);
    };
    send();
  }

  #stopped = false;

  stop(): void {
    this.#stopped = true;
  }

  /** When the pings without an answer were sent. */
  get lost(): number[] {
    const answered = new Set(this.#from.pongs.map(({ token }) => token));
    return [...this.#sent].filter(([token]) => !answered.has(token)).map(([, at]) => at);
  }

  get sent(): number {
    return this.#sent.size;
  }

  get answeredTwice(): number {
    return this.#from.pongs.length - new Set(this.#from.pongs.map(({ token }) => token)).size;
  }
}

export const keyOf = (node: SimNode): string => toHex(node.sessionKey);
