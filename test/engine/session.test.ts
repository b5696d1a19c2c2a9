// The session state machine under a virtual clock: handshakes, keys, timers, roaming, load.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { EngineError } from '../../ts/contract/engine.js';
import { REKEY_TIMEOUT } from '../../ts/wire/session-constants.js';
import { CookieJar } from '../../ts/engine/wasm/cookie.js';
import { publicIdentity, type PublicIdentity } from '../../ts/engine/wasm/noise.js';
import { fromHex, suiteFrames } from './vectors.js';
import { control, socketAddress, VirtualNetwork, type Sent, type VirtualNode } from './virtual-network.js';

const INITIATION = 1;
const RESPONSE = 2;
const COOKIE_REPLY = 3;
const TRANSPORT = 4;
const KEEPALIVE_SIZE = 32;

let network: VirtualNetwork;
let a: VirtualNode;
let b: VirtualNode;

beforeEach(() => {
  network = new VirtualNetwork();
  a = network.node('a');
  b = network.node('b');
});

/** Both know each other and have a session that `a` initiated; nothing is in flight. */
function connect(): void {
  a.setPeer(b);
  b.setPeer(a, { endpoint: undefined });
  a.send(b, control(0));
  network.settle();
  assert.deepEqual(a.eventTypes(), ['session']);
  assert.deepEqual(b.eventTypes(), ['session', 'control']);
}

const typeOf = (sent: Sent): number => sent.datagram[0] ?? 0;
const lose = (): undefined => undefined;
const pass = (sent: Sent): Uint8Array => sent.datagram;

