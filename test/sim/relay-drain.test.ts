import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeMessage, decodeMessage, type ControlMessage } from '../../ts/core/protocol/control-message.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import type { DrainStatus } from '../../ts/core/runtime/mesh-status.js';
import { keyOf, PairWorld, Stream, type Kind } from '../../ts/sim/mesh/pair-world.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { toHex } from '../../ts/wire/bytes.js';
import { meshWorld, allKnowAll, ip, PingRound } from './mesh-world.js';
import type { PathUse } from '../../ts/core/path/path-policy.js';
import { decide, memberOf, rules } from './policy-world.js';

const SEEDS = 4;
const RENEWAL_MS = 300_000;

const drain = (relay: SimNode, seconds: number, automatic = false): void =>
  relay.apply(relay.mesh.drainRelay(seconds, automatic, relay.step));
const drainOf = (relay: SimNode): DrainStatus | undefined => relay.mesh.status(relay.step).relay?.drain;
const uplinkOf = (node: SimNode, relay: SimNode) =>
  node.mesh.status(node.step).bootstraps.find(({ peerId }) => peerId === encodePeerId(relay.identity));

interface Talk {
  readonly world: PairWorld;
  readonly streams: readonly Stream[];
  /** The relay that carries what they say, and the other one. */
  readonly used: SimNode;
  readonly other: SimNode;
}

/** Two members that talk over one of two relays, both ways. */
function talking(seed: number, kinds: Kind, use: PathUse = 'relay-only', everyMs = 10): Talk {
  const world = new PairWorld(seed, kinds, kinds);
  world.start();
  for (const node of [world.a, world.b]) decide(node, rules({ use }));
  assert.ok(world.firstPacket() !== undefined);
  world.simulation.run(5000);
  assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay']);
  const isUsed = ({ identity }: SimNode): boolean => memberOf(world.a).relayPeerId === encodePeerId(identity);
  const [used, other] = world.relays.toSorted((a, b) => Number(isUsed(b)) - Number(isUsed(a)));
  assert.ok(used && other && isUsed(used));
  const streams = [
    new Stream(world, world.a, world.b, everyMs),
    new Stream(world, world.b, world.a, everyMs),
  ];
  world.simulation.run(1000);
  return { world, streams, used, other };
}

/** How many messages one node is sent by another inside their session, by type. @param lost types that it does not get */
function heard(node: SimNode, from: SimNode, lost: readonly string[] = []): Map<string, number> {
  const counts = new Map<string, number>();
  const { mesh } = node;
  const handle = mesh.handleEngineEvent.bind(mesh);
  mesh.handleEngineEvent = (event, step) => {
    if (event.type === 'control' && event.peer === keyOf(from)) {
      const frame = decodeControlFrame(new Uint8Array(event.payload));
      const type = frame && decodeMessage(frame.body)?.message.type;
      if (type !== undefined) counts.set(type, (counts.get(type) ?? 0) + 1);
      if (type !== undefined && lost.includes(type)) return [];
    }
    return handle(event, step);
  };
  return counts;
}

/** Says something inside a session, whatever the node itself would say. */
function say(from: SimNode, to: SimNode, message: ControlMessage, request: number): void {
  from.apply([
    { type: 'send-control', peer: toHex(to.sessionKey), payload: encodeMessage({ request, message }) },
  ]);
}

