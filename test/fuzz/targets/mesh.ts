// A little mesh in virtual time, one of whose nodes lies: a member, a relay, or somebody who knows of the network and
// not its key. Its messages are changed inside, left out and repeated, it sends again what anybody ever sent, and goes
// and comes, as networks and addresses of the others do. The input begins with who lies; then it is a program: an instruction,
// an argument, another.
//
// What has to hold:
//   - nothing that comes in breaks a node, and no node is ever busy without end
//   - a relay has no more clients and circuits than its limits say, and its engine no more legs
//   - who does not know the key of the network is told of nobody in it
// And in the end, when the lies are over, members that did not lie reach each other.

import assert from 'node:assert/strict';
import {
  ControlKind,
  decodeControlFrame,
  encodeControlFrame,
} from '../../../ts/core/protocol/control-frame.js';
import { decodeMessage } from '../../../ts/core/protocol/control-message.js';
import type { Network } from '../../../ts/core/protocol/network.js';
import { encodePeerId } from '../../../ts/core/protocol/peer-id.js';
import { OPEN_POLICY as OPEN_PATHS, OPEN_RULES, PATH_USES } from '../../../ts/core/path/path-policy.js';
import type { RelayPolicy } from '../../../ts/core/relay/relay-policy.js';
import { PORT_RESTRICTED, SYMMETRIC } from '../../../ts/sim/kernel/nat.js';
import { Simulation, type SimNode } from '../../../ts/sim/mesh/simulation.js';
import { bootstrapOf, ip, OPEN_POLICY } from '../../../ts/sim/mesh/world-parts.js';
import { toHex } from '../../../ts/wire/bytes.js';
import { generator } from '../../../ts/lab/seeded-random.js';
import { mutateCbor } from '../harness/cbor-mutation.js';
import type { FuzzTarget } from '../harness/target.js';

const MOST_INSTRUCTIONS = 16;
/** Of one instruction; a busy mesh needs a few thousand. */
const MOST_EVENTS = 200_000;
const MOST_REMEMBERED = 256;
const REACHED_MS = 120_000;
const LIMITS = { admissions: 16, registrations: 16, circuits: 16, halfOpen: 8 } as const;

/** What becomes of the next messages of who lies. */
type Lie = 'change' | 'leave-out' | 'repeat' | 'another';
const LIES: readonly Lie[] = ['change', 'change', 'change', 'leave-out', 'repeat', 'another'];

class World {
  readonly #simulation: Simulation;
  readonly #relays: readonly SimNode[];
  readonly #honest: readonly SimNode[];
  readonly #outsider: SimNode;
  readonly #all: readonly SimNode[];
  readonly #liar: SimNode;
  readonly #network: Network;
  /** Messages that anybody sent, the newest last. */
  readonly #said: Uint8Array[] = [];
  #lie: Lie | undefined;
  #lies = 0;
  #random = generator(0);