describe('handshake', () => {
  test('the first control frame starts one and confirms it; the responder learns the endpoint', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    a.send(b, control(11, 20));
    network.settle();
    assert.deepEqual(network.log.map(typeOf), [INITIATION, RESPONSE, TRANSPORT]);
    assert.deepEqual(network.sentSince(0), ['a:1', 'b:2', 'a:4']);
    assert.deepEqual(b.received(), ['c00b']);
    assert.deepEqual(b.status(a).endpoint, { address: a.address });
    assert.equal(a.count('handshakes_completed'), 1);
    assert.equal(b.count('handshakes_completed'), 1);
    assert.equal(b.count('handshake_initiations_received'), 1);
    assert.equal(a.count('handshake_responses_received'), 1);
  });

  test('payloads are padded to 16 bytes', () => {
    a.setPeer(b);
    b.setPeer(a);
    a.send(b, control(11, 17));
    network.settle();
    assert.equal(network.log.at(-1)?.datagram.length, 16 + 32 + 16);
    const [event] = b.events.filter(({ type }) => type === 'control');
    assert.ok(event?.type === 'control');
    assert.deepEqual(event.payload, control(11, 32));
  });

  test('without a payload the initiator confirms with a keepalive', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    a.handshake(b);
    network.settle();
    assert.deepEqual(b.eventTypes(), ['session']);
    assert.equal(network.log.at(-1)?.datagram.length, KEEPALIVE_SIZE);
    assert.equal(b.count('keepalives_received'), 1);
  });

  test('the responder sends nothing on the new key before it received on it', () => {
    a.setPeer(b);
    b.setPeer(a);
    network.filter = (sent) => (typeOf(sent) === TRANSPORT ? undefined : sent.datagram);
    a.handshake(b);
    network.settle();
    network.filter = lose;
    const before = network.log.length;
    b.send(a, control(1));
    network.settle();
    assert.deepEqual(network.sentSince(before), ['b:1'], 'a handshake of its own instead');
    assert.deepEqual(b.eventTypes(), []);
  });

  test('both sides may initiate at once: both directions work', () => {
    a.setPeer(b);
    b.setPeer(a);
    a.send(b, control(1));
    b.send(a, control(2));
    network.settle();
    assert.deepEqual(b.received(), ['c001']);
    assert.deepEqual(a.received(), ['c002']);
    a.send(b, control(3));
    b.send(a, control(4));
    network.settle();
    assert.deepEqual(b.received(), ['c001', 'c003']);
    assert.deepEqual(a.received(), ['c002', 'c004']);
  });

  test('different preshared keys do not connect, equal ones do', () => {
    const presharedKey = new Uint8Array(32).fill(9);
    a.setPeer(b, { presharedKey });
    b.setPeer(a);
    a.send(b, control(1));
    network.settle();
    assert.deepEqual(b.received(), []);
    assert.equal(a.count('drop_bad_handshake'), 1);
    b.setPeer(a, { presharedKey });
    network.advance(6_000);
    assert.deepEqual(b.received(), ['c001']);
  });

  test('a changed preshared key ends the running session', () => {
    connect();
    const presharedKey = new Uint8Array(32).fill(9);
    b.setPeer(a, { presharedKey, endpoint: undefined });
    a.send(b, control(1));
    network.settle();
    assert.deepEqual(b.received(), []);
    assert.equal(b.count('drop_unknown_index'), 1);
    network.advance(20);
    a.setPeer(b, { presharedKey });
    a.send(b, control(2));
    network.settle();
    assert.deepEqual(b.received(), ['c002']);
  });

  test('an unchanged configuration leaves the session alone', () => {
    connect();
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    const before = network.log.length;
    a.send(b, control(1));
    network.settle();
    assert.deepEqual(network.sentSince(before), ['a:4']);
  });

  test('a stranger gets silence, whatever he sends', () => {
    const stranger = network.node('stranger');
    stranger.setPeer(b);
    stranger.send(b, control(1));
    network.settle();
    assert.deepEqual(network.sentSince(0), ['stranger:1']);
    assert.equal(b.count('drop_unknown_peer'), 1);
    const message = Uint8Array.from(network.log[0]?.datagram ?? []);
    message[120] = (message[120] ?? 0) ^ 1;
    network.inject(b, message, stranger.address);
    network.settle();
    assert.equal(b.count('drop_bad_mac1'), 1);
    assert.equal(b.count('handshake_initiations_received'), 1, 'mac1 comes first');
  });

  test('a replayed initiation is not answered, nor one from before the last accepted', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    a.handshake(b);
    network.settle();
    const first = network.log[0]?.datagram ?? new Uint8Array(0);
    network.advance(1_000);
    const before = network.log.length;
    network.inject(b, first, socketAddress('203.0.113.9:9'));
    network.settle();
    assert.deepEqual(network.sentSince(before), []);
    assert.equal(b.count('drop_replayed_initiation'), 1);
    assert.deepEqual(b.status(a).endpoint, { address: a.address }, 'a replay does not roam');
  });

  test('at most one initiation of a peer in 20 ms is consumed', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    a.handshake(b);
    a.handshake(b);
    assert.equal(network.log.length, 1, 'the sender keeps to it as well');
    network.settle();
    network.advance(25);
    a.handshake(b);
    network.settle();
    assert.equal(b.count('handshake_initiations_received'), 2);
    assert.equal(b.count('drop_replayed_initiation'), 0);
  });

  test('a clock set back does not stop a running node from connecting', () => {
    connect();
    const step = network.step();
    a.take(
      a.table.startHandshake(b.key, { ...step, now: step.now + 30, wallClock: step.wallClock - 3_600_000 }),
    );
    network.now += 30;
    network.settle();
    assert.deepEqual(b.eventTypes(), ['session']);
  });

  test('every handshake gets new receiver indices', () => {
    connect();
    const seen = new Set<string>();
    for (let i = 0; i < 5; i++) {
      network.advance(30);
      a.handshake(b);
      network.settle();
    }
    for (const sent of network.log.filter((entry) => typeOf(entry) === INITIATION)) {
      seen.add(Buffer.from(sent.datagram.subarray(4, 8)).toString('hex'));
    }
    assert.equal(seen.size, 6);
  });

  test('a low-order session key is refused with the field named', () => {
    assert.throws(
      () => a.setPeer(b, { sessionKey: '00'.repeat(32) }),
      (error) =>
        error instanceof EngineError && error.code === 'BAD_ARGUMENT' && /sessionKey/.test(error.message),
    );
  });
});

