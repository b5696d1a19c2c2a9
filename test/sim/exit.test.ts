// Rights to leave by another member: granted, refused, lapsed, taken back; exits that disappear, and those that
// would lead in a circle.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LEASE_MS } from '../../ts/core/exit/lease-timing.js';
import type { ExitChoice } from '../../ts/core/exit/exit-client.js';
import type { ExitRight, ExitService } from '../../ts/core/exit/exit-rights.js';
import { encodeMessage, type ControlMessage } from '../../ts/core/protocol/control-message.js';
import { blindedNetworkId } from '../../ts/core/protocol/network.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import type { ExitInUse, ExitState } from '../../ts/core/runtime/exit-change.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { parsePrefix } from '../../ts/wire/prefix.js';
import { PORT_RESTRICTED } from '../../ts/sim/kernel/nat.js';
import { Simulation } from '../../ts/sim/mesh/simulation.js';
import { formatIp } from '../../ts/wire/socket-address.js';
import { allKnowAll, bootstrapOf, hex, ip, meshWorld, OPEN_POLICY, type MeshWorld } from './mesh-world.js';

const DEFAULTS = ['0.0.0.0/0', '::/0'];

function service(rights: readonly ExitRight[], more: Partial<ExitService> = {}): ExitService {
  return { rights, ipv4: true, ipv6: true, dns: false, lan: [], chain: false, ...more };
}

const to = ({ identity }: SimNode, until?: number): ExitRight => ({ subject: { identity }, until });

/** A network whose members all know each other. */
function world(count: number, seed = 5): MeshWorld & { readonly nodes: SimNode[] } {
  const made = meshWorld({ seed, count });
  for (const node of [made.relay, ...made.members]) node.start();
  assert.ok(made.simulation.runUntil(() => allKnowAll(made.members), 20_000) !== undefined);
  return { ...made, nodes: [...made.members] };
}

function serve(node: SimNode, wanted: ExitService | undefined, choice?: ExitChoice): void {
  node.apply(node.mesh.setExits({ service: wanted, choice }, node.step));
}

function use(node: SimNode, exits: readonly SimNode[], hops = 1, own?: ExitService): void {
  const choice = exits.length === 0 ? undefined : { exits: exits.map(({ identity }) => identity), hops };
  node.apply(node.mesh.setExits({ service: own, choice }, node.step));
}

const states = (node: SimNode): ExitState[] =>
  node.mesh.status(node.step).exit.choice.map(({ state }) => state);
const active = (node: SimNode): string | undefined =>
  node.mesh.status(node.step).exit.choice.find(({ isActive }) => isActive)?.peerId;
const guests = (node: SimNode): string[] =>
  node.mesh.status(node.step).exit.guests.map(({ peerId }) => peerId);
const peerId = ({ identity }: SimNode): string => encodePeerId(identity);
const key = ({ sessionKey }: SimNode): string => hex(sessionKey);
/** What the engine of `node` lets packets of `guest` be for. */
const transit = (node: SimNode, guest: SimNode): string | undefined =>
  node.engine.configOf(key(guest))?.transit;
/** Whether `node` sends everything to `exit`. */
const leavesBy = (node: SimNode, exit: SimNode): boolean => {
  const { allowedIps = [] } = node.engine.configOf(key(exit)) ?? {};
  return DEFAULTS.every((prefix) => allowedIps.includes(prefix));
};
/** What the host of `node` was told last of the exit in use. */
const inUse = (node: SimNode): ExitInUse | undefined => {
  const last = node.exitChanges.findLast(({ type }) => type === 'exit-in-use');
  return last?.type === 'exit-in-use' ? last.use : undefined;
};
const guestsTold = (node: SimNode): readonly string[] => {
  const last = node.exitChanges.findLast(({ type }) => type === 'exit-guests');
  return last?.type === 'exit-guests' ? last.guests.flatMap(({ addresses }) => addresses) : [];
};

