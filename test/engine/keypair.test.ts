import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Keypair, KeypairSlots } from '../../ts/engine/wasm/keypair.js';

function keypair(initiator = true): Keypair {
  const keys = { sending: new Uint8Array(32).fill(1), receiving: new Uint8Array(32).fill(2) };
  return new Keypair(keys, 1, 2, initiator, 1_000);
}

test('a key that sent 2^60 messages asks for a new one, whoever initiated it', () => {
  for (const initiator of [true, false]) {
    const pair = keypair(initiator);
    pair.sendCounter = 2n ** 60n - 1n;
    assert.equal(pair.worn(1_000), false);
    pair.sendCounter++;
    assert.equal(pair.worn(1_000), true);
  }
});

test('only the initiator asks for a new key by age', () => {
  assert.equal(keypair(true).worn(120_999), false);
  assert.equal(keypair(true).worn(121_000), true);
  assert.equal(keypair(false).worn(121_000), false);
});

test('nothing is sent from REJECT_AFTER_MESSAGES on: a nonce is never used twice', () => {
  const pair = keypair();
  pair.sendCounter = 2n ** 64n - 2n ** 13n - 2n;
  assert.equal(pair.canSend(1_000), true);
  pair.sendCounter++;
  assert.equal(pair.canSend(1_000), false);
});

test('keys that leave the slots are zeroed and reported', () => {
  const gone: Keypair[] = [];
  const slots = new KeypairSlots((pair) => gone.push(pair));
  const [first, second, third] = [keypair(), keypair(), keypair()];
  slots.addInitiated(first);
  slots.addInitiated(second);
  assert.deepEqual(gone, []);
  assert.equal(slots.previous, first);
  slots.addInitiated(third);
  assert.deepEqual(gone, [first]);
  assert.ok(
    first.keys.sending.every((byte) => byte === 0) && first.keys.receiving.every((byte) => byte === 0),
  );
  slots.clear();
  assert.equal(gone.length, 3);
});

test('a responder key becomes current only when a packet came on it', () => {
  const slots = new KeypairSlots(() => undefined);
  const [old, fresh] = [keypair(), keypair(false)];
  slots.addInitiated(old);
  slots.addResponded(fresh);
  assert.equal(slots.current, old);
  assert.equal(slots.confirm(old), false);
  assert.equal(slots.confirm(fresh), true);
  assert.deepEqual([slots.previous, slots.current, slots.next], [old, fresh, undefined]);
});

test('keys that the peer may still send with stay until a packet came under newer ones', () => {
  const gone: Keypair[] = [];
  const slots = new KeypairSlots((pair) => gone.push(pair));
  const [old, own, answered, ownLater] = [keypair(), keypair(), keypair(false), keypair()];
  slots.addInitiated(old);
  slots.addInitiated(own);
  slots.addResponded(answered);
  assert.deepEqual([slots.previous, slots.current, slots.next, gone], [old, own, answered, []]);
  slots.addInitiated(ownLater);
  assert.deepEqual([slots.previous, slots.current, slots.next, gone], [own, ownLater, answered, [old]]);
  assert.equal(slots.confirm(answered), false, 'it is older than what is sent with');
  assert.deepEqual([slots.previous, slots.current, slots.next], [answered, ownLater, undefined]);
});