describe('hostile bytes', () => {
  test('no flipped bit in any handshake or transport message is accepted', () => {
    connect();
    network.advance(25);
    a.handshake(b);
    network.filter = (sent) => (typeOf(sent) === INITIATION ? undefined : sent.datagram);
    network.settle();
    const initiation = network.log.at(-1)?.datagram ?? new Uint8Array(0);
    assert.equal(initiation.length, 148);
    network.filter = lose;
    a.send(b, control(5));
    network.settle();
    const transport = network.log.at(-1)?.datagram ?? new Uint8Array(0);
    b.eventTypes();
    const from = socketAddress('203.0.113.9:9');
    for (const message of [initiation, transport]) {
      for (let byte = 0; byte < message.length; byte++) {
        if (message === initiation && byte >= 132) break; // mac2 counts only under load
        const bad = Uint8Array.from(message);
        bad[byte] = (bad[byte] ?? 0) ^ (1 << (byte % 8));
        network.inject(b, bad, from);
      }
    }
    const before = network.log.length;
    network.settle();
    assert.deepEqual(b.eventTypes(), []);
    assert.deepEqual(network.sentSince(before), []);
    assert.deepEqual(b.status(a).endpoint, { address: a.address });
    network.inject(b, transport, a.address);
    assert.deepEqual(b.received(), ['c005'], 'the good one still opens');
  });

  test('no truncated or extended message is accepted, and none throws', () => {
    connect();
    network.filter = lose;
    network.advance(25);
    a.handshake(b);
    a.send(b, control(5));
    network.settle();
    const from = socketAddress('203.0.113.9:9');
    for (const { datagram } of network.log.slice(-2)) {
      for (let size = 0; size < datagram.length; size++) {
        network.inject(b, datagram.slice(0, size), from);
      }
      network.inject(b, new Uint8Array([...datagram, 0]), from);
    }
    network.settle();
    assert.deepEqual(b.eventTypes(), []);
    assert.deepEqual(b.status(a).endpoint, { address: a.address });
  });

  test('an oversized datagram is dropped, not fatal', () => {
    connect();
    const message = new Uint8Array(65_507);
    message.set(network.log.at(-1)?.datagram.subarray(0, 16) ?? []);
    network.inject(b, message, a.address);
    assert.equal(b.count('drop_decrypt_failed'), 1);
  });

  test('a replayed transport message is counted once as data and does not move the endpoint', () => {
    connect();
    const transport = network.log.at(-1)?.datagram ?? new Uint8Array(0);
    network.inject(b, Uint8Array.from(transport), socketAddress('203.0.113.9:9'));
    network.settle();
    assert.equal(b.count('drop_replayed'), 1);
    assert.deepEqual(b.eventTypes(), []);
    assert.deepEqual(b.status(a).endpoint, { address: a.address });
  });

  test('an inner IP packet is dropped and counted: there is no TUN', () => {
    connect();
    for (const first of [0x45, 0x60]) {
      const packet = new Uint8Array(32);
      packet[0] = first;
      a.send(b, packet);
    }
    network.settle();
    assert.equal(b.count('drop_no_tun'), 2);
    assert.deepEqual(b.eventTypes(), []);
  });
});

describe('roaming', () => {
  test('an authentic packet from another address moves the endpoint, once', () => {
    connect();
    network.filter = lose;
    a.send(b, control(1));
    network.settle();
    network.filter = pass;
    const moved = socketAddress('203.0.113.9:9');
    network.inject(b, Uint8Array.from(network.log.at(-1)?.datagram ?? []), moved);
    assert.deepEqual(
      b.events.filter(({ type }) => type === 'endpoint'),
      [{ type: 'endpoint', peer: a.key, endpoint: { address: moved } }],
    );
    b.send(a, control(2));
    assert.deepEqual(network.log.at(-1)?.to, moved);
  });

  test('one that moves with every packet is told of four times a second, and where it is at last', () => {
    connect();
    network.filter = lose;
    const moved = socketAddress('203.0.113.9:9');
    for (let i = 0; i < 100; i++) {
      network.advance(10);
      a.send(b, control(1));
      const packet = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
      network.inject(b, packet, i % 2 === 0 ? a.address : moved);
    }
    const told = (): unknown[] =>
      b.events.flatMap((event) => (event.type === 'endpoint' ? [event.endpoint] : []));
    network.advance(1000);
    assert.ok(told().length >= 4 && told().length <= 6, `${told().length}`);
    assert.deepEqual(told().at(-1), { address: moved });
    assert.deepEqual(b.status(a).endpoint, { address: moved });
  });

  test('of one packet sent over two paths the later copy changes nothing', () => {
    connect();
    network.filter = lose;
    a.send(b, control(1));
    network.settle();
    const packet = network.log.at(-1)?.datagram ?? new Uint8Array(0);
    network.inject(b, Uint8Array.from(packet), a.address);
    network.inject(b, Uint8Array.from(packet), socketAddress('203.0.113.9:9'));
    assert.deepEqual(b.eventTypes(), ['control']);
    assert.deepEqual(b.status(a).endpoint, { address: a.address });
  });

  test('a packet that comes over a local leg makes the leg the endpoint', () => {
    connect();
    network.filter = lose;
    a.send(b, control(1));
    network.settle();
    const packet = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
    b.take(b.table.handleMessage(packet, { leg: 77 }, network.step()));
    assert.deepEqual(b.status(a).endpoint, { leg: 77 });
    b.take(b.table.forgetLeg(77, network.step()));
    assert.equal(b.status(a).endpoint, undefined);
    b.send(a, control(2));
    assert.equal(b.status(a).endpoint, undefined);
    b.send(a, control(2));
    assert.deepEqual(b.eventTypes(), ['endpoint', 'control', 'path-needed']);
  });
});

