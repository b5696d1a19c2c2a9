// A network of members behind NATs with one relay: what the simulator tests start from.

import { toHex } from '../../ts/wire/bytes.js';
import type { Network } from '../../ts/core/protocol/network.js';
import type { Consent } from '../../ts/core/path/own-policy.js';
import type { RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import { Simulation, type SimNode } from '../../ts/sim/mesh/simulation.js';
import { bootstrapOf, ip, OPEN_POLICY } from '../../ts/sim/mesh/world-parts.js';

export { bootstrapOf, ip, OPEN_POLICY };

export interface MeshWorld {
  readonly simulation: Simulation;
  readonly relay: SimNode;
  readonly members: readonly SimNode[];
  readonly network: Network;
}

/** One public relay (not a member) and `count` members, each behind a port-restricted NAT; none started. */
export function meshWorld(options: {
  readonly seed: number;
  readonly count: number;
  readonly loss?: number;
  readonly policy?: RelayPolicy;
  /** Of every member. */
  readonly consent?: Consent | undefined;
}): MeshWorld {
  const simulation = new Simulation({ seed: options.seed, loss: options.loss ?? 0 });
  const relay = simulation.node({
    name: 'relay',
    address: { ip: ip('192.0.2.1'), port: 51820 },
    relay: options.policy ?? OPEN_POLICY,
    latencyMs: 2,
  });
  const network: Network = {
    id: simulation.prng.bytes(16),
    name: 'home',
    key: simulation.prng.bytes(32),
    bootstraps: [bootstrapOf(relay)],
  };
  const members = Array.from({ length: options.count }, (_, index) =>
    simulation.node({
      name: `node-${index}`,
      address: { ip: ip('10.0.0.2'), port: 51820 },
      nat: simulation.nat(ip(`198.18.${index >> 8}.${index & 255}`), PORT_RESTRICTED),
      networks: [network],
      latencyMs: simulation.prng.integer(5, 40),
      ...(options.consent && { consent: options.consent }),
    }),
  );
  return { simulation, relay, members, network };
}

/** Whether every running member knows every other one of `members`. */
export function allKnowAll(members: readonly SimNode[]): boolean {
  return members.every((node) => {
    const known = node.mesh.status(node.step).networks[0]?.members ?? [];
    return known.length >= members.length - 1;
  });
}

/** Each of these nodes pings its partner once a period until answered; true when all were. */
export class PingRound {
  readonly #world: Pick<MeshWorld, 'simulation'>;
  readonly #pairs: readonly (readonly [SimNode, SimNode])[];
  readonly #answered = new Set<number>();
  readonly #tokens = new Map<string, number>();
  #nextPing = 0;

  constructor(world: Pick<MeshWorld, 'simulation'>, pairs: readonly (readonly [SimNode, SimNode])[]) {
    this.#world = world;
    this.#pairs = pairs;
    this.#nextPing = world.simulation.now;
  }

  get missing(): string[] {
    return this.#pairs
      .filter((_, index) => !this.#answered.has(index))
      .map(([from, to]) => `${from.config.name} → ${to.config.name}`);
  }

  /** Virtual milliseconds until every pair has had an answer; undefined when some had none in time. */
  complete(limitMs: number): number | undefined {
    return this.#world.simulation.runUntil(() => this.#poll(), limitMs);
  }

  #poll(): boolean {
    const { now } = this.#world.simulation;
    this.#pairs.forEach(([from], index) => {
      for (const { token } of from.pongs) if (this.#tokens.get(token) === index) this.#answered.add(index);
    });
    if (now >= this.#nextPing) {
      this.#nextPing = now + 200;
      this.#pairs.forEach(([from, to], index) => {
        if (!this.#answered.has(index)) this.#tokens.set(from.ping(to.identity), index);
      });
    }
    return this.#answered.size === this.#pairs.length;
  }
}

/** Every node paired with one chosen at random. */
export function randomPairs(world: MeshWorld): (readonly [SimNode, SimNode])[] {
  const { members, simulation } = world;
  return members.map((node, index) => {
    const step = simulation.prng.integer(1, members.length - 1);
    return [node, members[(index + step) % members.length] ?? node] as const;
  });
}

export const hex = toHex;