describe('an exit', () => {
  it('is granted to whom it was allowed, both ends are set up for it, and it ends when it is no longer used', () => {
    const { simulation, nodes } = world(2);
    const [exit, guest] = nodes as [SimNode, SimNode];
    const lan = parsePrefix('192.168.7.0/24');
    assert.ok(lan);
    serve(exit, service([to(guest)], { lan: [lan], dns: true }));
    use(guest, [exit]);
    assert.ok(
      simulation.runUntil(() => active(guest) !== undefined, 20_000) !== undefined,
      states(guest).join(),
    );
    assert.deepEqual(guests(exit), [peerId(guest)]);
    assert.equal(transit(exit, guest), 'exit');
    assert.ok(leavesBy(guest, exit));
    // The exit takes from the guest what is the guest's own alone.
    assert.ok(!leavesBy(exit, guest));
    const [own] = guest.mesh.overlay;
    const [theirs] = exit.mesh.overlay;
    assert.deepEqual([...guestsTold(exit)].sort(), [own?.ipv4, own?.ipv6].sort());
    assert.deepEqual(inUse(guest), {
      identity: exit.identity,
      ipv4: own?.ipv4,
      ipv6: own?.ipv6,
      resolvers: [theirs?.ipv4, theirs?.ipv6],
      lan: ['192.168.7.0/24'],
    });
    // It lasts for as long as it is used.
    simulation.run(10 * LEASE_MS);
    assert.equal(transit(exit, guest), 'exit');
    assert.ok(leavesBy(guest, exit));
    use(guest, []);
    assert.ok(!leavesBy(guest, exit));
    assert.equal(inUse(guest), undefined);
    simulation.run(1000);
    assert.deepEqual([guests(exit), transit(exit, guest), guestsTold(exit)], [[], 'none', []]);
  });

  it('is nobody\u2019s by default, and each kind of right is for whom it says', () => {
    const { simulation, nodes, network } = world(4);
    const [exit, byIdentity, byKey, other] = nodes as [SimNode, SimNode, SimNode, SimNode];
    for (const node of nodes.slice(1)) use(node, [exit]);
    simulation.run(5000);
    assert.deepEqual(nodes.slice(1).map(states), [['not-offered'], ['not-offered'], ['not-offered']]);
    serve(exit, service([to(byIdentity), { subject: { sessionKey: key(byKey) }, until: undefined }]));
    const done = (): boolean =>
      active(byIdentity) !== undefined && active(byKey) !== undefined && states(other)[0] === 'denied';
    assert.ok(simulation.runUntil(done, 20_000) !== undefined, nodes.map(states).join(' '));
    assert.equal(transit(exit, other), 'none');
    assert.ok(!leavesBy(other, exit));
    serve(exit, service([{ subject: { network: network.id }, until: undefined }]));
    assert.ok(simulation.runUntil(() => active(other) !== undefined, 120_000) !== undefined);
    assert.equal(guests(exit).length, 3);
  });

  it('is over when the right runs out, without a word from anybody', () => {
    const { simulation, nodes } = world(2);
    const [exit, guest] = nodes as [SimNode, SimNode];
    serve(exit, service([to(guest, exit.step.wallClock + 90_000)]));
    use(guest, [exit]);
    assert.ok(simulation.runUntil(() => active(guest) !== undefined, 20_000) !== undefined);
    guest.kill(); // it neither renews nor releases
    simulation.run(91_000);
    assert.deepEqual([guests(exit), transit(exit, guest)], [[], 'none']);
    guest.start();
    use(guest, [exit]);
    assert.ok(simulation.runUntil(() => states(guest)[0] === 'right-lapsed', 60_000) !== undefined);
    assert.ok(!leavesBy(guest, exit));
  });

  it('is over at once when the right is taken back, or the exit leaves the network', () => {
    const { simulation, nodes, network } = world(3);
    const [exit, guest, second] = nodes as [SimNode, SimNode, SimNode];
    serve(exit, service([to(guest), to(second)]));
    for (const node of [guest, second]) use(node, [exit]);
    assert.ok(simulation.runUntil(() => guests(exit).length === 2, 20_000) !== undefined);
    serve(exit, service([to(second)]));
    assert.equal(transit(exit, guest), 'none');
    simulation.run(1000);
    assert.deepEqual([states(guest), active(guest), leavesBy(guest, exit)], [['denied'], undefined, false]);
    assert.deepEqual([states(second), transit(exit, second)], [['granted'], 'exit']);
    exit.apply(exit.mesh.removeNetwork(network.id, exit.step));
    assert.deepEqual([guests(exit), guestsTold(exit)], [[], []]);
    assert.equal(transit(exit, second), undefined);
  });

  it('forgets a member whose record has run out', () => {
    const { simulation, nodes } = world(2);
    const [exit, guest] = nodes as [SimNode, SimNode];
    serve(exit, service([to(guest)]));
    use(guest, [exit]);
    assert.ok(simulation.runUntil(() => guests(exit).length === 1, 20_000) !== undefined);
    guest.kill();
    simulation.run(LEASE_MS + 1000);
    assert.deepEqual([guests(exit), transit(exit, guest)], [[], 'none']);
  });

  it('that disappears is followed by the next, and takes its place again when it is back', () => {
    const { simulation, nodes } = world(3);
    const [first, second, guest] = nodes as [SimNode, SimNode, SimNode];
    for (const exit of [first, second]) serve(exit, service([to(guest)]));
    use(guest, [first, second]);
    assert.ok(simulation.runUntil(() => active(guest) === peerId(first), 20_000) !== undefined);
    assert.deepEqual(states(guest), ['granted', 'standby']);
    first.kill();
    assert.ok(
      simulation.runUntil(() => active(guest) === peerId(second), 40_000) !== undefined,
      states(guest).join(),
    );
    assert.deepEqual([leavesBy(guest, first), leavesBy(guest, second)], [false, true]);
    first.start();
    serve(first, service([to(guest)]));
    assert.ok(
      simulation.runUntil(() => active(guest) === peerId(first), 180_000) !== undefined,
      states(guest).join(),
    );
    assert.deepEqual([leavesBy(guest, first), leavesBy(guest, second)], [true, false]);
    simulation.run(1000);
    assert.deepEqual(guests(second), []);
  });

  it('leaves the guest without a way while none of its exits grants', () => {
    const { simulation, nodes } = world(2);
    const [exit, guest] = nodes as [SimNode, SimNode];
    serve(exit, service([to(guest)]));
    use(guest, [exit]);
    assert.ok(simulation.runUntil(() => active(guest) !== undefined, 20_000) !== undefined);
    serve(exit, undefined);
    simulation.run(1000);
    assert.equal(inUse(guest), undefined);
    assert.ok(!leavesBy(guest, exit));
    assert.ok(guest.notices.some(({ event }) => event === 'exit-lost'));
  });

  it('does not lead back to who asks, and two that use each other end up with neither', () => {
    const { simulation, nodes } = world(2);
    const [a, b] = nodes as [SimNode, SimNode];
    const both = service([to(a), to(b)], { chain: true });
    use(a, [b], 3, both);
    use(b, [a], 3, both);
    let looped = 0;
    let longest = 0;
    for (let step = 0; step < 3000; step++) {
      simulation.run(100);
      looped = leavesBy(a, b) && leavesBy(b, a) ? looped + 1 : 0;
      longest = Math.max(longest, looped);
    }
    assert.ok(longest <= 3, `a loop for ${longest * 100} ms`);
    const found = [...states(a), ...states(b)];
    assert.ok(found.includes('loop') || found.includes('exit-chain'), found.join());
  });

  it('that leaves by another is refused unless both sides ask for a chain of that length', () => {
    const { simulation, nodes } = world(3);
    const [guest, middle, last] = nodes as [SimNode, SimNode, SimNode];
    serve(last, service([to(middle)]));
    use(middle, [last], 1, service([to(guest)]));
    use(guest, [middle], 2);
    assert.ok(simulation.runUntil(() => active(middle) !== undefined, 20_000) !== undefined);
    assert.ok(simulation.runUntil(() => states(guest)[0] === 'exit-chain', 90_000) !== undefined);
    assert.equal(transit(middle, guest), 'none');
    // The exit agrees, the guest asks for one hop alone.
    use(middle, [last], 1, service([to(guest)], { chain: true }));
    use(guest, [middle], 1);
    simulation.run(60_000);
    assert.deepEqual(states(guest), ['exit-chain']);
    use(guest, [middle], 2);
    assert.ok(
      simulation.runUntil(() => active(guest) !== undefined, 90_000) !== undefined,
      states(guest).join(),
    );
    const [choice] = guest.mesh.status(guest.step).exit.choice;
    assert.deepEqual(choice?.via, [peerId(last)]);
    // An exit that begins to leave by another withdraws from those who did not agree to it.
    use(middle, [], 1, service([to(guest)]));
    use(guest, [middle], 1);
    assert.ok(simulation.runUntil(() => active(guest) !== undefined, 90_000) !== undefined);
    use(middle, [last], 1, service([to(guest)]));
    simulation.run(1000);
    assert.deepEqual([states(guest), transit(middle, guest)], [['exit-chain'], 'none']);
  });

  it('is asked ten thousand times at once by a member, and is no worse for it', () => {
    const { simulation, nodes, network } = world(3);
    const [exit, flooder, guest] = nodes as [SimNode, SimNode, SimNode];
    serve(exit, service([to(flooder), to(guest)]));
    use(guest, [exit]);
    assert.ok(simulation.runUntil(() => active(guest) !== undefined, 20_000) !== undefined);
    const told = exit.exitChanges.length;
    const blinded = blindedNetworkId(nodePrimitives, network);
    for (let request = 1; request <= 10_000; request++) {
      const message: ControlMessage = { type: 'exit-request', network: blinded, hops: 1 };
      flooder.apply([
        { type: 'send-control', peer: key(exit), payload: encodeMessage({ request, message }) },
      ]);
      if (request % 500 === 0) simulation.run(100);
    }
    simulation.run(1000);
    assert.equal(guests(exit).length, 2);
    // The host is not asked for anything ten thousand times.
    assert.ok(exit.exitChanges.length - told <= 2, `${exit.exitChanges.length - told}`);
    assert.equal(transit(exit, guest), 'exit');
    assert.equal(active(guest), peerId(exit));
  });

  it('turns down who is no member, by whichever network it asks in', () => {
    const { simulation, nodes, relay } = world(2);
    const [exit] = nodes as [SimNode];
    serve(exit, service([{ subject: { identity: relay.identity }, until: undefined }]));
    // The relay has a session with the exit, but not one of a member.
    const message: ControlMessage = { type: 'exit-request', network: new Uint8Array(16), hops: 1 };
    relay.apply([{ type: 'send-control', peer: key(exit), payload: encodeMessage({ request: 7, message }) }]);
    simulation.run(1000);
    assert.deepEqual(guests(exit), []);
    assert.equal(transit(exit, relay), 'none');
  });
});

