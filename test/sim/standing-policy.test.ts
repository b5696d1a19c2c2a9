import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toHex } from '../../ts/wire/bytes.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import {
  decodeMessage,
  encodeMessage,
  type ControlMessage,
  type MessageOf,
} from '../../ts/core/protocol/control-message.js';
import type { CircuitStatus, RelayStatus, StandingPolicyStatus } from '../../ts/core/runtime/mesh-status.js';
import { blindedNetworkId } from '../../ts/core/protocol/network.js';
import type { Consent } from '../../ts/core/path/own-policy.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import { NatBehaviour, signPeerRecord } from '../../ts/core/protocol/peer-record.js';
import {
  signStandingPolicy,
  PREPARED_LEGS,
  type PolicyFields,
} from '../../ts/core/protocol/standing-policy.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import {
  allKnowAll,
  bootstrapOf,
  ip,
  meshWorld,
  OPEN_POLICY,
  PingRound,
  type MeshWorld,
} from './mesh-world.js';

const MEMBERS: Consent = { networks: 'own', identities: [], until: undefined };
const POLICY_PREFIX = 'relay/policy/';

function relayStatus(relay: SimNode): RelayStatus {
  const status = relay.mesh.status(relay.step).relay;
  assert.ok(status);
  return status;
}

function policyOf(node: SimNode): StandingPolicyStatus | undefined {
  const policies = node.mesh.status(node.step).standingPolicies;
  assert.ok(policies.length <= 1);
  return policies[0];
}

function refusals(relay: SimNode, reason: string): number {
  return relayStatus(relay).refusals[reason] ?? 0;
}

/** Members with this consent that know each other, their policies held. */
function world(options: Partial<Parameters<typeof meshWorld>[0]> & { readonly count: number }): {
  world: MeshWorld;
  nodes: [SimNode, SimNode, ...SimNode[]];
} {
  const made = meshWorld({ seed: 41, consent: MEMBERS, ...options });
  made.relay.start();
  for (const node of made.members) node.start();
  assert.notEqual(
    made.simulation.runUntil(() => allKnowAll(made.members), 5000),
    undefined,
  );
  made.simulation.run(500);
  const [a, b, ...others] = made.members;
  assert.ok(a && b);
  return { world: made, nodes: [a, b, ...others] };
}

function reach(made: MeshWorld, from: SimNode, to: SimNode): number {
  const ms = new PingRound(made, [[from, to]]).complete(5000);
  assert.ok(ms !== undefined, `${from.config.name} does not reach ${to.config.name}`);
  return ms;
}

function circuitOf(relay: SimNode, caller: SimNode, callee: SimNode): CircuitStatus | undefined {
  return relayStatus(relay).circuits.find(
    ({ callerPeerId, calleePeerId }) =>
      callerPeerId === encodePeerId(caller.identity) && calleePeerId === encodePeerId(callee.identity),
  );
}

/** Sends a message inside the session with `to`, as `from` itself might. */
function say(from: SimNode, to: SimNode, message: ControlMessage, request = 4711): void {
  const payload = encodeMessage({ request, message });
  from.apply([{ type: 'send-control', peer: toHex(to.sessionKey), payload }]);
}

/** What a node is told from now on, and may be kept from being told. */
function overhear(
  node: SimNode,
  passes: (message: ControlMessage) => boolean = () => true,
): ControlMessage[] {
  const heard: ControlMessage[] = [];
  const { mesh } = node;
  const handle = mesh.handleEngineEvent.bind(mesh);
  mesh.handleEngineEvent = (event, step) => {
    const frame = event.type === 'control' ? decodeControlFrame(new Uint8Array(event.payload)) : undefined;
    const message = frame?.kind === 1 ? decodeMessage(frame.body)?.message : undefined;
    if (message !== undefined) heard.push(message);
    return message === undefined || passes(message) ? handle(event, step) : [];
  };
  return heard;
}

