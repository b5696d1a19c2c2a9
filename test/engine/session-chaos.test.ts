// Sessions over a bad network and under random bytes; all of it deterministic by seed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { socketAddress, VirtualNetwork, type Sent } from './virtual-network.js';

/** A control frame that carries a number. */
function numbered(number: number): Uint8Array {
  const payload = new Uint8Array(16);
  payload[0] = 0xc0;
  new DataView(payload.buffer).setUint32(4, number);
  return payload;
}

test('an hour of loss, duplication and late packets delivers nothing twice and never ends the session', () => {
  const network = new VirtualNetwork();
  const a = network.node('a');
  const b = network.node('b');
  a.setPeer(b, { persistentKeepalive: 25 });
  b.setPeer(a);
  let seed = 1;
  const chance = (percent: number): boolean => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 16) % 100 < percent;
  };
  const late: Sent[] = [];
  network.filter = (sent) => {
    if (chance(20)) return undefined;
    if (chance(10)) late.push(sent); // comes again, later
    return sent.datagram;
  };
  let sent = 0;
  for (let second = 0; second < 3600; second++) {
    a.send(b, numbered(sent));
    b.send(a, numbered(sent++));
    network.advance(1_000);
    for (const { datagram, from } of late.splice(0, chance(30) ? late.length : 0)) {
      network.inject(from === a ? b : a, Uint8Array.from(datagram), from.address);
    }
  }
  for (const node of [a, b]) {
    const received = node.events.flatMap((event) =>
      event.type === 'control' ? [Buffer.from(event.payload).readUInt32BE(4)] : [],
    );
    assert.equal(new Set(received).size, received.length, 'nothing twice');
    assert.ok(received.length > sent * 0.7, `${received.length} of ${sent} at 20 % loss`);
    assert.ok(!node.events.some(({ type }) => type === 'session-lost'));
    assert.ok(node.count('drop_replayed') > 0, 'duplicates came');
    assert.ok(node.count('handshakes_completed') >= 3600 / 180);
    assert.equal(node.count('drop_bad_handshake') + node.count('drop_decrypt_failed'), 0);
  }
});

test('random bytes, and real messages with random changes, neither throw nor are believed', () => {
  const network = new VirtualNetwork();
  const a = network.node('a');
  const b = network.node('b');
  a.setPeer(b);
  b.setPeer(a, { endpoint: undefined });
  a.send(b, numbered(1));
  network.settle();
  network.advance(30);
  network.filter = () => undefined;
  a.handshake(b);
  a.send(b, numbered(2));
  network.settle();
  b.eventTypes();
  const templates = network.log.map(({ datagram }) => datagram);
  const stranger = socketAddress('203.0.113.9:9');
  const garbage = fc.uint8Array({ maxLength: 200 });
  const mutated = fc
    .tuple(fc.nat(templates.length - 1), fc.array(fc.tuple(fc.nat(147), fc.nat(255)), { maxLength: 4 }))
    .map(([which, changes]) => {
      const message = Uint8Array.from(templates[which] ?? []);
      for (const [at, value] of changes) message[at] = value;
      return message;
    })
    // Unchanged, or changed only in mac2 (which counts under load alone), it is the real message.
    .filter((message) =>
      templates.every((real) => {
        const covered = real.length === 148 || real.length === 92 ? real.length - 16 : real.length;
        return Buffer.compare(message.subarray(0, covered), real.subarray(0, covered)) !== 0;
      }),
    );
  fc.assert(
    fc.property(fc.oneof(garbage, mutated), (message) => {
      network.inject(b, message, stranger);
      network.settle();
      assert.deepEqual(b.eventTypes(), []);
      assert.deepEqual(b.status(a).endpoint, { address: a.address });
    }),
    { numRuns: 1000, seed: 20_261_122 },
  );
});