/** Two relays, a guest and two exits, which all talk directly where they can. */
function directWorld(seed: number): {
  readonly simulation: Simulation;
  readonly guest: SimNode;
  readonly exits: readonly [SimNode, SimNode];
} {
  const simulation = new Simulation({ seed });
  const relays = [1, 2].map((place) =>
    simulation.node({
      name: `relay-${place}`,
      address: { ip: ip(`192.0.2.${place}`), port: 51_820 },
      relay: { ...OPEN_POLICY, limits: { circuits: 32, admissions: 32 } },
      latencyMs: 5,
    }),
  );
  const network = {
    id: simulation.prng.bytes(16),
    name: 'home',
    key: simulation.prng.bytes(32),
    bootstraps: relays.map(bootstrapOf),
  };
  const member = (name: string, place: number): SimNode =>
    simulation.node({
      name,
      address: { ip: ip('10.0.0.2'), port: 51_820 },
      nat: simulation.nat(ip(`198.18.0.${place}`), PORT_RESTRICTED),
      networks: [network],
      latencyMs: simulation.prng.integer(5, 40),
      directPaths: true,
    });
  const guest = member('guest', 1);
  const exits = [member('first', 2), member('second', 3)] as const;
  for (const node of [...relays, guest, ...exits]) node.start();
  assert.ok(simulation.runUntil(() => allKnowAll([guest, ...exits]), 20_000) !== undefined);
  for (const exit of exits) serve(exit, service([to(guest)]));
  simulation.run(1000);
  return { simulation, guest, exits };
}