describe('a standing policy', () => {
  it('sets a circuit up at once: the caller does not wait for the callee', () => {
    const { world: asked, nodes } = world({ count: 2, consent: undefined });
    const [a, b] = nodes;
    const before = reach(asked, a, b);
    assert.equal(circuitOf(asked.relay, a, b)?.consent, 'asked');

    const standing = world({ count: 2 });
    const [c, d] = standing.nodes;
    assert.equal(policyOf(d)?.state, 'held');
    assert.equal(relayStatus(standing.world.relay).standingPolicies, 2);
    const heard = overhear(d);
    const after = reach(standing.world, c, d);
    assert.equal(circuitOf(standing.world.relay, c, d)?.consent, 'standing');
    assert.deepEqual(
      heard.map(({ type }) => type).filter((type) => type.startsWith('circuit')),
      ['circuit-opened'],
    );
    const roundTrip = 2 * (d.latencyMs + standing.world.relay.latencyMs);
    assert.ok(
      after <= before - roundTrip + 10,
      `${before} ms asked, ${after} ms standing, looked every 10 ms`,
    );
    reach(standing.world, d, c);
    assert.equal(relayStatus(standing.world.relay).circuits.length, 1, 'and both directions take it');
  });

  it('is used for callers it names, and others are asked for as before', () => {
    const { world: made, nodes } = world({ count: 3, consent: undefined });
    const [a, b, c] = nodes;
    assert.ok(c);
    const callee = made.simulation.node({
      name: 'callee',
      address: { ip: ip('192.0.2.9'), port: 51820 },
      networks: [made.network],
      latencyMs: 10,
      consent: { networks: [], identities: [a.identity], until: undefined },
    });
    callee.start();
    made.simulation.run(2000);
    reach(made, a, callee);
    reach(made, c, callee);
    assert.equal(circuitOf(made.relay, a, callee)?.consent, 'standing');
    assert.equal(circuitOf(made.relay, c, callee)?.consent, 'asked');
    reach(made, a, b);
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'asked', 'of a callee without a policy');
  });

  it('of a network names its members, and no longer when the callee has left it', () => {
    const { world: made, nodes } = world({ count: 2, consent: undefined });
    const [a] = nodes;
    const other = { ...made.network, id: made.simulation.prng.bytes(16), name: 'office' };
    const callee = made.simulation.node({
      name: 'callee',
      address: { ip: ip('192.0.2.9'), port: 51820 },
      networks: [made.network, other],
      latencyMs: 10,
      consent: { networks: ['home'], identities: [], until: undefined },
    });
    callee.start();
    made.simulation.run(2000);
    reach(made, a, callee);
    assert.equal(circuitOf(made.relay, a, callee)?.consent, 'standing');
    const { serial } = policyOf(callee) ?? {};
    assert.ok(serial);
    const legs = callee.engine.legCount;
    callee.apply(callee.mesh.removeNetwork(made.network.id, callee.step));
    made.simulation.run(1000);
    const withdrawn = policyOf(callee);
    assert.equal(withdrawn?.state, 'withdrawn');
    assert.ok(withdrawn.serial > serial && withdrawn.preparedLegs === 0);
    assert.ok(callee.engine.legCount < legs);
    const kept = made.relay.store.get(POLICY_PREFIX + toHex(callee.sessionKey));
    assert.ok(kept, 'the relay keeps that nobody is accepted: an older policy is refused');
    say(callee, made.relay, { type: 'standing-policy', ...signed(callee, made.relay, { serial }) });
    made.simulation.run(1000);
    assert.equal(refusals(made.relay, 'stale-policy'), 1);
  });

  it('ends at the time it names', () => {
    const { world: made, nodes } = world({ count: 2, consent: undefined });
    const [a] = nodes;
    const callee = made.simulation.node({
      name: 'callee',
      address: { ip: ip('192.0.2.9'), port: 51820 },
      networks: [made.network],
      latencyMs: 10,
      consent: { ...MEMBERS, until: Math.floor(a.step.wallClock / 1000) + 330 },
    });
    callee.start();
    made.simulation.run(2000);
    assert.equal(policyOf(callee)?.state, 'held');
    assert.equal(relayStatus(made.relay).standingPolicies, 1);
    made.simulation.run(335_000);
    assert.equal(policyOf(callee)?.state, 'held', 'the callee has not noticed yet');
    assert.equal(relayStatus(made.relay).standingPolicies, 0);
    reach(made, a, callee);
    assert.equal(circuitOf(made.relay, a, callee)?.consent, 'asked');
    made.simulation.run(60_000);
    assert.equal(policyOf(callee)?.state, 'withdrawn');
  });

  it('is renewed before it runs out, under a higher serial', () => {
    const { world: made, nodes } = world({ count: 2 });
    const [a, b] = nodes;
    const first = policyOf(b);
    assert.ok(first);
    made.simulation.run(3.1 * 24 * 3600 * 1000);
    const second = policyOf(b);
    assert.ok(second?.state === 'held' && second.serial > first.serial && second.notAfter > first.notAfter);
    reach(made, a, b);
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'standing');
  });

  it('is kept when the relay is killed and restarted, with the legs that are left', () => {
    const { world: made, nodes } = world({ count: 3 });
    const [a, b, c] = nodes;
    assert.ok(c);
    reach(made, a, b);
    const heard = overhear(b);
    made.relay.kill();
    made.relay.start();
    assert.equal(relayStatus(made.relay).standingPolicies, 3, 'before anybody said a word');
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'standing');
    // The callee's own word does not get through again: what is used is what the store had.
    const { mesh } = made.relay;
    const handle = mesh.handleEngineEvent.bind(mesh);
    mesh.handleEngineEvent = (event, step) => {
      const frame = event.type === 'control' ? decodeControlFrame(new Uint8Array(event.payload)) : undefined;
      const message = frame?.kind === 1 ? decodeMessage(frame.body)?.message : undefined;
      return message?.type === 'standing-policy' ? [] : handle(event, step);
    };
    made.simulation.run(2000);
    reach(made, c, b);
    assert.equal(circuitOf(made.relay, c, b)?.consent, 'standing');
    assert.ok(!heard.some(({ type }) => type === 'circuit-offer'));
    reach(made, a, b);
  });

  it('goes with the registration, and with a former life of the callee', () => {
    const { world: made, nodes } = world({
      count: 2,
      policy: { ...OPEN_POLICY, limits: { leaseSeconds: 60 } },
    });
    const [a, b] = nodes;
    const key = POLICY_PREFIX + toHex(b.sessionKey);
    const before = made.relay.store.get(key);
    const serial = policyOf(b)?.serial ?? 0;
    assert.ok(before);
    b.kill();
    b.start();
    made.simulation.run(2000);
    assert.ok((policyOf(b)?.serial ?? 0) > serial);
    assert.notDeepEqual(made.relay.store.get(key), before, 'legs of the former life are nobody’s');
    reach(made, a, b);
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'standing');
    b.kill();
    made.simulation.run(90_000);
    assert.equal(made.relay.store.has(key), false);
    assert.equal(relayStatus(made.relay).standingPolicies, 1);
  });

  it('serves many callers at once: what it has no leg for is asked, and it is filled again', () => {
    const count = PREPARED_LEGS + 5;
    const { world: made, nodes } = world({ count });
    const [callee, ...callers] = nodes;
    const round = new PingRound(
      made,
      callers.map((caller) => [caller, callee]),
    );
    assert.ok(round.complete(5000) !== undefined, round.missing.join());
    const consents = callers.map((caller) => circuitOf(made.relay, caller, callee)?.consent);
    assert.ok(consents.filter((consent) => consent === 'standing').length >= PREPARED_LEGS, consents.join());
    made.simulation.run(1000);
    assert.equal(policyOf(callee)?.preparedLegs, PREPARED_LEGS);
    const late = made.simulation.node({
      name: 'late',
      address: { ip: ip('192.0.2.9'), port: 51820 },
      networks: [made.network],
      latencyMs: 10,
    });
    late.start();
    made.simulation.run(1000);
    reach(made, late, callee);
    assert.equal(circuitOf(made.relay, late, callee)?.consent, 'standing');
  });

  it('never takes a leg twice, however often it is given', () => {
    const { world: made, nodes } = world({ count: 3 });
    const [a, b, c] = nodes;
    assert.ok(c);
    const given: MessageOf<'standing-policy'>[] = [];
    overhear(made.relay, (message) => {
      if (message.type === 'standing-policy') given.push(message);
      return true;
    });
    b.kill();
    b.start();
    made.simulation.run(2000);
    reach(made, a, b);
    const [first] = given;
    assert.ok(first?.legs.length === PREPARED_LEGS);
    const [used] = first.legs;
    assert.ok(used);
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'standing');
    // All that is given now is the leg of the circuit that stands.
    say(b, made.relay, { ...first, legs: [used] });
    made.simulation.run(500);
    const heard = overhear(b);
    reach(made, c, b);
    assert.equal(circuitOf(made.relay, c, b)?.consent, 'asked');
    assert.deepEqual(
      heard.map(({ type }) => type).filter((type) => type.startsWith('circuit')),
      ['circuit-offer'],
    );
    reach(made, a, b);
  });

  it('works when every tenth datagram is lost', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const made = meshWorld({ seed, count: 4, consent: MEMBERS, loss: 0.1 });
      made.relay.start();
      for (const node of made.members) node.start();
      assert.ok(made.simulation.runUntil(() => allKnowAll(made.members), 20_000) !== undefined);
      made.simulation.run(5000);
      const [a, b, c, d] = made.members;
      assert.ok(a && b && c && d);
      const round = new PingRound(made, [
        [a, b],
        [b, a],
        [c, d],
        [d, a],
      ]);
      assert.ok(round.complete(20_000) !== undefined, `seed ${seed}: ${round.missing.join()}`);
    }
  });

  it('holds when both ends call at once', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { world: made, nodes } = world({ count: 2, seed });
      const [a, b] = nodes;
      const round = new PingRound(made, [
        [a, b],
        [b, a],
      ]);
      assert.ok(round.complete(5000) !== undefined, `seed ${seed}: ${round.missing.join()}`);
      made.simulation.run(5000);
      const { circuits, halfOpen } = relayStatus(made.relay);
      assert.ok(
        circuits.length >= 1 && circuits.length <= 2 && halfOpen === 0,
        `${circuits.length} circuits`,
      );
    }
  });

  it('leaves the callee the last word: it ends the circuit, and the caller is told', () => {
    const { world: made, nodes } = world({ count: 2 });
    const [a, b] = nodes;
    reach(made, a, b);
    const { id } = circuitOf(made.relay, a, b) ?? {};
    assert.ok(id);
    say(b, made.relay, { type: 'circuit-close', circuit: Uint8Array.from(Buffer.from(id, 'hex')) });
    made.simulation.run(500);
    assert.equal(circuitOf(made.relay, a, b), undefined);
    assert.equal(a.engine.legCount, 0);
  });

  it('does not speak for a callee that is gone: the circuit ends, and the next caller is asked for', () => {
    const { world: made, nodes } = world({ count: 3 });
    const [a, b, c] = nodes;
    assert.ok(c);
    b.kill();
    a.ping(b.identity);
    made.simulation.run(1000);
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'standing');
    assert.equal(a.engine.legCount, 1);
    assert.ok(
      ![...made.relay.store.keys()].some((key) => key.startsWith('relay/circuit/')),
      'not joined yet',
    );
    made.simulation.run(3500);
    assert.ok(refusals(made.relay, 'callee-offline') > 0);
    assert.notEqual(circuitOf(made.relay, a, b)?.consent, 'standing');
    c.ping(b.identity);
    made.simulation.run(500);
    assert.equal(circuitOf(made.relay, c, b)?.consent, 'asked');
    assert.equal(circuitOf(made.relay, c, b)?.legs.length, 0);
    made.simulation.run(10_000);
    assert.equal(c.engine.legCount, 0);
  });

  it('is in use again once the callee was heard: it gives legs when it is asked', () => {
    const { world: made, nodes } = world({ count: 3 });
    const [a, b, c] = nodes;
    assert.ok(c);
    let silent = true;
    const heard = overhear(b, ({ type }) => !(silent && type === 'circuit-opened'));
    a.ping(b.identity);
    made.simulation.run(4500);
    assert.ok(refusals(made.relay, 'callee-offline') > 0);
    assert.equal(circuitOf(made.relay, a, b)?.consent, 'asked', 'the next one of the same caller');
    const types = heard.map(({ type }) => type);
    assert.ok(types.indexOf('policy-held') > types.indexOf('circuit-offer'), types.join());
    silent = false;
    reach(made, c, b);
    assert.equal(circuitOf(made.relay, c, b)?.consent, 'standing');
  });

  it('is of one relay: where the callee is not heard, the caller goes on to the next', () => {
    const made = meshWorld({ seed: 43, count: 0 });
    const { simulation, relay } = made;
    const second = simulation.node({
      name: 'second',
      address: { ip: ip('192.0.2.2'), port: 51820 },
      relay: OPEN_POLICY,
      latencyMs: 2,
    });
    const network = { ...made.network, bootstraps: [bootstrapOf(relay), bootstrapOf(second)] };
    const [a, b] = ['a', 'b'].map((name, index) =>
      simulation.node({
        name,
        address: { ip: ip(`192.0.2.${11 + index}`), port: 51820 },
        networks: [network],
        latencyMs: 10,
        consent: MEMBERS,
      }),
    );
    assert.ok(a && b);
    for (const node of [relay, second, a, b]) node.start();
    simulation.run(3000);
    const policies = b.mesh.status(b.step).standingPolicies;
    assert.deepEqual(
      policies.map(({ state }) => state),
      ['held', 'held'],
    );
    assert.equal(new Set(policies.map(({ relayPeerId }) => relayPeerId)).size, 2);
    // The first relay's words to the callee are lost: it does not learn of circuits there.
    overhear(b, ({ type }) => !(type === 'circuit-opened' || type === 'circuit-offer'));
    const heard = overhear(a);
    a.ping(b.identity);
    simulation.run(4500);
    const closed = heard.filter(({ type }) => type === 'circuit-close');
    assert.equal(closed.length, 1);
    assert.ok(circuitOf(relay, a, b) ?? circuitOf(second, a, b), 'the other one is tried');
    assert.equal(refusals(relay, 'callee-offline') + refusals(second, 'callee-offline'), 1);
  });

  it('changes nothing in what is counted: caps, accounts and receipts', () => {
    const capped = world({
      count: 4,
      policy: { ...OPEN_POLICY, limits: { circuitsPerIdentity: 1, halfOpen: 1 } },
    });
    const [a, b, c, d] = capped.nodes;
    assert.ok(c && d);
    for (const [from, to] of [
      [a, b],
      [c, b],
      [d, a],
    ] as const)
      from.ping(to.identity);
    capped.world.simulation.run(1000);
    const { circuits } = relayStatus(capped.world.relay);
    const ends = circuits.flatMap(({ callerPeerId, calleePeerId }) => [callerPeerId, calleePeerId]);
    assert.ok(circuits.length >= 1 && circuits.every(({ consent }) => consent === 'standing'));
    assert.equal(new Set(ends).size, ends.length);
    assert.ok(refusals(capped.world.relay, 'circuits-per-identity') >= 1);
    assert.equal(refusals(capped.world.relay, 'half-open'), 0);

    const counted = world({ count: 2 });
    const [e, f] = counted.nodes;
    reach(counted.world, e, f);
    for (let i = 0; i < 50; i++) e.ping(f.identity);
    counted.world.simulation.run(1000);
    const { accounts } = relayStatus(counted.world.relay);
    assert.deepEqual(
      accounts.identities.map(({ uses }) => uses),
      [1, 1],
    );
    for (const node of [e, f]) node.apply(node.mesh.fetchReceipts(undefined, new Uint8Array(8), node.step));
    counted.world.simulation.run(2000);
    for (const node of [e, f]) {
      const [report] = node.receipts;
      assert.equal(report?.verdict, 'matches', report?.differences.join());
      assert.ok((report.claimed?.sent.packets ?? 0) >= 50);
    }
  });

  it('counts for a caller behind another relay too, at the relay that has it', () => {
    const made = meshWorld({ seed: 44, count: 0 });
    const { simulation } = made;
    const relays: SimNode[] = [];
    for (const index of [0, 1])
      relays.push(
        simulation.node({
          name: `relay-${index + 1}`,
          address: { ip: ip(`192.0.2.${index + 1}`), port: 51820 },
          latencyMs: 2,
          relay: {
            ...OPEN_POLICY,
            get peers() {
              return relays.filter((_, other) => other !== index).map(bootstrapOf);
            },
          },
        }),
      );
    const [r1, r2] = relays;
    assert.ok(r1 && r2);
    const member = (name: string, host: number, relay: SimNode, consent?: Consent): SimNode =>
      simulation.node({
        name,
        address: { ip: ip(`192.0.2.${host}`), port: 51820 },
        networks: [{ ...made.network, bootstraps: [bootstrapOf(relay)] }],
        latencyMs: 10,
        ...(consent && { consent }),
      });
    const a = member('a', 11, r1);
    const b = member('b', 12, r2, MEMBERS);
    for (const node of [r1, r2, a, b]) node.start();
    simulation.run(3000);
    const heard = overhear(b);
    reach(made, a, b);
    assert.equal(circuitOf(r1, a, b)?.consent, 'asked', 'the second relay was');
    assert.equal(circuitOf(r2, a, b)?.consent, 'standing');
    assert.ok(heard.some(({ type }) => type === 'circuit-opened'));
    assert.ok(!heard.some(({ type }) => type === 'circuit-offer'));
  });
});

