// Whose an overlay address is: attackers who have searched for somebody's, networks that were parted, and
// relays, holders and newcomers that were away.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MAX_ROUND, TENURE_SECONDS } from '../../ts/core/protocol/address-tenure.js';
import { decodeCbor, encodeCbor } from '../../ts/core/protocol/cbor.js';
import { blindedNetworkId, overlayAddresses, type Network } from '../../ts/core/protocol/network.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import type { NetworkStatus } from '../../ts/core/runtime/mesh-status.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { Prng } from '../../ts/sim/kernel/prng.js';
import { Simulation, type SimNode, type SimNodeOptions } from '../../ts/sim/mesh/simulation.js';
import { toHex } from '../../ts/wire/bytes.js';
import { bootstrapOf, ip, OPEN_POLICY } from './mesh-world.js';

interface AddressWorld {
  readonly simulation: Simulation;
  readonly relays: readonly SimNode[];
  readonly network: Network;
  member(name: string, options?: Partial<SimNodeOptions>): SimNode;
}

/** A network with so many bootstraps, running; its members are put in by hand. */
function world(bootstraps = 1, identitySeed?: Uint8Array): AddressWorld {
  const simulation = new Simulation({ seed: 4711 });
  const relays = Array.from({ length: bootstraps }, (_, index) =>
    simulation.node({
      name: `relay-${index}`,
      address: { ip: ip(`192.0.2.${index + 1}`), port: 51820 },
      relay: OPEN_POLICY,
      latencyMs: 2,
      ...(identitySeed && { identitySeed }),
    }),
  );
  const network: Network = {
    id: NETWORK_ID,
    name: 'home',
    key: NETWORK_KEY,
    bootstraps: relays.map(bootstrapOf),
  };
  for (const relay of relays) relay.start();
  let count = 0;
  return {
    simulation,
    relays,
    network,
    member: (name, options) =>
      simulation.node({
        name,
        address: { ip: ip(`198.51.100.${++count}`), port: 51820 },
        networks: [network],
        latencyMs: 5,
        ...options,
      }),
  };
}

/** The same in every test: what was searched for once serves them all. */
const NETWORK_ID = new Prng(1).bytes(16);
const NETWORK_KEY = new Prng(2).bytes(32);
const BLINDED = toHex(blindedNetworkId(nodePrimitives, { id: NETWORK_ID, key: NETWORK_KEY }));

/** Identity seeds that come to one IPv4 address, and the attacker's identity sorts lower. */
const { victim, attacker, address } = ((): Readonly<Record<'victim' | 'attacker', Uint8Array>> & {
  readonly address: string;
} => {
  const prng = new Prng(815);
  const seeds = new Map<string, Uint8Array>();
  for (;;) {
    const seed = prng.bytes(32);
    const found = addressOf(seed);
    const twin = seeds.get(found);
    if (twin !== undefined) {
      const lower = identityOf(seed) < identityOf(twin) ? seed : twin;
      return { attacker: lower, victim: lower === seed ? twin : seed, address: found };
    }
    seeds.set(found, seed);
  }
})();

interface Searched {
  readonly victim: Uint8Array;
  readonly attacker: Uint8Array;
  readonly round: number;
}

/** An identity seed whose first IPv4 address is the one of a later round of an attacker's in a network. */
function searched(seedOfSearch: number, network: Uint8Array): Searched {
  const prng = new Prng(seedOfSearch);
  const rounds = new Map<string, { readonly attacker: Uint8Array; readonly round: number }>();
  for (let index = 0; index < 16; index++) {
    const seed = prng.bytes(32);
    for (let round = 1; round <= MAX_ROUND; round++)
      rounds.set(addressOf(seed, round, network), { attacker: seed, round });
  }
  for (;;) {
    const seed = prng.bytes(32);
    const found = rounds.get(addressOf(seed));
    if (found !== undefined) return { victim: seed, ...found };
  }
}

const byRound = searched(99, NETWORK_ID);

/** A network whose bootstrap serves the attacker, and an address of his there that is the victim's elsewhere. */
const OTHER_ID = new Prng(3).bytes(16);
const OTHER_KEY = new Prng(4).bytes(32);
const OTHER_BLINDED = toHex(blindedNetworkId(nodePrimitives, { id: OTHER_ID, key: OTHER_KEY }));
const acrossNetworks = searched(100, OTHER_ID);

function identityOf(seed: Uint8Array): string {
  return toHex(nodePrimitives.ed25519PublicKey(seed));
}

function addressOf(seed: Uint8Array, round = 0, network = NETWORK_ID): string {
  return overlayAddresses(nodePrimitives, network, nodePrimitives.ed25519PublicKey(seed), round).ipv4;
}