describe('a member that was out of reach when it was asked', () => {
  /** Nothing comes to it or from it. */
  const cutOff = ({ simulation }: Pick<MeshWorld, 'simulation'>, node: SimNode): void => {
    const at = formatIp(node.nat?.ip ?? node.address.ip);
    simulation.internet.blocked = (from, target) => [from, target].some((end) => formatIp(end.ip) === at);
  };
  /** As long as a relay takes to be asked again, and to reach who is back. */
  const SOON_MS = 10_000;

  for (const [outageMs, what] of [
    [25_000, 'one request was in vain'],
    [60_000, 'several were'],
  ] as const)
    it(`is asked again as soon as there is a way: ${what}`, () => {
      for (let seed = 1; seed <= 10; seed++) {
        const world = directWorld(seed);
        const { simulation, guest, exits } = world;
        const [first, second] = exits;
        use(guest, exits);
        assert.ok(simulation.runUntil(() => active(guest) === peerId(first), 20_000) !== undefined);
        first.kill();
        cutOff(world, second);
        assert.ok(simulation.runUntil(() => states(guest)[1] === 'unanswered', 60_000) !== undefined);
        simulation.run(outageMs - 8000);
        simulation.internet.blocked = () => false;
        const used = (): boolean => active(guest) === peerId(second);
        assert.ok(simulation.runUntil(used, SOON_MS) !== undefined, `seed ${seed}: ${states(guest).join()}`);
      }
    });

  it('and the member whose LAN is accepted likewise', () => {
    const lan = parsePrefix('192.168.7.0/24');
    assert.ok(lan);
    for (let seed = 1; seed <= 10; seed++) {
      const world = directWorld(seed);
      const { simulation, guest, exits } = world;
      const [router] = exits;
      router.apply(
        router.mesh.setRoutes(
          { service: { rights: [to(guest)], prefixes: [lan] }, accepted: [] },
          router.step,
        ),
      );
      simulation.run(1000);
      cutOff(world, router);
      const accepted = [{ prefix: lan, from: router.identity }];
      guest.apply(guest.mesh.setRoutes({ service: undefined, accepted }, guest.step));
      const state = (): ExitState | undefined => guest.mesh.status(guest.step).routes.accepted[0]?.state;
      assert.ok(simulation.runUntil(() => state() === 'unanswered', 60_000) !== undefined);
      simulation.run(50_000);
      simulation.internet.blocked = () => false;
      assert.ok(
        simulation.runUntil(() => state() === 'granted', SOON_MS) !== undefined,
        `seed ${seed}: ${state()}`,
      );
    }
  });
});
