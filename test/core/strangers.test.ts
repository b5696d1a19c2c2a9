import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GrantStatus } from '../../ts/core/protocol/admission-payload.js';
import type { RelayLimits } from '../../ts/core/relay/relay-limits.js';
import type { RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { toHex } from '../../ts/wire/bytes.js';
import { address, keys, step } from './fixtures.js';
import { CHEAP_PRIMITIVES, cheapKeys, DoorRelay } from './stranger.js';

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
