import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toHex } from '../../ts/wire/bytes.js';
import { encodeMessage } from '../../ts/core/protocol/control-message.js';
import type { CircuitStatus, RelayStatus } from '../../ts/core/runtime/mesh-status.js';
import { blindedNetworkId, type Network } from '../../ts/core/protocol/network.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import { NatBehaviour, signPeerRecord, type RecordFields } from '../../ts/core/protocol/peer-record.js';
import { FOLLOWED_BOUNDS } from '../../ts/core/relay/followed-networks.js';
import type { RelayLimits } from '../../ts/core/relay/relay-limits.js';
import type { RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import { Simulation, type SimNode } from '../../ts/sim/mesh/simulation.js';
import { bootstrapOf, ip, OPEN_POLICY, PingRound } from './mesh-world.js';

interface ChainWorld {
  readonly simulation: Simulation;
  readonly relays: readonly SimNode[];
  readonly network: Network;
  /** A member that knows these relays only, behind a NAT of its own. */
  member(name: string, ...relays: readonly SimNode[]): SimNode;
}

/**
 * Relays of which each knows those that `links` gives it (by index, in both directions); none is a
 * member of the network.
 */
function chainWorld(
  count: number,
  links: readonly (readonly [number, number])[],
  limits: Partial<RelayLimits> = {},
  policy: Partial<RelayPolicy> = {},
): ChainWorld {
  const simulation = new Simulation({ seed: 21 });
  const addresses = Array.from({ length: count }, (_, index) => ({
    ip: ip(`192.0.2.${index + 1}`),
    port: 51820,
  }));
  const relays: SimNode[] = [];
  addresses.forEach((address, index) => {
    relays.push(
      simulation.node({
        name: `relay-${index + 1}`,
        address,
        latencyMs: 2,
        relay: {
          ...OPEN_POLICY,
          ...policy,
          limits,
          get peers() {
            return links
              .filter((link) => link.includes(index))
              .map(([a, b]) => relays[a === index ? b : a])
              .filter((relay) => relay !== undefined)
              .map(bootstrapOf);
          },
        },
      }),
    );
  });
  const network: Network = {
    id: simulation.prng.bytes(16),
    name: 'home',
    key: simulation.prng.bytes(32),
    bootstraps: [],
  };
  let members = 0;
  return {
    simulation,
    relays,
    network,
    member(name, ...through) {
      members++;
      return simulation.node({
        name,
        address: { ip: ip('10.0.0.2'), port: 51820 },
        nat: simulation.nat(ip(`198.18.0.${members}`), PORT_RESTRICTED),
        networks: [{ ...network, bootstraps: through.map(bootstrapOf) }],
        latencyMs: 10,
      });
    },
  };
}

function relayStatus(relay: SimNode): RelayStatus {
  const status = relay.mesh.status(relay.step).relay;
  assert.ok(status);
  return status;
}

function onlyCircuit(relay: SimNode): CircuitStatus {
  const { circuits } = relayStatus(relay);
  const [circuit] = circuits;
  assert.ok(circuit !== undefined && circuits.length === 1, `${circuits.length} circuits`);
  return circuit;
}

function refusals(relay: SimNode, reason: string): number {
  return relayStatus(relay).refusals[reason] ?? 0;
}

function start(world: ChainWorld, ...members: readonly SimNode[]): void {
  for (const relay of world.relays) relay.start();
  for (const member of members) member.start();
  world.simulation.run(3000);
}

function pings({ simulation }: ChainWorld, from: SimNode, to: SimNode, limitMs = 5000): number | undefined {
  return new PingRound({ simulation }, [[from, to]]).complete(limitMs);
}

function relayAt({ relays }: ChainWorld, index: number): SimNode {
  const relay = relays[index];
  assert.ok(relay);
  return relay;
}

/** A record this node might have signed. */
function recordOf(
  { config, identity, sessionKey, step }: Pick<SimNode, 'config' | 'identity' | 'sessionKey' | 'step'>,
  world?: ChainWorld,
): Uint8Array {
  return signPeerRecord(nodePrimitives, config.identitySeed, {
    identity,
    sessionKey,
    networks: world === undefined ? [] : [blindedNetworkId(nodePrimitives, world.network)],
    endpoints: [],
    relays: [],
    nat: NatBehaviour.unknown,
    capabilities: [],
    sequence: step.wallClock,
    notAfter: Math.floor(step.wallClock / 1000) + 3600,
    name: config.name,
    addresses: world === undefined ? [] : [{ round: 0, tenures: [] }],
  }).bytes;
}

/** A–R1–R2–B, ready, and pinged once. */
function pairOverTwo(limits: Partial<RelayLimits> = {}): {
  world: ChainWorld;
  a: SimNode;
  b: SimNode;
  r1: SimNode;
  r2: SimNode;
} {
  const world = chainWorld(2, [[0, 1]], limits);
  const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
  const a = world.member('a', r1);
  const b = world.member('b', r2);
  start(world, a, b);
  assert.ok(pings(world, a, b) !== undefined);
  return { world, a, b, r1, r2 };
}

describe('a circuit over several relays', () => {
  it('joins two members that have no relay in common', () => {
    const { a, b, r1, r2 } = pairOverTwo();
    const [first, second] = [onlyCircuit(r1), onlyCircuit(r2)];
    assert.equal(first.id, second.id, 'one id at every relay');
    for (const circuit of [first, second]) {
      assert.equal(circuit.callerPeerId, encodePeerId(a.identity));
      assert.equal(circuit.calleePeerId, encodePeerId(b.identity));
    }
    assert.deepEqual(first.previousRelays, []);
    assert.equal(first.nextRelay, encodePeerId(r2.identity));
    assert.deepEqual(second.previousRelays, [encodePeerId(r1.identity)]);
    assert.equal(second.nextRelay, undefined);
    assert.ok((r1.engine.counters.get('forward') ?? 0) > 0);
    assert.equal(r1.engine.counters.get('forward'), r2.engine.counters.get('forward'));
  });

  it('is opened from the other side just as well', () => {
    const world = chainWorld(2, [[0, 1]]);
    const a = world.member('a', relayAt(world, 0));
    const b = world.member('b', relayAt(world, 1));
    start(world, a, b);
    assert.ok(pings(world, b, a) !== undefined);
    assert.ok(pings(world, a, b) !== undefined);
    assert.equal(onlyCircuit(relayAt(world, 1)).callerPeerId, encodePeerId(b.identity));
  });

  it('goes over three relays of which only neighbours know each other, and no more than three', () => {
    const world = chainWorld(4, [
      [0, 1],
      [1, 2],
      [2, 3],
    ]);
    const a = world.member('a', relayAt(world, 0));
    const b = world.member('b', relayAt(world, 2));
    const c = world.member('c', relayAt(world, 3));
    start(world, a, b, c);
    assert.ok(pings(world, a, b) !== undefined);
    assert.deepEqual(
      onlyCircuit(relayAt(world, 2)).previousRelays,
      [relayAt(world, 0), relayAt(world, 1)].map(({ identity }) => encodePeerId(identity)),
    );
    assert.equal(pings(world, a, c), undefined, 'that would take four');
    assert.ok(refusals(relayAt(world, 0), 'callee-offline') > 0);
    assert.equal(relayStatus(relayAt(world, 3)).circuits.length, 0);
  });

  it('lasts as long as it is used: refreshes go all the way', () => {
    const { world, a, b, r1, r2 } = pairOverTwo({ circuitSeconds: 120 });
    const { id } = onlyCircuit(r1);
    for (let minute = 0; minute < 20; minute++) {
      world.simulation.run(30_000);
      assert.ok(pings(world, a, b, 2000) !== undefined, `after ${minute / 2} minutes`);
    }
    assert.equal(onlyCircuit(r1).id, id);
    assert.equal(onlyCircuit(r2).id, id);
  });

  it('that nobody uses lapses at every relay and at both ends', () => {
    const { world, a, b, r1, r2 } = pairOverTwo({ circuitSeconds: 60 });
    world.simulation.run(150_000);
    for (const relay of [r1, r2]) {
      assert.equal(relayStatus(relay).circuits.length, 0);
      assert.equal(relay.engine.legCount, 1, 'the contact leg stays');
    }
    assert.equal(a.engine.legCount + b.engine.legCount, 0);
    assert.ok(pings(world, a, b) !== undefined, 'and is opened again when it is needed');
  });

  it('is closed everywhere when one end closes it', () => {
    const { world, a, b, r1, r2 } = pairOverTwo();
    a.apply(a.mesh.removeNetwork(world.network.id, a.step));
    world.simulation.run(1000);
    assert.equal(relayStatus(r1).circuits.length + relayStatus(r2).circuits.length, 0);
    assert.equal(b.engine.legCount, 0);
  });

  it('is opened by way of another relay when the one in the middle dies', () => {
    const world = chainWorld(3, [
      [0, 1],
      [0, 2],
    ]);
    const [r1, r2, r3] = [relayAt(world, 0), relayAt(world, 1), relayAt(world, 2)];
    const a = world.member('a', r1);
    const b = world.member('b', r2, r3);
    start(world, a, b);
    assert.ok(pings(world, a, b) !== undefined);
    const before = onlyCircuit(r1).nextRelay;
    const [dead, other] = before === encodePeerId(r2.identity) ? [r2, r3] : [r3, r2];
    dead.kill();
    const took = pings(world, a, b, 30_000);
    assert.ok(took !== undefined && took < 16_000, `${took} ms: a keepalive, 2 s of silence, an opening`);
    assert.equal(onlyCircuit(r1).id, onlyCircuit(other).id);
  });

  it('is opened over the second neighbour when the first refuses or does not answer', () => {
    const world = chainWorld(3, [
      [0, 1],
      [0, 2],
    ]);
    const [r1, r2, r3] = [relayAt(world, 0), relayAt(world, 1), relayAt(world, 2)];
    const a = world.member('a', r1);
    const b = world.member('b', r2, r3);
    start(world, a, b);
    r2.kill(); // R1 does not know yet
    const took = pings(world, a, b, 30_000);
    assert.ok(took !== undefined && took < 16_000, `${took} ms`);
    assert.equal(onlyCircuit(r1).nextRelay, encodePeerId(r3.identity));
  });

  for (const which of ['first', 'second'] as const)
    it(`outlives a restart of its ${which} relay`, () => {
      const { world, a, b, r1, r2 } = pairOverTwo();
      const { id } = onlyCircuit(r1);
      const restarted = which === 'first' ? r1 : r2;
      restarted.kill();
      world.simulation.run(500);
      restarted.start();
      assert.equal(onlyCircuit(restarted).id, id, 'from its store, at once');
      const took = pings(world, a, b, 5000);
      assert.ok(took !== undefined && took <= 1000, `${took} ms`);
      world.simulation.run(10_000);
      for (const relay of [r1, r2]) assert.equal(onlyCircuit(relay).id, id);
    });

  it('is opened anew when a relay comes back without its store', () => {
    const { world, a, b, r1, r2 } = pairOverTwo();
    r2.kill();
    r2.store.clear();
    world.simulation.run(500);
    r2.start();
    const took = pings(world, a, b, 30_000);
    assert.ok(took !== undefined && took < 20_000, `${took} ms`);
    world.simulation.run(5000);
    assert.equal(onlyCircuit(r1).id, onlyCircuit(r2).id);
  });
});

describe('a relay that names another, which does not name it and serves everybody', () => {
  /** The naming one has a network of its own, and nobody in it yet. */
  function oneWay(networks: (world: ChainWorld, naming: SimNode) => readonly Network[]): {
    world: ChainWorld;
    naming: SimNode;
    named: SimNode;
  } {
    const world = chainWorld(1, []);
    const named = relayAt(world, 0);
    const naming = world.simulation.node({
      name: 'naming',
      address: { ip: ip('192.0.2.77'), port: 51820 },
      latencyMs: 2,
      relay: { ...OPEN_POLICY, peers: [bootstrapOf(named)] },
    });
    named.start();
    naming.start(networks(world, naming));
    return { world, naming, named };
  }
  const own = ({ network }: ChainWorld, naming: SimNode): readonly Network[] => [
    { ...network, bootstraps: [bootstrapOf(naming)] },
  ];

  it('shows it that it is in a network, and stays its client', () => {
    const { world, naming, named } = oneWay(own);
    world.simulation.run(600_000);
    const said = naming.notices.map(({ event }) => event);
    assert.deepEqual(
      ['bootstrap-registered', 'bootstrap-silent', 'udp-blocked'].map(
        (event) => said.filter((each) => each === event).length,
      ),
      [1, 0, 0],
    );
    const [uplink] = naming.mesh.status(naming.step).bootstraps;
    assert.deepEqual([uplink?.state, relayStatus(named).registrations], ['registered', 1]);
  });

  it('is told so when it is in no network, and does not take that for UDP being blocked', () => {
    const { world, naming } = oneWay(() => []);
    world.simulation.run(200_000);
    const [uplink] = naming.mesh.status(naming.step).bootstraps;
    assert.equal(uplink?.lastError, 'not-served');
    assert.equal(naming.notices.filter(({ event }) => event === 'udp-blocked').length, 0);
  });
});

describe('what a relay refuses its neighbours', () => {
  /** Sends R2 a circuit-extend as if from `asking`, and tells why it was refused. */
  function extend(
    world: ChainWorld,
    asking: SimNode,
    change: { path?: readonly Uint8Array[]; circuit?: Uint8Array; caller?: Uint8Array; callee?: Uint8Array },
    caller: SimNode,
    callee: SimNode,
  ): Record<string, number> {
    const target = relayAt(world, 1);
    const before = { ...relayStatus(target).refusals };
    const { simulation } = world;
    const payload = encodeMessage({
      request: simulation.prng.u32() >>> 1,
      message: {
        type: 'circuit-extend',
        circuit: change.circuit ?? simulation.prng.bytes(16),
        caller: change.caller ?? recordOf(caller, world),
        callee: change.callee ?? callee.identity,
        network: blindedNetworkId(simulation.primitives, world.network),
        leg: { id: 7, key: new Uint8Array(16), epoch: 0 },
        path: change.path ?? [asking.identity],
      },
    });
    asking.apply([{ type: 'send-control', peer: toHex(target.sessionKey), payload }]);
    simulation.run(1000);
    const after = relayStatus(target).refusals;
    return Object.fromEntries(
      Object.entries(after)
        .map(([reason, count]) => [reason, count - (before[reason] ?? 0)] as const)
        .filter(([, count]) => count > 0),
    );
  }

  it('one who is no relay it knows', () => {
    const { world, a, b, r2 } = pairOverTwo();
    const c = world.member('c', r2);
    c.start();
    world.simulation.run(2000);
    assert.deepEqual(extend(world, c, {}, a, b), { denied: 1 });
    assert.deepEqual(extend(world, relayAt(world, 0), {}, a, b), {}, 'a neighbour may');
  });

  it('a circuit that comes round, by path or by id', () => {
    const { world, a, b, r1, r2 } = pairOverTwo();
    assert.deepEqual(extend(world, r1, { path: [r2.identity, r1.identity] }, a, b), { loop: 1 });
    const known = onlyCircuit(r2).id;
    const circuit = Uint8Array.from(Buffer.from(known, 'hex'));
    assert.deepEqual(extend(world, r1, { circuit }, a, b), { loop: 1 });
    assert.deepEqual(extend(world, r1, { path: [a.identity] }, a, b), { denied: 1 }, 'another in its place');
  });

  it('a caller whose record is not valid, or not of the network', () => {
    const { world, a, b, r1 } = pairOverTwo();
    const forged = recordOf(a, world).slice();
    forged[40] = (forged[40] ?? 0) ^ 1;
    assert.deepEqual(extend(world, r1, { caller: forged }, a, b), { 'bad-record': 1 });
    assert.deepEqual(extend(world, r1, { caller: recordOf(r1) }, a, b), { 'not-served': 1 });
  });

  it('a caller it denies by key, though the neighbour serves him', () => {
    const deny: Uint8Array[] = [];
    const world = chainWorld(2, [[0, 1]], {}, { deny });
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    const a = world.member('a', r1);
    const b = world.member('b', r2);
    r1.start();
    deny.push(a.identity); // R1 took its list before
    start({ ...world, relays: [r2] }, a, b);
    assert.equal(pings(world, a, b, 2000), undefined);
    assert.ok(refusals(r2, 'denied') > 0);
    assert.equal(refusals(r1, 'own-address'), 0);
  });

  it('somebody it does not have, without asking the relay that asks it', () => {
    const { world, a, b, r1 } = pairOverTwo();
    b.kill();
    world.simulation.run(700_000); // its lease is over
    assert.deepEqual(extend(world, r1, {}, a, b), { 'callee-offline': 1 });
  });

  it('a callee who does not consent', () => {
    const { world, a, b, r1 } = pairOverTwo();
    // Claims the callee's own session key: no member it could be.
    const identitySeed = world.simulation.prng.bytes(32);
    const claims = recordOf(
      {
        config: { ...a.config, identitySeed },
        identity: nodePrimitives.ed25519PublicKey(identitySeed),
        sessionKey: b.sessionKey,
        step: a.step,
      },
      world,
    );
    assert.deepEqual(extend(world, r1, { caller: claims }, a, b), { 'no-consent': 1 });
  });
});

describe('the caps of a relay hold for circuits over its neighbours', () => {
  it('circuits of one neighbour, in either direction', () => {
    const world = chainWorld(2, [[0, 1]], { circuitsPerRelay: 2 });
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    const callers = [1, 2, 3, 4].map((index) => world.member(`a-${index}`, r1));
    const b = world.member('b', r2);
    start(world, ...callers, b);
    for (const a of callers) a.ping(b.identity);
    world.simulation.run(5000);
    assert.equal(relayStatus(r1).circuits.length, 2);
    assert.equal(relayStatus(r2).circuits.length, 2);
    assert.ok(refusals(r1, 'circuits-per-relay') > 0);
  });

  it('circuits one neighbour asked for that wait for consent', () => {
    const world = chainWorld(2, [[0, 1]], { halfOpenPerRelay: 1 });
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    const callers = [1, 2].map((index) => world.member(`a-${index}`, r1));
    const b = world.member('b', r2);
    start(world, ...callers, b);
    b.kill();
    for (const a of callers) a.ping(b.identity);
    world.simulation.run(500);
    assert.equal(relayStatus(r2).halfOpen, 1);
    assert.ok(refusals(r2, 'half-open-per-relay') > 0);
  });

  it('circuits of one caller of a neighbour count apart from those of a client of that identity', () => {
    const world = chainWorld(2, [[0, 1]], { circuitsPerIdentity: 2 });
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    // At home at both relays, but asks R1 for those who are at R2 only.
    const a = world.member('a', r1, r2);
    const callees = [1, 2, 3].map((index) => world.member(`b-${index}`, r2));
    start(world, a, ...callees);
    const record = recordOf(a, world);
    const network = blindedNetworkId(world.simulation.primitives, world.network);
    callees.forEach((b, index) => {
      const payload = encodeMessage({
        request: 1000 + index,
        message: {
          type: 'circuit-extend',
          circuit: world.simulation.prng.bytes(16),
          caller: record,
          callee: b.identity,
          network,
          leg: { id: 7 + index, key: new Uint8Array(16), epoch: 0 },
          path: [r1.identity],
        },
      });
      r1.apply([{ type: 'send-control', peer: toHex(r2.sessionKey), payload }]);
    });
    world.simulation.run(1000);
    assert.equal(relayStatus(r2).circuits.length, 2, 'R1 has spent what it may for this caller');
    assert.equal(refusals(r2, 'circuits-per-identity'), 1);
    const [b] = callees;
    assert.ok(b && pings(world, a, b) !== undefined, 'and A, at R2 itself, nothing');
    assert.equal(relayStatus(r2).circuits.length, 3);
  });
});

describe('the directory', () => {
  it('of one relay is read by its neighbours, who tell it to their clients, and stays what it was', () => {
    const { world, a, b, r1, r2 } = pairOverTwo();
    const c = world.member('c', r2);
    c.start();
    world.simulation.run(2000);
    const known = (node: SimNode): string[] =>
      (node.mesh.status(node.step).networks[0]?.members ?? []).map(({ name }) => name).toSorted();
    assert.deepEqual(known(a), ['b', 'c']);
    assert.deepEqual(known(b), ['a', 'c']);
    assert.equal(relayStatus(r1).registrations, 2, 'a and the neighbour');
  });

  it('is told a neighbour of as many networks as it may follow, and is not remembered of more', () => {
    const { world, r1, r2 } = pairOverTwo();
    const { neighbour } = FOLLOWED_BOUNDS.shares;
    for (let index = 0; index <= neighbour + 10; index++) {
      const network = new Uint8Array(16).fill(1);
      network.set([index & 255, index >> 8]);
      const message = { type: 'lookup', network, after: 0, depth: 0 } as const;
      const payload = encodeMessage({ request: 9000 + index, message });
      r1.apply([{ type: 'send-control', peer: toHex(r2.sessionKey), payload }]);
      world.simulation.run(10);
    }
    assert.ok(refusals(r2, 'capacity') >= 10);
  });

  it('is not read by a client who is no relay of ours', () => {
    const { world, r2 } = pairOverTwo();
    const nosy = world.member('nosy', r2);
    nosy.start([
      {
        ...world.network,
        id: world.simulation.prng.bytes(16),
        key: world.simulation.prng.bytes(32),
        bootstraps: [bootstrapOf(r2)],
      },
    ]);
    world.simulation.run(2000);
    const network = blindedNetworkId(world.simulation.primitives, world.network);
    const payload = encodeMessage({ request: 99, message: { type: 'lookup', network, after: 0, depth: 0 } });
    nosy.apply([{ type: 'send-control', peer: toHex(r2.sessionKey), payload }]);
    world.simulation.run(500);
    assert.equal(refusals(r2, 'not-a-member'), 1);
  });

  /** Registers at a relay, inside the session this node has with it, whatever the fields say. */
  function register(node: SimNode, relay: SimNode, index: number, changed: Partial<RecordFields>): void {
    const record = signPeerRecord(nodePrimitives, changed.identity ?? node.config.identitySeed, {
      sessionKey: node.sessionKey,
      networks: [],
      endpoints: [],
      relays: [],
      nat: NatBehaviour.unknown,
      capabilities: [],
      sequence: node.step.wallClock + index,
      notAfter: Math.floor(node.step.wallClock / 1000) + 6 * 24 * 3600,
      name: 'many',
      addresses: (changed.networks ?? []).map(() => ({ round: 0, tenures: [] })),
      ...changed,
      identity:
        changed.identity === undefined ? node.identity : nodePrimitives.ed25519PublicKey(changed.identity),
    }).bytes;
    const payload = encodeMessage({
      request: 5000 + index,
      message: { type: 'register', record, boot: new Uint8Array(8).fill(index) },
    });
    node.apply([{ type: 'send-control', peer: toHex(relay.sessionKey), payload }]);
  }

  const known = (node: SimNode): string[] =>
    (node.mesh.status(node.step).networks[0]?.members ?? []).map(({ name }) => name).toSorted();

  it('goes on being told over relays, however many networks one client has named', () => {
    const world = chainWorld(2, [[0, 1]]);
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    const stranger = world.member('stranger', r1);
    start(world, stranger);
    for (let index = 0; index < 150; index++) {
      const networks = Array.from({ length: 8 }, () => world.simulation.prng.bytes(16));
      register(stranger, r1, index, { networks });
      world.simulation.run(10);
    }
    const other: Network = { ...world.network, id: world.simulation.prng.bytes(16) };
    const members = [r1, r2].map((relay, index) => {
      const member = world.member(`late-${index}`, relay);
      member.start([{ ...other, bootstraps: [bootstrapOf(relay)] }]);
      return member;
    });
    world.simulation.run(3000);
    assert.deepEqual(members.map(known), [['late-1'], ['late-0']]);
  });

  it('has one identity of one session: no member fills what another relay remembers', () => {
    const world = chainWorld(2, [[0, 1]], { registrations: 16 });
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    const a = world.member('a', r1);
    const crowd = world.member('crowd', r2);
    start(world, a, crowd);
    const networks = [blindedNetworkId(nodePrimitives, world.network)];
    for (let index = 0; index < 20; index++) {
      register(crowd, r2, index, { networks, identity: world.simulation.prng.bytes(32) });
      world.simulation.run(50);
    }
    assert.equal(refusals(r2, 'denied'), 20);
    const late = world.member('late', r2);
    late.start();
    world.simulation.run(3000);
    assert.ok(known(a).includes('late'));
  });

  it('forgets at every relay whoever has left one, so that whoever comes later finds room', () => {
    const world = chainWorld(2, [[0, 1]], { registrations: 16, leaseSeconds: 60 });
    const [r1, r2] = [relayAt(world, 0), relayAt(world, 1)];
    const a = world.member('a', r1);
    const passing = Array.from({ length: 4 }, (_, index) => world.member(`passing-${index}`, r2));
    start(world, a, ...passing);
    assert.equal(known(a).length, 4);
    for (const node of passing) node.kill();
    world.simulation.run(90_000);
    const late = world.member('late', r2);
    late.start();
    world.simulation.run(3000);
    assert.ok(known(a).includes('late'), known(a).join());
  });
});