describe('a relay that drains', () => {
  for (const [what, kind, use] of [
    ['that are to use relays only', 'port-R', 'relay-only'],
    ['that cannot talk directly', 'symmetric', 'any'],
  ] as const)
    it(`has members ${what} move to another relay without losing a packet, and is left`, () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        const { world, streams, used, other } = talking(seed, kind, use);
        drain(used, 60);
        const over = world.simulation.runUntil(() => used.mesh.isRelayDrained, 60_000);
        assert.ok(over !== undefined && over < 10_000, `seed ${seed}: ${over ?? 'never'} ms`);
        world.simulation.run(500); // the last answer is under way
        assert.deepEqual(
          [
            drainOf(used)?.clients,
            drainOf(used)?.circuits,
            other.mesh.status(other.step).relay?.circuits.length,
          ],
          [0, 0, 1],
        );
        for (const node of [world.a, world.b]) {
          assert.equal(memberOf(node).relayPeerId, encodePeerId(other.identity));
          assert.deepEqual(
            [uplinkOf(node, used)?.state, uplinkOf(node, used)?.lastError],
            ['backoff', 'draining'],
          );
        }
        used.kill();
        world.simulation.run(5000);
        for (const stream of streams) stream.stop();
        world.simulation.run(2000);
        assert.deepEqual(
          streams.map(({ lost }) => lost),
          [[], []],
          `seed ${seed}`,
        );
      }
    });

  it('moves nothing of members that talk directly, but the standby', () => {
    const world = new PairWorld(2, 'port-R', 'port-R');
    const streams = world.talk(5);
    const [first, second] = world.relays;
    assert.ok(first && second);
    const standby = world.relays.find(
      (relay) => (relay.mesh.status(relay.step).relay?.circuits.length ?? 0) > 0,
    );
    assert.ok(standby);
    drain(standby, 60);
    assert.ok(world.simulation.runUntil(() => standby.mesh.isRelayDrained, 60_000) !== undefined);
    standby.kill();
    world.simulation.run(3000);
    assert.ok(world.bothDirect);
    world.cut('both');
    world.simulation.run(3000);
    assert.deepEqual([world.pathOf(world.a), world.pathOf(world.b)], ['relay', 'relay']);
    for (const stream of streams) stream.stop();
  });

  it('loses nobody a packet when every fifth datagram of its is lost', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { world, used } = talking(seed, 'port-R', 'relay-only', 1000);
      const { internet } = world.simulation;
      let sent = 0;
      const isUsed = (ip: Uint8Array): boolean => toHex(ip) === toHex(used.address.ip);
      internet.blocked = (from, to) => (isUsed(from.ip) || isUsed(to.ip)) && sent++ % 5 === 0;
      drain(used, 60);
      const over = world.simulation.runUntil(() => used.mesh.isRelayDrained, 60_000);
      assert.ok(over !== undefined && over < 30_000, `seed ${seed}: ${over ?? 'never'} ms`);
      assert.equal(drainOf(used)?.clients, 0, `seed ${seed}`);
    }
  });

  it('is not waited for where nobody can leave, and its clients stay until it goes', () => {
    const { world, streams, used, other } = talking(3, 'port-R', 'relay-only', 20);
    other.kill();
    world.simulation.run(10_000);
    const begin = world.simulation.now;
    drain(used, 30);
    world.simulation.run(5000);
    assert.deepEqual(
      [drainOf(used)?.staying, used.mesh.isRelayDrained],
      [2, false],
      'its operator gave them 30 s',
    );
    drain(used, 3, true);
    const over = world.simulation.runUntil(() => used.mesh.isRelayDrained, 10_000);
    assert.ok(over !== undefined && over <= 1100, `${over ?? 'never'} ms`);
    world.simulation.run(5000);
    assert.deepEqual([world.pathOf(world.a), uplinkOf(world.a, used)?.state], ['relay', 'registered']);
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    assert.deepEqual(
      streams.map(({ lost }) => lost.filter((at) => at > begin)),
      [[], []],
    );
  });

  it('is not left for a relay that has just died unnoticed', () => {
    const { world, used, other } = talking(15, 'port-R', 'relay-only', 1000);
    other.kill();
    drain(used, 600);
    world.simulation.run(20_000);
    assert.deepEqual(
      [uplinkOf(world.a, used)?.state, uplinkOf(world.b, used)?.state],
      ['registered', 'registered'],
    );
    assert.ok(drainOf(used)?.done === false);
  });

  it('is over when its time is up', () => {
    const { world, used, other } = talking(4, 'port-R', 'relay-only', 1000);
    other.kill();
    world.simulation.run(10_000);
    drain(used, 7);
    const over = world.simulation.runUntil(() => used.mesh.isRelayDrained, 60_000);
    assert.ok(over !== undefined && over >= 6900 && over <= 7200, `${over ?? 'never'} ms`);
    assert.deepEqual([drainOf(used)?.clients, drainOf(used)?.done], [2, true]);
  });

  it('moves members when another relay comes up meanwhile', () => {
    const { world, streams, used, other } = talking(5, 'port-R');
    other.kill();
    world.simulation.run(30_000);
    drain(used, 120);
    world.simulation.run(5000);
    assert.equal(drainOf(used)?.clients, 2);
    other.start();
    const over = world.simulation.runUntil(() => used.mesh.isRelayDrained, 110_000);
    assert.ok(over !== undefined, 'before the time was up');
    assert.equal(drainOf(used)?.clients, 0);
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    assert.deepEqual(
      streams.map(({ lost }) => lost),
      [[], []],
    );
  });

  it('takes on no client and no circuit, says so, and is not pestered', () => {
    const world = meshWorld({ seed: 8, count: 3 });
    const { relay, simulation, members } = world;
    const [a, b, late] = members;
    assert.ok(a && b && late);
    for (const node of [relay, a, b]) node.start();
    assert.ok(simulation.runUntil(() => allKnowAll([a, b]), 60_000, 100) !== undefined);
    drain(relay, 120);
    simulation.run(1000);
    late.start();
    const asked = heard(relay, a);
    const round = new PingRound(world, [[a, b]]);
    assert.equal(round.complete(60_000), undefined);
    assert.equal(memberOf(a).refused, 'draining');
    assert.equal(asked.get('circuit-open') ?? 0, 0, 'it was told');
    const [uplink] = late.mesh.status(late.step).bootstraps;
    assert.deepEqual([uplink?.state, uplink?.lastError], ['backoff', 'draining']);
    const { draining = 0 } = relay.mesh.status(relay.step).relay?.refusals ?? {};
    assert.ok(draining >= 1 && draining <= 3, `asked ${draining} times within 60 s`);
    relay.apply(relay.mesh.undrainRelay(relay.step));
    assert.ok(new PingRound(world, [[a, b]]).complete(15_000) !== undefined, 'again');
    const joined = simulation.runUntil(
      () => late.mesh.status(late.step).bootstraps[0]?.state === 'registered',
      62_000,
    );
    assert.ok(joined !== undefined, 'within a minute');
  });

  it('is asked once for a circuit by who missed that it drains', () => {
    const world = meshWorld({ seed: 9, count: 2 });
    const { relay, simulation, members } = world;
    const [a, b] = members;
    assert.ok(a && b);
    for (const node of [relay, a, b]) node.start();
    assert.ok(simulation.runUntil(() => allKnowAll(members), 60_000, 100) !== undefined);
    const asked = heard(relay, a);
    heard(a, relay, ['relay-drain']);
    drain(relay, 600);
    assert.equal(new PingRound(world, [[a, b]]).complete(30_000), undefined);
    assert.deepEqual([asked.get('circuit-open'), memberOf(a).refused], [1, 'draining']);
  });

  it('is asked again by those who left it when it goes on after all', () => {
    const { world, streams, used } = talking(10, 'port-R');
    drain(used, 600);
    assert.ok(world.simulation.runUntil(() => used.mesh.isRelayDrained, 60_000) !== undefined);
    used.apply(used.mesh.undrainRelay(used.step));
    assert.equal(drainOf(used), undefined);
    const back = world.simulation.runUntil(() => uplinkOf(world.a, used)?.state === 'registered', 62_000);
    assert.ok(back !== undefined, 'within a minute');
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    assert.deepEqual(
      streams.map(({ lost }) => lost),
      [[], []],
    );
  });

  it('tells a client again that was away for a time, and nobody else', () => {
    for (const away of [1000, 14_000, 60_000]) {
      const world = meshWorld({ seed: 16, count: 2 });
      const { relay, simulation, members } = world;
      const [a, b] = members;
      assert.ok(a && b);
      for (const node of [relay, a, b]) node.start();
      assert.ok(simulation.runUntil(() => allKnowAll(members), 60_000, 100) !== undefined);
      const told = heard(b, relay);
      drain(relay, 600);
      simulation.run(1000);
      const before = uplinkOf(a, relay)?.drainsInSeconds;
      let isAway = true;
      const outside = toHex(ip('198.18.0.0'));
      simulation.internet.blocked = (from, to) =>
        isAway && (toHex(from.ip) === outside || toHex(to.ip) === outside);
      simulation.run(away);
      isAway = false;
      simulation.run(30_000);
      const uplink = uplinkOf(a, relay);
      const left = 600 - (1000 + away + 30_000) / 1000;
      assert.equal(uplink?.state, 'registered', `away for ${away} ms`);
      assert.ok(Math.abs((uplink.drainsInSeconds ?? 0) - left) <= 1, `away for ${away} ms`);
      assert.ok(before !== undefined);
      assert.equal(told.get('relay-drain'), 1);
    }
  });

  it('tells a client again that missed that it goes on', () => {
    const world = meshWorld({ seed: 17, count: 2 });
    const { relay, simulation, members } = world;
    const [a] = members;
    assert.ok(a);
    for (const node of [relay, ...members]) node.start();
    assert.ok(simulation.runUntil(() => allKnowAll(members), 60_000, 100) !== undefined);
    const lost: string[] = [];
    heard(a, relay, lost);
    drain(relay, 600);
    simulation.run(1000);
    lost.push('relay-drain');
    relay.apply(relay.mesh.undrainRelay(relay.step));
    simulation.run(40_000);
    assert.notEqual(uplinkOf(a, relay)?.drainsInSeconds, undefined);
    lost.pop();
    const heardOfIt = simulation.runUntil(
      () => uplinkOf(a, relay)?.drainsInSeconds === undefined,
      RENEWAL_MS,
      100,
    );
    assert.ok(heardOfIt !== undefined, 'when it renews its registration');
  });

  it('that changes its mind before anybody has left keeps them', () => {
    const world = meshWorld({ seed: 11, count: 2 });
    const { relay, simulation, members } = world;
    for (const node of [relay, ...members]) node.start();
    assert.ok(simulation.runUntil(() => allKnowAll(members), 60_000, 100) !== undefined);
    const [a] = members;
    assert.ok(a);
    drain(relay, 600);
    simulation.run(1000);
    assert.ok((uplinkOf(a, relay)?.drainsInSeconds ?? 0) >= 599);
    relay.apply(relay.mesh.undrainRelay(relay.step));
    simulation.run(11_000);
    assert.deepEqual(
      [uplinkOf(a, relay)?.drainsInSeconds, uplinkOf(a, relay)?.state],
      [undefined, 'registered'],
    );
  });
});

