// LANs behind members: advertised to those with the right, accepted prefix by prefix, taken over by another member, and
// given up by either side.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LEASE_MS } from '../../ts/core/exit/lease-timing.js';
import type { RouteService } from '../../ts/core/exit/exit-rights.js';
import { MAX_ACCEPTED } from '../../ts/core/exit/route-client.js';
import { MAX_LAN_PREFIXES } from '../../ts/core/protocol/message-limits.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import type { RouteInUse, RouteStatus } from '../../ts/core/runtime/exit-change.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { parsePrefix, type Prefix } from '../../ts/wire/prefix.js';
import { allKnowAll, hex, meshWorld, type MeshWorld } from './mesh-world.js';

const prefix = (text: string): Prefix => parsePrefix(text) ?? assert.fail();

function world(count: number, seed = 6): MeshWorld & { readonly nodes: SimNode[] } {
  const made = meshWorld({ seed, count });
  for (const node of [made.relay, ...made.members]) node.start();
  assert.ok(made.simulation.runUntil(() => allKnowAll(made.members), 20_000) !== undefined);
  return { ...made, nodes: [...made.members] };
}

function set(node: SimNode, service: RouteService | undefined, ...accepted: [string, SimNode][]): void {
  const settings = {
    service,
    accepted: accepted.map(([text, { identity }]) => ({ prefix: prefix(text), from: identity })),
  };
  node.apply(node.mesh.setRoutes(settings, node.step));
}

const lan = (prefixes: readonly string[], ...guests: SimNode[]): RouteService => ({
  prefixes: prefixes.map(prefix),
  rights: guests.map(({ identity }) => ({ subject: { identity }, until: undefined })),
});
const status = (node: SimNode): RouteStatus => node.mesh.status(node.step).routes;
const states = (node: SimNode): string[] => status(node).accepted.map(({ state }) => state);
const guests = (node: SimNode): string[] => status(node).guests.map(({ peerId }) => peerId);
const peerId = ({ identity }: SimNode): string => encodePeerId(identity);
const transit = (node: SimNode, guest: SimNode): string | undefined =>
  node.engine.configOf(hex(guest.sessionKey))?.transit;
/** Which of these prefixes `node` sends to `other`. */
const sends = (node: SimNode, other: SimNode, ...prefixes: string[]): string[] => {
  const { allowedIps = [] } = node.engine.configOf(hex(other.sessionKey)) ?? {};
  return prefixes.filter((each) => allowedIps.includes(each));
};
const inUse = (node: SimNode): readonly RouteInUse[] => {
  const last = node.exitChanges.findLast(({ type }) => type === 'routes-in-use');
  return last?.type === 'routes-in-use' ? last.routes : [];
};
const HOME = '192.168.7.0/24';
const OFFICE = '10.20.0.0/16';