describe('restart and silence', () => {
  test('after one side restarts, data that gets no answer for 15 s brings a new handshake', () => {
    connect();
    b.restart();
    b.setPeer(a, { endpoint: undefined });
    a.send(b, control(1));
    network.advance(14_999);
    assert.equal(b.count('drop_unknown_index'), 1);
    assert.equal(b.count('handshake_initiations_received'), 0);
    network.advance(400);
    assert.deepEqual(b.eventTypes(), ['session']);
    a.send(b, control(2));
    network.settle();
    assert.deepEqual(b.received(), ['c002']);
  });

  test('a restarted side that knows an endpoint connects at once', () => {
    connect();
    b.restart();
    b.setPeer(a);
    b.handshake(a);
    network.settle();
    assert.deepEqual(a.eventTypes(), ['session']);
  });

  test('an unanswered handshake is repeated every 5 s with jitter and given up after 90 s', () => {
    a.setPeer(b);
    network.filter = lose;
    a.send(b, control(1));
    network.advance(89_999);
    const times = network.log.map(({ at }) => at);
    const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    assert.ok(gaps.every((gap) => gap >= REKEY_TIMEOUT && gap <= REKEY_TIMEOUT + 333));
    assert.ok(new Set(gaps).size > 5, 'the jitter differs');
    assert.deepEqual(a.eventTypes(), []);
    network.advance(5_400);
    assert.deepEqual(a.eventTypes(), ['session-lost']);
    assert.equal(a.count('drop_staging_overflow'), 1);
    const sent = network.log.length;
    network.advance(600_000);
    assert.equal(network.log.length, sent, 'silent until there is something to send');
  });

  test('128 payloads are staged and the oldest give way', () => {
    a.setPeer(b);
    b.setPeer(a);
    network.filter = lose;
    for (let i = 0; i < 130; i++) a.send(b, control(16 + i));
    network.settle();
    assert.equal(a.count('drop_staging_overflow'), 2);
    network.filter = pass;
    network.advance(6_000);
    const received = b.received();
    assert.equal(received.length, 128);
    assert.equal(received[0], 'c012');
    assert.equal(received[127], 'c091');
  });

  test('a peer without an endpoint asks for a path at most once a second', () => {
    a.setPeer(b, { endpoint: undefined });
    a.send(b, control(1));
    a.send(b, control(2));
    assert.deepEqual(a.eventTypes(), ['path-needed']);
    network.advance(1_000);
    a.send(b, control(3));
    assert.deepEqual(a.eventTypes(), ['path-needed']);
    b.setPeer(a);
    a.setPeer(b);
    network.settle();
    assert.deepEqual(b.received(), ['c001', 'c002', 'c003']);
  });
});