describe('what is said of drains by who lies', () => {
  it('moves nothing more than once in 10 s, however often a relay changes its mind', () => {
    const { world, streams, used, other } = talking(12, 'port-R', 'relay-only', 20);
    const opened = [heard(used, world.a), heard(other, world.a), heard(used, world.b), heard(other, world.b)];
    let number = 1;
    for (let at = 0; at < 60_000; at += 50) {
      for (const node of [world.a, world.b])
        say(used, node, { type: 'relay-drain', seconds: number % 2 === 0 ? 0 : 300 }, number);
      number++;
      world.simulation.run(50);
    }
    const count = (type: string): number => opened.reduce((sum, each) => sum + (each.get(type) ?? 0), 0);
    assert.ok(count('circuit-open') <= 14, `${count('circuit-open')} circuits were asked for in 60 s`);
    assert.ok(count('unregister') <= 14, `${count('unregister')}`);
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    assert.deepEqual(
      streams.map(({ lost }) => lost),
      [[], []],
    );
  });

  it('makes members leave a relay that stays, for a minute at most', () => {
    const { world, streams, used } = talking(13, 'port-R');
    for (const node of [world.a, world.b]) say(used, node, { type: 'relay-drain', seconds: 86_400 }, 7);
    const left = world.simulation.runUntil(() => uplinkOf(world.a, used)?.lastError === 'draining', 20_000);
    assert.ok(left !== undefined);
    assert.ok(
      world.simulation.runUntil(() => uplinkOf(world.a, used)?.state === 'registered', 62_000) !== undefined,
    );
    for (const stream of streams) stream.stop();
    world.simulation.run(2000);
    assert.deepEqual(
      streams.map(({ lost }) => lost),
      [[], []],
    );
  });

  it('is not heard of a member', () => {
    const { world, used } = talking(14, 'port-R', 'relay-only', 1000);
    const answers = heard(world.b, world.a);
    say(world.b, world.a, { type: 'relay-drain', seconds: 60 }, 99);
    world.simulation.run(5000);
    assert.equal(answers.get('refused'), 1);
    assert.equal(uplinkOf(world.a, used)?.drainsInSeconds, undefined);
  });
});