  constructor(who: number) {
    const simulation = new Simulation({ seed: 1 });
    this.#simulation = simulation;
    const relays: SimNode[] = [];
    for (const place of [1, 2])
      relays.push(
        simulation.node({
          name: `relay-${place}`,
          address: { ip: ip(`192.0.2.${place}`), port: 51820 },
          latencyMs: 2,
          relay: {
            ...OPEN_POLICY,
            limits: LIMITS,
            get peers() {
              return relays.filter((_, index) => index !== place - 1).map(bootstrapOf);
            },
          },
        }),
      );
    this.#relays = relays;
    const network: Network = {
      id: simulation.prng.bytes(16),
      name: 'home',
      key: simulation.prng.bytes(32),
      bootstraps: relays.map(bootstrapOf),
    };
    this.#network = network;
    const member = (place: number, behaviour: typeof PORT_RESTRICTED, key = network.key): SimNode =>
      simulation.node({
        name: `node-${place}`,
        address: { ip: ip('10.0.0.2'), port: 51820 },
        nat: simulation.nat(ip(`198.18.0.${place}`), behaviour),
        networks: [{ ...network, key }],
        latencyMs: 10,
        directPaths: true,
        // Of one it is asked, of the others it is known.
        ...(place > 1 && { consent: { networks: 'own', identities: [], until: undefined } }),
      });
    const members = [member(1, PORT_RESTRICTED), member(2, SYMMETRIC), member(3, PORT_RESTRICTED)];
    this.#outsider = member(4, PORT_RESTRICTED, new Uint8Array(32).fill(7));
    this.#all = [...relays, ...members, this.#outsider];
    this.#liar = [members[2], relays[1], this.#outsider][who % 3] ?? assert.fail();
    this.#honest = members.filter((node) => node !== this.#liar);
    for (const node of this.#all) this.#start(node);
    this.#run(2000);
  }

  act(what: number, argument: number, more: number): void {
    const { mesh, step } = this.#liar;
    switch (what % 15) {
      case 0:
        this.#run(argument * 4);
        break;
      case 1:
        this.#run(argument * 100);
        break;
      case 2:
      case 3:
      case 4:
        this.#lie = LIES[argument % LIES.length];
        this.#lies = 1 + ((argument >> 3) % 8);
        this.#random = generator(more);
        break;
      case 5: // what anybody said, to anybody
        this.#random = generator(more);
        this.#speak(argument, this.#remembered(more));
        break;
      case 6:
        this.#random = generator(argument * 256 + more);
        this.#speak(argument, this.#changed(this.#remembered(more)));
        break;
      case 7:
        this.#ping(argument, more);
        break;
      case 14: {
        const node = this.#honest[argument % 2] ?? this.#liar;
        node.apply(node.mesh.fetchReceipts(undefined, Uint8Array.of(more), node.step));
        break;
      }
      case 8:
        this.#all[argument % this.#all.length]?.nat?.reboot();
        break;
      case 9: {
        const node = this.#all[argument % this.#all.length] ?? this.#liar;
        node.kill();
        if (more & 1) node.store.clear();
        this.#run((more >> 1) * 100);
        this.#start(node);
        break;
      }
      case 10: // it leaves the network, and may come again
        this.#liar.apply(mesh.removeNetwork(this.#network.id, step));
        if (more & 1 && this.#liar.config.networks[0] !== undefined)
          this.#liar.apply(mesh.addNetwork(this.#liar.config.networks[0], this.#liar.step));
        break;
      case 11: {
        const rules = { ...OPEN_RULES, use: PATH_USES[more % PATH_USES.length] ?? 'any' };
        const node = this.#honest[argument % 2] ?? this.#liar;
        node.apply(node.mesh.setPathPolicy({ rules, members: new Map() }, node.step));
        break;
      }
      case 12: {
        const node = this.#relays[argument % 2] ?? this.#liar;
        node.apply(node.mesh.setRelayPolicy(this.#policyOf(node, argument, more), node.step));
        break;
      }
      case 13:
        this.#data(argument, more);
    }
    this.#check();
  }

  /** The lies are over, all are as they were configured: members hear each other. */
  end(): void {
    this.#lie = undefined;
    for (const node of this.#relays)
      node.apply(node.mesh.setRelayPolicy(this.#policyOf(node, 0, 0), node.step));
    for (const node of this.#honest) node.apply(node.mesh.setPathPolicy(OPEN_PATHS, node.step));
    const end = this.#simulation.now + REACHED_MS;
    const [a, b] = this.#honest;
    assert.ok(a !== undefined && b !== undefined);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const tokens = new Set<string>();
      while (!from.pongs.some(({ token }) => tokens.has(token))) {
        assert.ok(this.#simulation.now < end, `${from.config.name} does not reach ${to.config.name}`);
        const token = this.#pinged(from, to);
        if (token !== undefined) tokens.add(token);
        this.#run(500);
      }
    }
    this.#check();
  }

  /** @returns nothing while it does not know the other */
  #pinged(from: SimNode, to: SimNode): string | undefined {
    return this.#knows(from, to) ? from.ping(to.identity) : undefined;
  }

  #knows(node: SimNode, other: SimNode): boolean {
    const { networks } = node.mesh.status(node.step);
    const peerId = encodePeerId(other.identity);
    return networks.some(({ members }) => members.some((member) => member.peerId === peerId));
  }

  #ping(argument: number, more: number): void {
    const from = this.#all[argument % this.#all.length];
    const to = this.#all[more % this.#all.length];
    if (from !== undefined && to !== undefined) this.#pinged(from, to);
  }

  #data(argument: number, more: number): void {
    const packet = new Uint8Array(20 + more * 4);
    packet[0] = 0x45;
    const [from, to] = argument & 1 ? this.#honest : this.#honest.toReversed();
    if (from === undefined || to === undefined) return;
    for (let count = 0; count <= argument >> 4; count++) from.sendInner(toHex(to.sessionKey), packet);
  }

  #policyOf(node: SimNode, argument: number, more: number): RelayPolicy {
    const { relay = OPEN_POLICY } = node.config;
    const denied = argument >= 128 ? [this.#liar.identity] : [];
    return {
      ...relay,
      deny: denied,
      limits: more & 1 ? { ...LIMITS, circuits: 1 + ((more >> 1) % 4) } : LIMITS,
    };
  }

  #start(node: SimNode): void {
    node.start();
    const { engine } = node;
    const send = engine.sendControl.bind(engine);
    engine.sendControl = (messages) => {
      for (const { payload } of messages) this.#remember(payload);
      send(
        node === this.#liar
          ? messages.flatMap(({ peer, payload }) =>
              this.#told(payload).map((instead) => ({ peer, payload: instead })),
            )
          : messages,
      );
    };
  }

  #remember(payload: Uint8Array): void {
    if (decodeControlFrame(payload)?.kind !== ControlKind.message) return;
    this.#said.push(payload);
    if (this.#said.length > MOST_REMEMBERED) this.#said.shift();
  }

  #remembered(which: number): Uint8Array {
    return this.#said.at(-1 - (which % Math.max(1, this.#said.length))) ?? new Uint8Array(4);
  }

  /** What is said in place of a message of who lies. */
  #told(payload: Uint8Array): readonly Uint8Array[] {
    if (this.#lie === undefined || this.#lies === 0) return [payload];
    this.#lies--;
    switch (this.#lie) {
      case 'change':
        return [this.#changed(payload)];
      case 'leave-out':
        return [];
      case 'repeat':
        return [payload, payload];
      case 'another':
        return [this.#remembered(Math.floor(this.#random() * 64))];
    }
  }

  /** The same with one node of its CBOR changed, as a message that is read. */
  #changed(payload: Uint8Array): Uint8Array {
    const frame = decodeControlFrame(payload);
    if (frame?.kind !== ControlKind.message) return payload;
    for (let attempt = 0; attempt < 20; attempt++) {
      const body = mutateCbor(frame.body, this.#random);
      if (body !== undefined && body.length <= 1200 && decodeMessage(body) !== undefined)
        return encodeControlFrame({ kind: ControlKind.message, body });
    }
    return payload;
  }

  #speak(to: number, payload: Uint8Array): void {
    const peer = this.#all[to % this.#all.length];
    if (peer === undefined || peer === this.#liar) return;
    this.#liar.engine.sendControl([{ peer: toHex(peer.sessionKey), payload }]);
  }

  #run(ms: number): void {
    const until = this.#simulation.now + ms;
    let events = 0;
    while (this.#simulation.queue.step(until))
      assert.ok(++events < MOST_EVENTS, 'no node is busy without end');
  }

  #check(): void {
    for (const node of this.#all) {
      const { relay } = node.mesh.status(node.step);
      if (relay !== undefined) {
        assert.ok(relay.admissions <= LIMITS.admissions);
        assert.ok(relay.circuits.length <= LIMITS.circuits);
      }
      assert.ok(node.engine.legCount <= node.config.maxLegs);
      assert.ok(!this.#knows(node, this.#outsider) && !this.#knows(this.#outsider, node));
    }
  }
}

const program = (text: string): Uint8Array => Uint8Array.from(text.split(' ').map(Number));

const target: FuzzTarget = {
  timed: false, // a mesh of six is more than a message
  seeds: () => [
    program('0 7 2 3 1 20 0 2 0 5 7 2 4 1 20 0'),
    program('0 2 56 1 7 4 2 1 40 0 3 56 9 7 3 4 1 60 0'),
    program('1 2 56 3 7 2 3 1 20 0 9 2 3 2 57 4 1 40 0 7 3 2 1 80 0'),
    program('2 5 0 3 5 1 9 6 0 20 6 1 33 1 30 0 10 0 1 1 30 0'),
    program('0 8 2 0 8 3 0 7 2 3 1 100 0 9 0 60 7 3 2 1 100 0'),
    program('1 12 1 3 7 2 3 12 128 0 1 60 0 11 0 2 11 1 1 7 2 4 13 241 9 1 60 0'),
    program('0 7 2 3 13 241 9 1 20 0 14 0 1 2 24 5 14 1 2 1 9 0'),
    program('0 7 4 2 13 240 200 1 9 0 2 60 7 13 241 255 2 61 8 1 200 0 1 255 0'),
  ],
  run(input) {
    const world = new World(input[0] ?? 0);
    for (let at = 1; at + 2 < input.length && at < 3 * MOST_INSTRUCTIONS; at += 3)
      world.act(...([...input.subarray(at, at + 3)] as [number, number, number]));
    world.end();
  },
};
export default target;