describe('keepalives', () => {
  test('10 s after data came and nothing was sent, one keepalive goes back', () => {
    connect();
    const before = network.log.length;
    network.advance(9_999);
    assert.deepEqual(network.sentSince(before), []);
    network.advance(1);
    assert.deepEqual(network.sentSince(before), ['b:4']);
    assert.equal(network.log.at(-1)?.datagram.length, KEEPALIVE_SIZE);
    network.advance(60_000);
    assert.deepEqual(network.sentSince(before), ['b:4'], 'a keepalive is never answered by one');
  });

  test('a suite offer or proof is neither answered nor data: no event, no keepalive for it', () => {
    connect();
    network.advance(11_000); // b's keepalive for the first data is past
    const before = network.log.length;
    for (const frame of [suiteFrames.initiatorsOffer, ...suiteFrames.proofs]) a.send(b, fromHex(frame));
    network.advance(14_000);
    assert.deepEqual(network.sentSince(before), ['a:4', 'a:4', 'a:4', 'a:4']);
    assert.equal(b.count('suite_offers_received'), 4);
    assert.deepEqual(b.eventTypes(), []);
    assert.deepEqual([b.status(a).suite, b.status(a).replayWindow], ['ChaCha20-Poly1305', 8128]);
  });

  test('data that came while a keepalive was due brings another one 10 s after it', () => {
    connect();
    const before = network.log.length;
    network.advance(5_000);
    a.send(b, control(1));
    network.advance(15_000);
    assert.deepEqual(network.sentSince(before), ['a:4', 'b:4', 'b:4']);
    network.advance(60_000);
    assert.deepEqual(network.sentSince(before), ['a:4', 'b:4', 'b:4']);
  });

  test('data that was answered needs no keepalive and no new handshake', () => {
    connect();
    b.send(a, control(1));
    network.settle();
    const before = network.log.length;
    network.advance(9_999);
    assert.deepEqual(network.sentSince(before), []);
  });

  test('a persistent keepalive goes out whenever nothing else did', () => {
    connect();
    network.advance(11_000); // b's keepalive for the first data is past
    a.setPeer(b, { persistentKeepalive: 25 });
    network.settle();
    const before = network.log.length;
    network.advance(100_000);
    assert.deepEqual(network.sentSince(before), ['a:4', 'a:4', 'a:4', 'a:4']);
    a.setPeer(b, { persistentKeepalive: 0 });
    const after = network.log.length;
    network.advance(30_000);
    assert.equal(network.log.length, after);
  });

  test('any authenticated packet resets the persistent keepalive', () => {
    connect();
    a.setPeer(b, { persistentKeepalive: 4 });
    network.settle();
    for (let i = 0; i < 5; i++) {
      network.advance(3_000);
      a.send(b, control(i));
      network.settle();
    }
    assert.equal(a.count('keepalives_sent'), 1, 'the one that turning it on sends');
  });

  test('a persistent keepalive connects by itself and keeps trying', () => {
    b.setPeer(a, { endpoint: undefined });
    network.filter = lose;
    a.setPeer(b, { persistentKeepalive: 25 });
    network.advance(200_000);
    assert.ok(a.eventTypes().includes('session-lost'));
    network.filter = pass;
    network.advance(30_000);
    assert.deepEqual(b.eventTypes(), ['session']);
  });
});

describe('rekey', () => {
  const initiations = (since: number): string[] =>
    network.sentSince(since).filter((entry) => entry.endsWith(`:${INITIATION}`));

  test('the initiator takes a new key when it sends on one older than 120 s', () => {
    connect();
    network.advance(119_999);
    const before = network.log.length;
    a.send(b, control(1));
    network.settle();
    assert.deepEqual(initiations(before), []);
    network.advance(1);
    a.send(b, control(2));
    network.settle();
    assert.deepEqual(network.sentSince(before), ['a:4', 'a:4', 'a:1', 'b:2', 'a:4']);
    assert.equal(a.count('handshakes_completed'), 2);
    assert.deepEqual(b.received(), ['c001', 'c002']);
  });

  test('the responder does not rekey by age while the key is valid', () => {
    connect();
    network.advance(150_000);
    const before = network.log.length;
    b.send(a, control(1));
    network.settle();
    assert.deepEqual(initiations(before), []);
  });

  test('an initiator that only receives rekeys once at 165 s', () => {
    connect();
    network.advance(164_999);
    const before = network.log.length;
    network.filter = (sent) => (typeOf(sent) === INITIATION ? undefined : sent.datagram);
    b.send(a, control(1));
    network.settle();
    assert.deepEqual(initiations(before), []);
    network.advance(1);
    b.send(a, control(2));
    b.send(a, control(3));
    network.settle();
    assert.deepEqual(initiations(before), ['a:1']);
  });

  test('packets sent under the old key still arrive after the new one is in use', () => {
    connect();
    network.filter = lose;
    a.send(b, control(1));
    network.settle();
    const late = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
    network.filter = pass;
    network.advance(30);
    a.handshake(b);
    a.send(b, control(2));
    network.settle();
    network.inject(b, late, a.address);
    assert.deepEqual(b.received(), ['c002', 'c001']);
  });

  test('after 180 s a key is good for nothing, in neither direction', () => {
    connect();
    network.filter = lose;
    a.send(b, control(1));
    network.settle();
    const late = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
    network.now += 180_000;
    network.inject(b, late, a.address);
    assert.equal(b.count('drop_key_expired'), 1);
    assert.deepEqual(b.received(), []);
    const before = network.log.length;
    a.send(b, control(2));
    assert.ok(!network.sentSince(before).includes('a:4'));
  });

  test('540 s after the last handshake all keys are gone', () => {
    connect();
    network.filter = lose;
    a.send(b, control(1));
    network.settle();
    const late = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
    network.advance(539_000);
    const unknown = b.count('drop_unknown_index');
    network.inject(b, Uint8Array.from(late), a.address);
    assert.equal(b.count('drop_unknown_index'), unknown, 'held, though expired');
    network.advance(2_000);
    network.inject(b, Uint8Array.from(late), a.address);
    assert.equal(b.count('drop_unknown_index'), unknown + 1);
  });
});

