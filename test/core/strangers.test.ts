import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GrantStatus } from '../../ts/core/protocol/admission-payload.js';
import { signPeerRecord } from '../../ts/core/protocol/peer-record.js';
import type { RelayHost } from '../../ts/core/relay/relay-host.js';
import { DEFAULT_RELAY_LIMITS, type RelayLimits } from '../../ts/core/relay/relay-limits.js';
import { RelayTenures } from '../../ts/core/relay/relay-tenures.js';
import { Turn } from '../../ts/core/runtime/turn.js';
import type { RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import { blindedNetworkId } from '../../ts/core/protocol/network.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { toHex } from '../../ts/wire/bytes.js';
import { encodeMessage } from '../../ts/core/protocol/control-message.js';
import type { Effect } from '../../ts/core/runtime/effect.js';
import { address, keys, recordFields, step, type Keys } from './fixtures.js';
import { CHEAP_PRIMITIVES, cheapKeys, DoorRelay, messagesTo } from './stranger.js';

const open = (limits: Partial<RelayLimits> = {}): RelayPolicy => ({
  serve: 'any',
  allow: [],
  deny: [],
  limits,
});

describe('strangers at a relay', () => {
  it('from a few addresses do not close it, however many challenges they answer', () => {
    const relay = new DoorRelay(open({ admissionsPerPrefix: 4 }), CHEAP_PRIMITIVES, cheapKeys());
    let refused = 0;
    for (let index = 0; index < 17_000; index++) {
      const from = address(`203.0.113.${index % 8}:${20_000 + Math.floor(index / 8)}`);
      if (relay.admit(cheapKeys(), from, 1000 + index) !== GrantStatus.granted) refused++;
    }
    assert.ok(refused > 16_900, 'their own share is soon used up');
    assert.equal(relay.admit(cheapKeys(), address('198.51.100.7:5000'), 18_000), GrantStatus.granted);
  });

  it('that take every place lose one to whoever comes from elsewhere, and his is not taken from him', () => {
    const relay = new DoorRelay(
      open({ admissions: 64, admissionsPerPrefix: 16 }),
      CHEAP_PRIMITIVES,
      cheapKeys(),
    );
    const flood = (now: number): void => {
      for (let index = 0; index < 128; index++)
        relay.admit(cheapKeys(), address(`203.0.${index % 8}.1:${20_000 + index}`), now);
    };
    flood(0);
    assert.equal(relay.admissions, 64);
    const own = cheapKeys();
    assert.equal(relay.admit(own, address('198.51.100.7:5000'), 100), GrantStatus.granted);
    assert.equal(relay.admissions, 64);
    flood(200);
    const peers = new Set(
      relay.effects.flatMap((effect) => (effect.type === 'remove-peer' ? [effect.peer] : [])),
    );
    assert.equal(peers.has(toHex(own.sessionKey)), false);
  });

  it('of one site have no more than its share', () => {
    const relay = new DoorRelay(
      open({ admissions: 64, admissionsPerPrefix: 4, admissionsPerSite: 16 }),
      CHEAP_PRIMITIVES,
      cheapKeys(),
    );
    for (let index = 0; index < 64; index++)
      relay.admit(cheapKeys(), address(`[2001:db8:1:${index.toString(16)}::1]:4000`), index);
    assert.equal(relay.admissions, 16);
    assert.equal(relay.node.status(step(0)).relay?.refusals['admissions-per-site'], 48);
    assert.equal(relay.admit(cheapKeys(), address('[2001:db8:2::1]:4000'), 100), GrantStatus.granted);
  });

  it('who were granted something are granted it again by the very same answer, and by no older one', () => {
    const relay = new DoorRelay(open(), nodePrimitives, keys());
    const own = keys();
    const before = address('203.0.113.9:4000');
    const after = address('203.0.113.77:4000');
    const first = relay.answerOf(own, before, step(0));
    assert.equal(relay.granted(before, first, 10), GrantStatus.granted);
    assert.equal(relay.granted(before, first, 20), GrantStatus.granted, 'the grant was lost');
    assert.equal(relay.admit(own, after, 1000), GrantStatus.granted, 'the client has moved');
    assert.equal(relay.granted(before, first, 1010), undefined, 'a replay does not move it back');
    assert.equal(relay.node.status(step(0)).relay?.refusals['admission-replay'], 1);
    assert.equal(relay.admissions, 1);
  });

  it('are sent nothing for a session key they have only claimed', () => {
    const relay = new DoorRelay(open(), nodePrimitives, keys());
    const own = keys();
    assert.equal(relay.admit(own, address('203.0.113.9:4000'), 0), GrantStatus.granted);
    const told = relay.effects.filter(
      (effect) => effect.type === 'set-peer' && effect.peer.sessionKey === toHex(own.sessionKey),
    );
    assert.equal(told.length, 1);
    assert.ok(told.every((effect) => effect.type === 'set-peer' && effect.peer.endpoint === undefined));
  });

  it('cannot claim the session key of a relay this one uses', () => {
    const other = keys();
    const policy = { ...open(), peers: [{ ...other, addresses: [address('192.0.2.2:51820')] }] };
    const relay = new DoorRelay(policy, nodePrimitives, keys());
    const thief = { ...keys(), sessionKey: other.sessionKey };
    assert.equal(relay.admit(thief, address('203.0.113.9:4000'), 0), GrantStatus.refused);
    assert.equal(relay.admissions, 0);
    assert.equal(relay.admit(other, address('192.0.2.2:51820'), 10), GrantStatus.granted, 'itself it can');
  });
});

describe('who asks for a network by its blinded id alone', () => {
  const known = { id: new Uint8Array(16).fill(6), key: new Uint8Array(32).fill(7) };
  const network = new Uint8Array(blindedNetworkId(CHEAP_PRIMITIVES, known));
  const networks = [network];
  const relayOf = (limits: Partial<RelayLimits>): DoorRelay =>
    new DoorRelay(open(limits), CHEAP_PRIMITIVES, cheapKeys());
  const outsiders = (relay: DoorRelay, count: number, now: number): Keys[] =>
    Array.from({ length: count }, (_, index) => {
      const each = cheapKeys();
      relay.join(each, address(`203.0.${index % 16}.1:${20_000 + index}`), { networks }, now);
      return each;
    });
  const member = (relay: DoorRelay, from: string, now: number): string | undefined => {
    const own = cheapKeys();
    const place = address(from);
    const granted = relay.granted(place, relay.answerOf(own, place, step(now), network), now);
    if (granted !== GrantStatus.granted) return `admission ${granted}`;
    const peer = toHex(own.sessionKey);
    relay.node.handleEngineEvent({ type: 'session', peer, endpoint: { address: place } }, step(now));
    relay.register(own, { networks }, now);
    return relay.prove(own, known, now)[0]?.type;
  };

  it('takes no place of its members', () => {
    const relay = relayOf({ admissionsPerNetwork: 4 });
    outsiders(relay, 64, 0);
    const joined = [1, 2, 3, 4].map((index) => member(relay, `198.51.100.${index}:4000`, 100));
    assert.deepEqual(joined, Array(4).fill('network-joined'));
    assert.equal(member(relay, '198.51.100.5:4000', 200), `admission ${GrantStatus.atCapacity}`);
    assert.equal(relay.node.status(step(0)).relay?.refusals['admissions-per-network'], 1);
  });

  it('makes room for others though it has registered', () => {
    const relay = relayOf({ admissions: 64, registrations: 64 });
    outsiders(relay, 64, 0);
    assert.equal(relay.admissions, 64);
    assert.equal(member(relay, '198.51.100.1:4000', 100), 'network-joined');
    assert.equal(relay.admissions, 64);
  });

  it('is a client for as long as an admission lasts, however often it registers', () => {
    const relay = relayOf({});
    const [own] = outsiders(relay, 1, 0);
    assert.ok(own);
    assert.equal(member(relay, '198.51.100.1:4000', 0), 'network-joined');
    for (let now = 10_000; now <= 70_000; now += 10_000) {
      relay.register(own, { networks, sequence: now }, now);
      relay.node.handleTimeout(step(now));
    }
    assert.equal(relay.admissions, 1);
    assert.equal(relay.register(own, { networks, sequence: 80_000 }, 80_000)[0]?.type, 'refused');
  });
});

describe('tenures of overlay addresses', () => {
  it('of a few sites leave room for those of others, and of one site are no more than its share', () => {
    const limits = {
      ...DEFAULT_RELAY_LIMITS,
      registrations: 8,
      admissionsPerSite: 8,
      admissionsPerPrefix: 8,
    };
    const host = { ...keys(), primitives: nodePrimitives, sign: () => new Uint8Array(64) };
    const tenures = new RelayTenures(host as unknown as RelayHost, () => limits);
    const network = new Uint8Array(16).fill(7);
    const turn = new Turn(step(0));
    const vouched = (from: string): boolean => {
      const own = keys();
      const record = signPeerRecord(
        nodePrimitives,
        own.identitySeed,
        recordFields(own, { networks: [network] }),
      );
      return tenures.grant(record, [toHex(network)], address(from), turn).length > 0;
    };
    const hoard = Array.from({ length: 20 }, (_, index) => vouched(`203.0.113.${index}:4000`));
    assert.deepEqual(hoard, [...Array<boolean>(16).fill(true), ...Array<boolean>(4).fill(false)]);
    const others = Array.from({ length: 20 }, (_, index) => vouched(`198.51.100.${index}:4000`));
    assert.deepEqual(others, [...Array<boolean>(8).fill(true), ...Array<boolean>(12).fill(false)]);
    assert.equal(tenures.size, 16);
    const stored = new Set<string>();
    for (const effect of turn.effects)
      if (effect.type === 'persist')
        if (effect.value === undefined) stored.delete(effect.key);
        else stored.add(effect.key);
    assert.equal(stored.size, 16, 'what made room is not in the store');
  });
});

describe('clients of a relay', () => {
  it('who renew their record over and over are told of to others eight times at once, then every 10 s', () => {
    const relay = new DoorRelay(open(), CHEAP_PRIMITIVES, cheapKeys());
    const [a, b] = [cheapKeys(), cheapKeys()];
    const known = { id: new Uint8Array(16).fill(6), key: new Uint8Array(32).fill(7) };
    const networks = [blindedNetworkId(CHEAP_PRIMITIVES, known)];
    relay.join(a, address('203.0.113.1:4000'), { networks }, 0);
    relay.join(b, address('203.0.113.2:4000'), { networks }, 0);
    for (const member of [a, b]) relay.prove(member, known, 0);
    const [network = new Uint8Array(16)] = networks;
    relay.say(b, { type: 'lookup', network, after: 0, depth: 0 }, 0);
    const peer = toHex(b.sessionKey);
    let told = 0;
    const hear = (effects: readonly Effect[], now: number): void => {
      for (const { request, message } of messagesTo(peer, effects)) {
        if (message.type !== 'records-changed') continue;
        told++;
        const { version } = message;
        const payload = encodeMessage({ request, message: { type: 'records-received', network, version } });
        hear(relay.node.handleEngineEvent({ type: 'control', peer, payload }, step(now)), now);
      }
    };
    let latest = 0;
    for (let now = 0; now < 30_000; now += 10) {
      const before = relay.effects.length;
      relay.register(a, { networks, sequence: ++latest + 1 }, now);
      hear(relay.effects.slice(before), now);
      if ((relay.node.deadline() ?? Infinity) <= now) hear(relay.node.handleTimeout(step(now)), now);
    }
    assert.ok(told >= 8 && told <= 12, `${told} times of ${latest}`);
  });

  it('whose packets come from elsewhere are sent a challenge there and nothing else, whatever they ask, until it is answered', () => {
    const relay = new DoorRelay(open(), CHEAP_PRIMITIVES, cheapKeys());
    const known = { id: new Uint8Array(16).fill(6), key: new Uint8Array(32).fill(7) };
    const network = blindedNetworkId(CHEAP_PRIMITIVES, known);
    const members = [1, 2, 3].map(() => cheapKeys());
    members.forEach((member, index) => {
      relay.join(member, address(`203.0.113.${index + 1}:4000`), { networks: [network] }, 0);
      relay.prove(member, known, 0);
    });
    const [a, b] = members;
    assert.ok(a && b);
    const lookup = { type: 'lookup', network, after: 0, depth: 0 } as const;
    assert.equal(relay.say(a, lookup, 10)[0]?.type, 'records');
    const peer = toHex(a.sessionKey);
    const victim = address('198.51.100.7:53');
    let heard = relay.node.handleEngineEvent(
      { type: 'endpoint', peer, endpoint: { address: victim } },
      step(20),
    );
    for (let now = 30; now < 60_000; now += 50) {
      assert.deepEqual(
        relay.say(a, lookup, now).filter(({ type }) => type !== 'address-challenge'),
        [],
      );
      relay.register(b, { networks: [network], sequence: now }, now);
      if ((relay.node.deadline() ?? Infinity) <= now)
        heard = [...heard, ...relay.node.handleTimeout(step(now))];
    }
    const sent = messagesTo(peer, [...heard, ...relay.effects]).filter(
      ({ message }) => message.type !== 'records',
    );
    const told = messagesTo(peer, heard);
    assert.ok(told.length > 0 && told.every(({ message }) => message.type === 'address-challenge'));
    assert.ok((relay.node.status(step(0)).relay?.refusals['unproven-address'] ?? 0) > 1000);
    const challenge = sent.findLast(({ message }) => message.type === 'address-challenge');
    assert.ok(challenge?.message.type === 'address-challenge');
    const { nonce } = challenge.message;
    const payload = encodeMessage({ request: challenge.request, message: { type: 'address-answer', nonce } });
    const moved = relay.node.handleEngineEvent({ type: 'control', peer, payload }, step(60_010));
    assert.ok(messagesTo(peer, moved).some(({ message }) => message.type === 'records-changed'));
    assert.equal(relay.say(a, lookup, 60_020)[0]?.type, 'records');
  });

  it('of one address, or one site, bind no more WireGuard servers than its share', () => {
    const relay = new DoorRelay(
      {
        ...open({ wireguardBindings: 8, wireguardBindingsPerPrefix: 2, wireguardBindingsPerSite: 3 }),
        wireguard: { servers: [] },
      },
      nodePrimitives,
      keys(),
    );
    const known = { id: new Uint8Array(16).fill(6), key: new Uint8Array(32).fill(7) };
    const networks = [blindedNetworkId(nodePrimitives, known)];
    const bind = (from: string, isMember = true): string | undefined => {
      const own = keys();
      relay.join(own, address(from), { networks }, 0);
      if (isMember) relay.prove(own, known, 0);
      return relay.say(own, { type: 'wireguard-bind' }, 0)[0]?.type;
    };
    assert.equal(bind('203.0.113.1:7', false), 'refused', 'who knows what a network is called, and no more');
    assert.equal(relay.node.status(step(0)).relay?.refusals['not-a-member'], 1);
    const answers = [1, 2, 3].map((port) => bind(`203.0.113.1:${port}`));
    assert.deepEqual(answers, ['wireguard-bound', 'wireguard-bound', 'refused']);
    assert.equal(relay.node.status(step(0)).relay?.refusals['wireguard-bindings-per-prefix'], 1);
    assert.equal(bind('203.0.113.2:1'), 'wireguard-bound');
    assert.equal(bind('203.0.113.3:1'), 'refused', 'an IPv4 /24 has its share too');
    assert.equal(relay.node.status(step(0)).relay?.refusals['wireguard-bindings-per-site'], 1);
    assert.equal(bind('203.0.114.1:1'), 'wireguard-bound');
  });

  it('who are no relay are remembered 32 answers of, whatever they ask', () => {
    const relay = new DoorRelay(open(), nodePrimitives, keys());
    const own = keys();
    const network = new Uint8Array(16).fill(7);
    relay.join(own, address('203.0.113.1:4000'), { networks: [network] }, 0);
    const peer = toHex(own.sessionKey);
    const ask = (request: number): number => {
      const message = {
        type: 'circuit-extend',
        circuit: new Uint8Array(16).fill(request),
        caller: new Uint8Array(8),
        callee: new Uint8Array(32),
        network,
        leg: { id: 1, key: new Uint8Array(16), epoch: 0 },
        path: [new Uint8Array(32)],
      } as const;
      const payload = encodeMessage({ request, message });
      relay.node.handleEngineEvent({ type: 'control', peer, payload }, step(request * 10));
      return relay.node.status(step(0)).relay?.refusals['denied'] ?? 0;
    };
    for (let request = 1; request <= 33; request++) ask(request);
    assert.equal(ask(33), 33, 'the last is remembered');
    assert.equal(ask(1), 34, 'the first is not');
  });
});