/** A policy `signer` might have signed, and legs. */
function signed(
  signer: SimNode,
  relay: Pick<SimNode, 'identity'>,
  changed: Partial<PolicyFields> = {},
  seed = signer.config.identitySeed,
): { policy: Uint8Array; legs: [] } {
  const { bytes } = signStandingPolicy(nodePrimitives, seed, {
    identity: signer.identity,
    relay: relay.identity,
    serial: signer.step.wallClock,
    notAfter: Math.floor(signer.step.wallClock / 1000) + 3600,
    identities: [],
    networks: [],
    ...changed,
  });
  return { policy: bytes, legs: [] };
}

describe('a relay refuses a standing policy', () => {
  const cases: readonly (readonly [
    string,
    (a: SimNode, b: SimNode, relay: SimNode) => Uint8Array,
    'bad-policy' | 'stale-policy',
  ])[] = [
    [
      'signed by another key than the identity’s',
      (a, b, relay) => signed(a, relay, {}, b.config.identitySeed).policy,
      'bad-policy',
    ],
    ['of another identity than the one registered', (_, b, relay) => signed(b, relay).policy, 'bad-policy'],
    ['given to another relay', (a, b) => signed(a, { identity: b.identity }).policy, 'bad-policy'],
    [
      'that has run out',
      (a, _, relay) => signed(a, relay, { notAfter: Math.floor(a.step.wallClock / 1000) }).policy,
      'bad-policy',
    ],
    [
      'that is to last more than seven days',
      (a, _, relay) =>
        signed(a, relay, { notAfter: Math.floor(a.step.wallClock / 1000) + 7 * 24 * 3600 + 1 }).policy,
      'bad-policy',
    ],
    [
      'changed by one bit',
      (a, _, relay) => {
        const { policy } = signed(a, relay);
        policy[90] = (policy[90] ?? 0) ^ 1;
        return policy;
      },
      'bad-policy',
    ],
    ['that is none', () => new Uint8Array(40), 'bad-policy'],
    ['older than the one it holds', (a, _, relay) => signed(a, relay, { serial: 1 }).policy, 'stale-policy'],
    [
      'of the same serial that says something else',
      (a, _, relay) => signed(a, relay, { serial: policyOf(a)?.serial ?? 0 }).policy,
      'stale-policy',
    ],
  ];
  for (const [what, make, reason] of cases)
    it(what, () => {
      const { world: made, nodes } = world({ count: 2 });
      const [a, b] = nodes;
      const key = POLICY_PREFIX + toHex(a.sessionKey);
      const before = made.relay.store.get(key);
      const heard = overhear(a);
      say(a, made.relay, { type: 'standing-policy', policy: make(a, b, made.relay), legs: [] });
      made.simulation.run(500);
      assert.deepEqual(heard, [{ type: 'refused', reason, what: 'standing-policy' }]);
      assert.equal(refusals(made.relay, reason), 1);
      assert.deepEqual(made.relay.store.get(key), before, 'what it held it holds');
    });

  it('too big, or with too many legs, as it refuses any message that is none', () => {
    const { world: made, nodes } = world({ count: 2 });
    const [a] = nodes;
    const heard = overhear(a);
    const drops = (): number => made.relay.mesh.status(made.relay.step).drops['control-malformed'] ?? 0;
    const leg = (id: number): { id: number; key: Uint8Array; epoch: number } => ({
      id,
      key: new Uint8Array(16),
      epoch: 0,
    });
    say(a, made.relay, { type: 'standing-policy', policy: new Uint8Array(897), legs: [] }, 1);
    const tooMany = Array.from({ length: PREPARED_LEGS + 1 }, (_, index) => leg(index + 1));
    say(a, made.relay, { type: 'standing-policy', policy: new Uint8Array(40), legs: tooMany }, 2);
    say(a, made.relay, { type: 'standing-policy', policy: new Uint8Array(40), legs: [leg(7), leg(7)] }, 3);
    made.simulation.run(500);
    assert.equal(drops(), 3);
    assert.deepEqual(heard, []);
  });

  it('of somebody who is not registered', () => {
    const { world: made, nodes } = world({ count: 2 });
    const [a, b] = nodes;
    // A member is not a relay, so nobody is admitted by it.
    reach(made, a, b);
    const heard = overhear(a);
    say(a, b, { type: 'standing-policy', ...signed(a, b) });
    made.simulation.run(500);
    assert.deepEqual(heard, [{ type: 'refused', reason: 'not-served', what: 'standing-policy' }]);
  });
});