describe('under load', () => {
  function identity(node: VirtualNode): PublicIdentity {
    return publicIdentity(Uint8Array.from(Buffer.from(node.key, 'hex')));
  }

  /** Fills b's handshake queue with valid-mac1 initiations of a stranger, without letting b work. */
  function flood(count: number): void {
    const stranger = network.node('stranger');
    stranger.setPeer(b);
    stranger.handshake(b);
    const message = network.log.at(-1)?.datagram ?? new Uint8Array(0);
    for (let i = 0; i < count; i++) {
      const from = socketAddress(`198.51.${i >> 8}.${i & 0xff}:1000`);
      network.inject(b, Uint8Array.from(message), from);
    }
  }

  test('the 65th waiting handshake gets a cookie reply, which is smaller than the request', () => {
    flood(64);
    assert.equal(b.count('cookie_replies_sent'), 0);
    flood(1);
    assert.equal(b.count('cookie_replies_sent'), 1);
    const reply = network.log.at(-1);
    assert.ok(reply !== undefined && typeOf(reply) === COOKIE_REPLY);
    assert.equal(reply.datagram.length, 64);
  });

  test('a peer gets through with a cookie, does not retry at once and does not roam on the reply', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    flood(65);
    a.send(b, control(1));
    // b still has the flood queued when a's initiation arrives: the load is sticky for a second.
    network.settle();
    assert.equal(a.count('cookie_replies_received'), 1);
    assert.deepEqual(a.status(b).endpoint, { address: b.address });
    assert.equal(network.log.filter(({ from }) => from === a).length, 1, 'no retry at once');
    flood(65);
    network.now += 5_400;
    flood(65);
    network.settle();
    network.advance(1);
    assert.deepEqual(b.received(), ['c001']);
    const second = network.log.filter((sent) => sent.from === a && typeOf(sent) === INITIATION)[1];
    assert.notDeepEqual(second?.datagram.subarray(132), new Uint8Array(16), 'mac2 is there');
  });

  test('the load is over a second after the queue was short', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    flood(65);
    network.settle();
    network.advance(1_000);
    a.send(b, control(1));
    network.settle();
    assert.deepEqual(b.received(), ['c001']);
  });

  test('a proven address gets 5 handshakes and then 20 a second', () => {
    a.setPeer(b);
    b.setPeer(a, { endpoint: undefined });
    flood(65);
    a.handshake(b);
    network.settle();
    assert.equal(a.count('cookie_replies_received'), 1);
    const refused: number[] = [];
    network.filter = lose;
    for (let i = 0; i < 20; i++) {
      network.now += 20;
      a.handshake(b);
      network.inject(b, Uint8Array.from(network.log.at(-1)?.datagram ?? []), a.address);
      refused.push(b.count('drop_handshake_rate'));
    }
    assert.equal(refused[4], 0);
    assert.equal(refused[19], 20 - Math.floor(5 + 0.38 * 20), 'a burst of 5, and 20 a second for 0.38 s');
    assert.equal(b.count('cookie_replies_sent'), 3, 'two to the flood, one to the first attempt');
  });

  test('each leg of a relay gets 5 handshakes and then 20 a second, whoever else is behind the relay', () => {
    const c = network.node('c');
    for (const node of [a, c]) {
      node.setPeer(b);
      b.setPeer(node, { endpoint: undefined });
    }
    network.filter = lose;
    flood(65);
    /** An initiation of `node` by way of a leg; what b sends back at once reaches it. */
    const attempt = (node: VirtualNode, leg: number): void => {
      network.now += 20;
      node.handshake(b);
      const initiation = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
      for (const output of b.table.handleMessage(initiation, { leg }, network.step())) {
        if (output.type === 'datagram')
          node.take(node.table.handleMessage(output.datagram, { address: b.address }, network.step()));
      }
    };
    attempt(a, 1);
    attempt(c, 2);
    assert.deepEqual([a.count('cookie_replies_received'), c.count('cookie_replies_received')], [1, 1]);
    for (let i = 0; i < 20; i++) attempt(a, 1);
    const refused = b.count('drop_handshake_rate');
    assert.equal(refused, 20 - Math.floor(5 + 0.38 * 20), 'a burst of 5, and 20 a second for 0.38 s');
    for (let i = 0; i < 5; i++) attempt(c, 2);
    assert.equal(b.count('drop_handshake_rate'), refused);
    assert.equal(b.count('cookie_replies_sent'), 3, 'one to the flood, one by each leg');
  });

  test('one address at its limit does not hurt another: there is no limit for all together', () => {
    const c = network.node('c');
    for (const node of [a, c]) {
      node.setPeer(b);
      b.setPeer(node, { endpoint: undefined });
    }
    flood(65);
    a.handshake(b);
    c.handshake(b);
    network.settle();
    assert.deepEqual([a.count('cookie_replies_received'), c.count('cookie_replies_received')], [1, 1]);
    network.filter = lose;
    const attempt = (node: VirtualNode): void => {
      network.now += 20;
      node.handshake(b);
      network.inject(b, Uint8Array.from(network.log.at(-1)?.datagram ?? []), node.address);
    };
    for (let i = 0; i < 20; i++) attempt(a);
    const limited = b.count('drop_handshake_rate');
    assert.ok(limited > 0);
    for (let i = 0; i < 5; i++) attempt(c);
    assert.equal(b.count('drop_handshake_rate'), limited);
  });

  test('the queue ends at 512, even for senders who proved their address', () => {
    flood(64);
    const message = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
    for (let i = 0; i < 500; i++) {
      const from = socketAddress(`100.64.${i >> 8}.${i & 0xff}:1000`);
      const jar = new CookieJar(identity(b));
      jar.sign(message, network.now);
      network.inject(b, Uint8Array.from(message), from);
      assert.ok(jar.consumeReply(network.log.at(-1)?.datagram ?? new Uint8Array(64), network.now));
      jar.sign(message, network.now);
      network.inject(b, Uint8Array.from(message), from);
    }
    assert.equal(b.count('drop_handshake_queue_full'), 64 + 500 - 512);
    network.settle();
    assert.equal(b.table.deadline(), undefined);
    assert.equal(b.count('drop_unknown_peer'), 512);
  });

  test('handshakes under load do not hold up a running session', () => {
    connect();
    flood(300);
    a.send(b, control(11));
    const packet = Uint8Array.from(network.log.at(-1)?.datagram ?? []);
    network.inject(b, packet, a.address);
    assert.deepEqual(b.received(), ['c00b'], 'before a single queued handshake was worked off');
    assert.equal(b.count('drop_unknown_peer'), 0);
  });
});