function own(node: SimNode): NetworkStatus {
  const [network] = node.mesh.status(node.step).networks;
  assert.ok(network);
  return network;
}

/** At whom packets to an address go at a node; undefined = at nobody. */
function holderAt(node: SimNode, address: string): string | undefined {
  const holders = own(node).members.filter(({ ipv4 }) => ipv4 === address);
  assert.ok(holders.length <= 1, 'an address has one holder');
  return holders[0]?.name;
}

function events(node: SimNode, event: string): Readonly<Record<string, unknown>>[] {
  return node.notices.filter((notice) => notice.event === event).map(({ fields }) => fields);
}

describe('an overlay address', () => {
  it('stays with its holder when an identity that was searched for has the same and sorts lower, and both are told', () => {
    const made = world();
    const holder = made.member('holder', { identitySeed: victim });
    const watcher = made.member('watcher');
    for (const node of [holder, watcher]) node.start();
    made.simulation.run(5000);
    const thief = made.member('thief', { identitySeed: attacker });
    thief.start();
    made.simulation.run(5000);
    const late = made.member('late');
    late.start();
    made.simulation.run(5000);
    assert.equal(own(holder).ipv4, address);
    for (const node of [watcher, late]) assert.equal(holderAt(node, address), 'holder');
    // An honest node moves by itself, and is reached at the other one.
    const other = own(thief).ipv4;
    assert.notEqual(other, address);
    for (const node of [watcher, late, holder]) assert.equal(holderAt(node, other), 'thief');
    assert.equal(events(thief, 'address-moved')[0]?.['holder'], encodePeerId(holder.identity));
    assert.ok(
      events(holder, 'address-collision').some(({ member }) => member === encodePeerId(thief.identity)),
    );
    assert.deepEqual(own(holder).addressContenders, [], 'it is over');
  });

  it('stays with its holder when an attacker claims it by a round he has searched for, and does not give way', () => {
    const made = world();
    const holder = made.member('holder', { identitySeed: byRound.victim });
    holder.start();
    made.simulation.run(2000);
    const { ipv4 } = own(holder);
    const thief = made.member('thief', { identitySeed: byRound.attacker });
    thief.store.set(`node/address/${BLINDED}`, encodeCbor([byRound.round, []]));
    const watcher = made.member('watcher');
    thief.start();
    made.simulation.runUntil(() => own(thief).members.length > 0, 5000, 1);
    thief.kill();
    watcher.start();
    made.simulation.run(5000);
    assert.equal(own(watcher).members.length, 2);
    assert.equal(holderAt(watcher, ipv4), 'holder');
    assert.equal(own(holder).ipv4, ipv4);
  });

  it('of two that came by in parted networks goes to who had it first, when they meet again', () => {
    const made = world(2);
    const [first, second] = made.relays;
    assert.ok(first && second);
    second.kill();
    const older = made.member('older', { identitySeed: victim });
    older.start();
    made.simulation.run(5000);
    first.kill();
    second.start();
    older.kill();
    const newer = made.member('newer', { identitySeed: attacker });
    newer.start();
    made.simulation.run(600_000);
    assert.equal(own(newer).ipv4, address, 'nobody there has another');
    first.start();
    older.start();
    made.simulation.run(200_000);
    assert.equal(own(older).ipv4, address);
    assert.notEqual(own(newer).ipv4, address);
    const late = made.member('late');
    late.start();
    made.simulation.run(5000);
    assert.equal(holderAt(late, address), 'older');
    assert.equal(holderAt(late, own(newer).ipv4), 'newer');
  });

  it('stays its holder\u2019s across a restart of the bootstrap, with and without its store, and of the holder', () => {
    for (const forget of [false, true]) {
      const made = world();
      const [relay] = made.relays;
      assert.ok(relay);
      const holder = made.member('holder', { identitySeed: victim });
      holder.start();
      made.simulation.run(5000);
      relay.kill();
      holder.kill();
      if (forget) relay.store.clear();
      made.simulation.run(1000);
      relay.start();
      const thief = made.member('thief', { identitySeed: attacker });
      thief.start();
      made.simulation.run(60_000);
      assert.equal(
        own(thief).ipv4 === address,
        forget,
        'a relay with its store still has the holder’s record',
      );
      holder.start();
      made.simulation.run(120_000);
      assert.equal(own(holder).ipv4, address);
      assert.notEqual(own(thief).ipv4, address);
    }
  });

  it('is its holder\u2019s again when he has lost his store: the bootstrap remembers', () => {
    const made = world();
    const holder = made.member('holder', { identitySeed: victim });
    holder.start();
    made.simulation.run(5000);
    holder.kill();
    holder.store.clear();
    made.simulation.run(700_000); // his registration is over
    const thief = made.member('thief', { identitySeed: attacker });
    thief.start();
    made.simulation.run(5000);
    assert.equal(own(thief).ipv4, address);
    holder.start();
    made.simulation.run(120_000);
    assert.equal(own(holder).ipv4, address);
    assert.notEqual(own(thief).ipv4, address);
  });

  it('that its holder has left for another begins anew when he comes back to it', () => {
    const made = world();
    const hoarder = made.member('hoarder', { identitySeed: attacker });
    hoarder.start();
    made.simulation.run(5000);
    const hoarded = hoarder.store.get(`node/address/${BLINDED}`);
    assert.ok(hoarded);
    hoarder.kill();
    hoarder.store.set(`node/address/${BLINDED}`, encodeCbor([7, []]));
    hoarder.start();
    made.simulation.run(5000);
    hoarder.kill();
    const holder = made.member('holder', { identitySeed: victim });
    holder.start();
    made.simulation.run(5000);
    hoarder.store.set(`node/address/${BLINDED}`, encodeCbor([0, []]));
    hoarder.start();
    made.simulation.run(120_000);
    assert.equal(own(holder).ipv4, address);
    assert.notEqual(own(hoarder).ipv4, address);
  });

  it('is vouched for in four rounds of an identity at most, so that nobody keeps many in stock', () => {
    const made = world();
    const [relay] = made.relays;
    assert.ok(relay);
    const hoarder = made.member('hoarder');
    const vouched = Array.from({ length: 8 }, (_, round) => {
      hoarder.store.set(`node/address/${BLINDED}`, encodeCbor([round, []]));
      hoarder.start();
      made.simulation.run(5000);
      const kept = decodeCbor(hoarder.store.get(`node/address/${BLINDED}`) ?? new Uint8Array(0), 1024);
      hoarder.kill();
      return (kept as [number, unknown[]])[1].length;
    });
    assert.deepEqual(vouched, [1, 1, 1, 1, 0, 0, 0, 0]);
  });

  it('of who was away for longer than a tenure lasts is free for others', () => {
    const made = world();
    const [relay] = made.relays;
    assert.ok(relay);
    const former = made.member('former', { identitySeed: victim });
    former.start();
    made.simulation.run(5000);
    former.kill();
    relay.kill();
    made.simulation.run(TENURE_SECONDS * 1000 + 120_000);
    relay.start();
    const present = made.member('present', { identitySeed: attacker });
    present.start();
    made.simulation.run(5000);
    former.start();
    made.simulation.run(120_000);
    assert.equal(own(present).ipv4, address);
    assert.notEqual(own(former).ipv4, address);
  });

  /** The other network, with a bootstrap that has signed that the attacker has had his address since 1970. */
  function otherNetwork(made: AddressWorld): { readonly network: Network; readonly thief: SimNode } {
    const relay = made.simulation.node({
      name: 'liar',
      address: { ip: ip('192.0.2.200'), port: 51820 },
      relay: OPEN_POLICY,
      latencyMs: 2,
    });
    relay.store.set(
      `relay/tenure/${OTHER_BLINDED}/${identityOf(acrossNetworks.attacker)}`,
      encodeCbor([
        acrossNetworks.round,
        1,
        Math.floor(relay.step.wallClock / 1000) + TENURE_SECONDS,
        1,
        'prefix',
        'site',
      ]),
    );
    relay.start();
    const network = { id: OTHER_ID, name: 'other', key: OTHER_KEY, bootstraps: [bootstrapOf(relay)] };
    const thief = made.member('thief', { identitySeed: acrossNetworks.attacker, networks: [network] });
    thief.store.set(`node/address/${OTHER_BLINDED}`, encodeCbor([acrossNetworks.round, []]));
    return { network, thief };
  }

  it('in one network is not taken by a member of another, whatever is vouched for there', () => {
    const made = world();
    const { network, thief } = otherNetwork(made);
    const holder = made.member('holder', { identitySeed: acrossNetworks.victim });
    const both = made.member('both', { networks: [made.network, network] });
    for (const node of [holder, both]) node.start();
    made.simulation.run(700_000);
    thief.start();
    made.simulation.run(120_000);
    const address = addressOf(acrossNetworks.victim);
    const holders = (): string[] =>
      both.mesh
        .status(both.step)
        .networks.flatMap(({ members }) => members.filter(({ ipv4 }) => ipv4 === address))
        .map(({ name }) => name);
    assert.deepEqual(holders(), ['holder']);
    assert.ok(
      events(both, 'address-collision').some(({ member }) => member === encodePeerId(thief.identity)),
    );
    assert.equal(own(thief).ipv4, address, 'he knows nobody who has it');
    // Whoever comes back is still known to have had it, and the thief is told of first.
    for (const node of [holder, both]) node.kill();
    both.start();
    made.simulation.run(60_000);
    holder.start();
    made.simulation.run(60_000);
    assert.deepEqual(holders(), ['holder']);
  });

  it('of this node is not moved by a member of another of its networks', () => {
    const made = world();
    const { network, thief } = otherNetwork(made);
    const holder = made.member('holder', {
      identitySeed: acrossNetworks.victim,
      networks: [made.network, network],
    });
    holder.start();
    made.simulation.run(5000);
    thief.start();
    made.simulation.run(120_000);
    assert.equal(own(holder).ipv4, addressOf(acrossNetworks.victim));
  });

  it('that a member of another network has is none for who comes new, who takes the next', () => {
    const made = world();
    const { network, thief } = otherNetwork(made);
    thief.start();
    const newcomer = made.member('newcomer', {
      identitySeed: acrossNetworks.victim,
      networks: [made.network, network],
    });
    for (const relay of made.relays) relay.kill();
    newcomer.start();
    made.simulation.run(5000);
    assert.notEqual(own(newcomer).ipv4, addressOf(acrossNetworks.victim));
  });

  it('that a stock peer of the operator has is no member\u2019s there, nor this node\u2019s, and a member with the key of one is not known', () => {
    const made = world();
    const plain = made.member('plain');
    const { ipv4: taken } = overlayAddresses(nodePrimitives, NETWORK_ID, plain.identity);
    const self = new Prng(5).bytes(32);
    const stockKey = new Prng(6).bytes(32);
    const stockPeers = [
      { sessionKey: toHex(stockKey), allowedIps: [`${taken}/32`] },
      { sessionKey: 'aa'.repeat(32), allowedIps: [`${addressOf(self)}/32`] },
      {
        sessionKey: toHex(nodePrimitives.x25519PublicKey(new Prng(7).bytes(32))),
        allowedIps: ['0.0.0.0/0'],
      },
    ];
    const gateway = made.member('gateway', { identitySeed: self, stockPeers });
    const thief = made.member('thief', { sessionPrivateKey: new Prng(7).bytes(32) });
    for (const node of [plain, gateway, thief]) node.start();
    made.simulation.run(5000);
    assert.equal(own(plain).ipv4, taken);
    assert.notEqual(own(gateway).ipv4, addressOf(self));
    assert.deepEqual(
      own(gateway).members.map(({ name, ipv4 }) => [name, ipv4]),
      [['plain', undefined]],
    );
    assert.ok(events(gateway, 'address-collision').some(({ address }) => address === taken));
    assert.ok(
      events(gateway, 'session-key-claimed').some(({ member }) => member === encodePeerId(thief.identity)),
    );
  });

  it('of a bootstrap is not to be had', () => {
    const made = world(1, byRound.victim);
    const [relay] = made.relays;
    assert.ok(relay);
    const ipv4 = addressOf(byRound.victim);
    const thief = made.member('thief', { identitySeed: byRound.attacker });
    thief.store.set(`node/address/${BLINDED}`, encodeCbor([byRound.round, []]));
    const watcher = made.member('watcher');
    for (const node of [thief, watcher]) node.start();
    made.simulation.run(5000);
    relay.kill();
    relay.start([{ ...made.network, bootstraps: [] }]);
    made.simulation.run(120_000);
    assert.equal(holderAt(watcher, ipv4), 'relay-0');
    assert.notEqual(own(thief).ipv4, ipv4);
  });

  it('is moved by no one bootstrap of three that vouches falsely', () => {
    const made = world(3);
    const [liar] = made.relays;
    assert.ok(liar);
    const holder = made.member('holder', { identitySeed: victim });
    holder.start();
    made.simulation.run(5000);
    const thief = made.member('thief', { identitySeed: attacker });
    thief.start();
    // What the liar would sign: that the thief has had it since 1970.
    const identity = nodePrimitives.ed25519PublicKey(attacker);
    liar.kill();
    liar.store.set(
      `relay/tenure/${BLINDED}/${toHex(identity)}`,
      encodeCbor([0, 1, Math.floor(liar.step.wallClock / 1000) + TENURE_SECONDS, 1, 'prefix', 'site']),
    );
    thief.kill();
    thief.store.clear();
    liar.start();
    thief.start();
    made.simulation.run(120_000);
    assert.equal(own(holder).ipv4, address);
    assert.notEqual(own(thief).ipv4, address);
  });
});