describe('a callee refuses a circuit a relay says it has set up', () => {
  function opened(caller: SimNode, world: MeshWorld, on: number): ControlMessage {
    const { step } = caller;
    const record = signPeerRecord(nodePrimitives, caller.config.identitySeed, {
      identity: caller.identity,
      sessionKey: caller.sessionKey,
      networks: [blindedNetworkId(nodePrimitives, world.network)],
      endpoints: [],
      relays: [],
      nat: NatBehaviour.unknown,
      capabilities: [],
      sequence: step.wallClock + 1,
      notAfter: Math.floor(step.wallClock / 1000) + 3600,
      name: caller.config.name,
      addresses: [{ round: 0, tenures: [] }],
    });
    return {
      type: 'circuit-opened',
      circuit: new Uint8Array(16).fill(7),
      caller: record.bytes,
      network: blindedNetworkId(nodePrimitives, world.network),
      leg: { id: 99, key: new Uint8Array(16), epoch: 0 },
      on,
      lifetime: 600,
    };
  }

  it('on a leg it did not prepare, or has used', () => {
    const { world: made, nodes } = world({ count: 2 });
    const [a, b] = nodes;
    const heard = overhear(made.relay);
    say(made.relay, b, opened(a, made, 12345));
    made.simulation.run(500);
    assert.deepEqual(heard, [{ type: 'refused', reason: 'no-consent', what: 'circuit-opened' }]);
    assert.equal(b.engine.legCount, 0);
    const told = overhear(b);
    reach(made, a, b);
    const [used] = told.filter((message) => message.type === 'circuit-opened');
    assert.ok(used);
    heard.length = 0;
    say(made.relay, b, opened(a, made, used.on), 4712);
    made.simulation.run(500);
    assert.ok(heard.some((message) => message.type === 'refused' && message.reason === 'no-consent'));
    assert.equal(b.engine.legCount, 1);
  });

  it('for a caller its policy does not name', () => {
    const { world: made, nodes } = world({ count: 2, consent: undefined });
    const [a, b] = nodes;
    const callee = made.simulation.node({
      name: 'callee',
      address: { ip: ip('192.0.2.9'), port: 51820 },
      networks: [made.network],
      latencyMs: 10,
      consent: { networks: [], identities: [b.identity], until: undefined },
    });
    const heard = overhearStandingPolicies(made.relay);
    callee.start();
    made.simulation.run(2000);
    const [leg] = heard;
    assert.ok(leg !== undefined);
    const answers = overhear(made.relay);
    say(made.relay, callee, opened(a, made, leg));
    made.simulation.run(500);
    assert.deepEqual(answers, [{ type: 'refused', reason: 'no-consent', what: 'circuit-opened' }]);
    say(made.relay, callee, opened(b, made, leg), 4712);
    made.simulation.run(500);
    assert.equal(answers[1]?.type, 'circuit-joined', 'and takes the same one for a caller it names');
  });

  it('when it comes from somebody who is none of its relays', () => {
    const { world: made, nodes } = world({ count: 2 });
    const [a, b] = nodes;
    reach(made, a, b);
    const heard = overhear(a);
    say(a, b, opened(a, made, 12345));
    made.simulation.run(500);
    assert.deepEqual(heard, [{ type: 'refused', reason: 'no-consent', what: 'circuit-opened' }]);
  });
});

/** Ids of the legs given with standing policies. */
function overhearStandingPolicies(relay: SimNode): number[] {
  const ids: number[] = [];
  overhear(relay, (message) => {
    if (message.type === 'standing-policy') ids.push(...message.legs.map(({ id }) => id));
    return true;
  });
  return ids;
}