describe('a route', () => {
  it('leads where its member grants what was accepted of it, and nowhere else', () => {
    const { simulation, nodes } = world(3);
    const [office, guest, stranger] = nodes as [SimNode, SimNode, SimNode];
    set(office, lan([OFFICE, HOME, 'fd12::/64'], guest));
    // Part of what is advertised, something that is not, and what is in there and not accepted.
    set(guest, undefined, ['10.20.30.0/24', office], ['fd12::/64', office], ['172.16.0.0/12', office]);
    set(stranger, undefined, [HOME, office]);
    assert.ok(
      simulation.runUntil(
        () => states(guest)[0] === 'granted' && states(stranger)[0] === 'denied',
        20_000,
      ) !== undefined,
      states(guest).join(),
    );
    assert.deepEqual(states(guest), ['granted', 'granted', 'not-offered']);
    const all = [OFFICE, HOME, '10.20.30.0/24', 'fd12::/64', '172.16.0.0/12'];
    assert.deepEqual(sends(guest, office, ...all), ['10.20.30.0/24', 'fd12::/64']);
    assert.deepEqual([transit(office, guest), transit(office, stranger)], ['lan', 'none']);
    const [own] = guest.mesh.overlay;
    assert.deepEqual(
      inUse(guest).map(({ prefix: text, source }) => [text, source]),
      [
        ['10.20.30.0/24', own?.ipv4],
        ['fd12::/64', own?.ipv6],
      ],
    );
    // The other side takes from the guest what is the guest's own alone.
    assert.deepEqual(sends(office, guest, ...all), []);
    simulation.run(10 * LEASE_MS);
    assert.deepEqual([guests(office), transit(office, guest)], [[peerId(guest)], 'lan']);
    set(guest, undefined);
    assert.deepEqual([sends(guest, office, ...all), inUse(guest)], [[], []]);
    simulation.run(1000);
    assert.deepEqual([guests(office), transit(office, guest)], [[], 'none']);
  });

  it('is of the first member that grants it, and of the next when that one is gone', () => {
    const { simulation, nodes } = world(3);
    const [first, second, guest] = nodes as [SimNode, SimNode, SimNode];
    for (const node of [first, second]) set(node, lan([HOME], guest));
    set(guest, undefined, [HOME, first], [HOME, second]);
    assert.ok(
      simulation.runUntil(() => states(guest).join() === 'granted,standby', 20_000) !== undefined,
      states(guest).join(),
    );
    assert.deepEqual([sends(guest, first, HOME), sends(guest, second, HOME)], [[HOME], []]);
    set(first, undefined);
    simulation.run(1000);
    assert.deepEqual([sends(guest, first, HOME), sends(guest, second, HOME)], [[], [HOME]]);
    assert.deepEqual(states(guest), ['not-served', 'granted']);
    second.kill(); // silent: found out by the renewals
    set(first, lan([HOME], guest));
    assert.ok(simulation.runUntil(() => sends(guest, first, HOME).length === 1, 90_000) !== undefined);
    assert.deepEqual(sends(guest, second, HOME), []);
  });

  it('ends at once with the right, and with the membership', () => {
    const { simulation, nodes, network } = world(2);
    const [office, guest] = nodes as [SimNode, SimNode];
    set(office, lan([HOME], guest));
    set(guest, undefined, [HOME, office]);
    assert.ok(simulation.runUntil(() => states(guest)[0] === 'granted', 20_000) !== undefined);
    set(office, lan([HOME]));
    assert.equal(transit(office, guest), 'none');
    simulation.run(1000);
    assert.deepEqual([states(guest), sends(guest, office, HOME)], [['denied'], []]);
    set(office, lan([HOME], guest));
    assert.ok(simulation.runUntil(() => states(guest)[0] === 'granted', 90_000) !== undefined);
    guest.apply(guest.mesh.removeNetwork(network.id, guest.step));
    assert.deepEqual([states(guest), inUse(guest)], [['unanswered'], []]);
  });

  it('and an exit by the same member are two rights, which do not end with each other', () => {
    const { simulation, nodes } = world(2);
    const [both, guest] = nodes as [SimNode, SimNode];
    const rights = [{ subject: { identity: guest.identity }, until: undefined }];
    const service = { rights, ipv4: true, ipv6: true, dns: false, lan: [], chain: false };
    both.apply(both.mesh.setExits({ service, choice: undefined }, both.step));
    set(both, lan([HOME], guest));
    set(guest, undefined, [HOME, both]);
    const choice = { exits: [both.identity], hops: 1 };
    guest.apply(guest.mesh.setExits({ service: undefined, choice }, guest.step));
    assert.ok(simulation.runUntil(() => transit(both, guest) === 'exit-and-lan', 20_000) !== undefined);
    simulation.run(1000);
    assert.deepEqual(sends(guest, both, '0.0.0.0/0', HOME), ['0.0.0.0/0', HOME]);
    guest.apply(guest.mesh.setExits({ service: undefined, choice: undefined }, guest.step));
    simulation.run(1000);
    assert.deepEqual([transit(both, guest), sends(guest, both, '0.0.0.0/0', HOME)], ['lan', [HOME]]);
    set(guest, undefined);
    simulation.run(1000);
    assert.equal(transit(both, guest), 'none');
  });

  it('is said to whom it is for when he asks, without a lease', () => {
    const { simulation, nodes } = world(3);
    const [office, guest, stranger] = nodes as [SimNode, SimNode, SimNode];
    set(office, lan([HOME, OFFICE], guest));
    const offered = ({ mesh, step }: SimNode) => mesh.status(step).routes.offers.map(({ answer }) => answer);
    assert.ok(simulation.runUntil(() => offered(guest).length + offered(stranger).length === 2, 20_000));
    for (const node of [guest, stranger]) node.apply(node.mesh.surveyRoutes(node.step));
    simulation.run(2000);
    assert.deepEqual(offered(guest), [{ prefixes: [HOME, OFFICE] }]);
    assert.deepEqual(offered(stranger), [{ refused: 'denied' }]);
    assert.deepEqual([guests(office), transit(office, guest)], [[], 'none']);
  });

  it('of too many is refused by name, and nothing changes', () => {
    const { nodes } = world(2);
    const [office, guest] = nodes as [SimNode, SimNode];
    const many = new Array<string>(MAX_LAN_PREFIXES + 1).fill(HOME);
    assert.throws(() => set(office, lan(many, guest)), /16 are possible/);
    const accepted = new Array<[string, SimNode]>(MAX_ACCEPTED + 1).fill([HOME, office]);
    assert.throws(() => set(guest, undefined, ...accepted), /accept: 257 prefixes given/);
    assert.deepEqual([status(office).advertised, status(guest).accepted], [[], []]);
  });
});