test('the peer table refuses more than it holds, and then adds none', () => {
  const small = network.node('small', 1);
  small.setPeer(a);
  assert.throws(
    () => small.setPeer(b),
    (error) => error instanceof EngineError && error.code === 'TABLE_FULL' && /maxPeers/.test(error.message),
  );
  assert.equal(small.table.peers(0).length, 1);
  small.setPeer(a, { persistentKeepalive: 5 });
  small.table.removePeers([a.key]);
  small.setPeer(b);
});

test('a removed peer is a stranger again', () => {
  connect();
  b.table.removePeers([a.key]);
  a.send(b, control(1));
  network.settle();
  assert.equal(b.count('drop_unknown_index'), 1);
  network.advance(30);
  a.handshake(b);
  network.settle();
  assert.equal(b.count('drop_unknown_peer'), 1);
});

test('bytes are counted for authenticated messages only, in both directions', () => {
  connect();
  assert.equal(a.status(b).txBytes, 148 + 48);
  assert.equal(b.status(a).rxBytes, 148 + 48);
  assert.equal(b.status(a).txBytes, 92);
  assert.equal(a.status(b).rxBytes, 92);
  network.inject(b, new Uint8Array(48).fill(4, 0, 1), a.address);
  assert.equal(b.status(a).rxBytes, 148 + 48);
  assert.equal(b.status(a).handshakeAgeMs, 0);
});
