// The handshake against an independent computation of the whitepaper (vectors/).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Step } from '../../ts/contract/step.js';
import { CookieChecker, CookieJar, mac1Valid } from '../../ts/engine/wasm/cookie.js';
import {
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  localIdentity,
  remoteIdentity,
  type RemoteIdentity,
} from '../../ts/engine/wasm/noise.js';
import { open } from '../../ts/engine/wasm/primitives.js';
import { toHex, vectorBytes, vectorNumber } from './vectors.js';

const initiator = localIdentity(vectorBytes('initiatorPrivate'));
const responder = localIdentity(vectorBytes('responderPrivate'));
const presharedKey = vectorBytes('presharedKey');

function remote(local: typeof initiator, other: typeof initiator): RemoteIdentity {
  const identity = remoteIdentity(local, other.publicKey, presharedKey);
  assert.ok(identity !== undefined);
  return identity;
}

function initiation(): NonNullable<ReturnType<typeof createInitiation>> {
  const created = createInitiation(
    initiator,
    remote(initiator, responder),
    vectorNumber('initiatorIndex'),
    vectorBytes('initiatorEphemeral'),
    vectorBytes('timestamp'),
  );
  assert.ok(created !== undefined);
  return created;
}

/** Time stands still; random bytes come from `bytes` in order. */
function stepWith(...bytes: Uint8Array[]): Step {
  return {
    now: 0,
    wallClock: 0,
    random: (length) => {
      const next = bytes.shift();
      assert.ok(next?.length === length);
      return next;
    },
  };
}

test('the initiation is byte for byte the one computed from the whitepaper', () => {
  const { message } = initiation();
  new CookieJar(responder).sign(message, 0);
  assert.equal(toHex(message), toHex(vectorBytes('initiation')));
});

test('the responder reads the vector initiation and answers with the vector response', () => {
  const message = vectorBytes('initiation');
  assert.ok(mac1Valid(responder, message));
  const peer = { remote: remote(responder, initiator) };
  const consumed = consumeInitiation(responder, message, (key) => {
    assert.equal(toHex(key), toHex(initiator.publicKey));
    return peer;
  });
  assert.ok(typeof consumed === 'object');
  assert.equal(toHex(consumed.state.timestamp), toHex(vectorBytes('timestamp')));
  const response = createResponse(
    peer.remote,
    consumed.state,
    vectorNumber('responderIndex'),
    vectorBytes('responderEphemeral'),
  );
  assert.ok(response !== undefined);
  new CookieJar(initiator).sign(response.message, 0);
  assert.equal(toHex(response.message), toHex(vectorBytes('response')));
  assert.equal(toHex(response.keys.sending), toHex(vectorBytes('responderSends')));
  assert.equal(toHex(response.keys.receiving), toHex(vectorBytes('initiatorSends')));
});

test('the initiator derives the vector keys from the vector response', () => {
  const keys = consumeResponse(
    initiator,
    remote(initiator, responder),
    initiation().state,
    vectorBytes('response'),
  );
  assert.ok(keys !== undefined);
  assert.equal(toHex(keys.sending), toHex(vectorBytes('initiatorSends')));
  assert.equal(toHex(keys.receiving), toHex(vectorBytes('responderSends')));
});

test('the vector transport message opens with its 64-bit counter', () => {
  const transport = vectorBytes('transport');
  const counter = new DataView(transport.buffer).getBigUint64(8, true);
  assert.equal(counter, 2n ** 32n + 5n);
  const payload = open(vectorBytes('initiatorSends'), counter, transport.subarray(16));
  assert.ok(payload !== undefined);
  assert.equal(toHex(payload), toHex(vectorBytes('payload')));
});

test('the cookie reply and the mac2 made from it are the vector ones', () => {
  const message = initiation().message;
  const jar = new CookieJar(responder);
  jar.sign(message, 0);
  const checker = new CookieChecker(responder);
  const source = vectorBytes('source');
  const step = stepWith(vectorBytes('cookieNonce'), vectorBytes('cookieSecret'));
  const reply = checker.reply(message, source, step);
  assert.equal(toHex(reply), toHex(vectorBytes('cookieReply')));
  assert.ok(jar.consumeReply(reply, 0));
  jar.sign(message, 0);
  assert.equal(toHex(message), toHex(vectorBytes('initiationWithMac2')));
  assert.ok(checker.mac2Valid(message, source, step));
});

test('a cookie is good for the address and the port it was given to, and for nothing else', () => {
  const checker = new CookieChecker(responder);
  const message = vectorBytes('initiationWithMac2');
  const source = vectorBytes('source');
  const step = stepWith(vectorBytes('cookieSecret'));
  assert.ok(checker.mac2Valid(message, source, step));
  for (const offset of [15, 17]) {
    const other = Uint8Array.from(source);
    other[offset] = (other[offset] ?? 0) ^ 1;
    assert.equal(checker.mac2Valid(message, other, step), false);
  }
});

test('a cookie reply is taken once, only for the last message sent, and only from the peer', () => {
  const message = initiation().message;
  const jar = new CookieJar(responder);
  assert.equal(jar.consumeReply(vectorBytes('cookieReply'), 0), false, 'nothing was sent');
  jar.sign(message, 0);
  const forged = vectorBytes('cookieReply');
  forged[40] = (forged[40] ?? 0) ^ 1;
  assert.equal(jar.consumeReply(forged, 0), false);
  assert.equal(jar.consumeReply(vectorBytes('cookieReply'), 0), true);
  assert.equal(jar.consumeReply(vectorBytes('cookieReply'), 0), false, 'answered already');
});

test('a cookie is used for 115 s and no longer', () => {
  const jar = new CookieJar(responder);
  const message = initiation().message;
  jar.sign(message, 0);
  assert.ok(jar.consumeReply(vectorBytes('cookieReply'), 1_000));
  jar.sign(message, 115_999);
  assert.notEqual(toHex(message.subarray(132)), '00'.repeat(16));
  const later = initiation().message;
  jar.sign(later, 116_000);
  assert.equal(toHex(later.subarray(132)), '00'.repeat(16));
});

test('every byte of an initiation matters', () => {
  const good = vectorBytes('initiation');
  const peer = { remote: remote(responder, initiator) };
  for (let byte = 8; byte < 116; byte++) {
    const bad = Uint8Array.from(good);
    // Bit 255 of an X25519 key is ignored in the multiplication but not in the transcript.
    bad[byte] = (bad[byte] ?? 0) ^ 0x80;
    assert.equal(mac1Valid(responder, bad), false, `mac1, byte ${byte}`);
    assert.equal(typeof consumeInitiation(responder, bad, () => peer), 'string', `byte ${byte}`);
  }
});

test('a handshake with another preshared key does not complete', () => {
  const other = remoteIdentity(initiator, responder.publicKey, undefined);
  assert.ok(other !== undefined);
  assert.equal(consumeResponse(initiator, other, initiation().state, vectorBytes('response')), undefined);
});

test('low-order ephemeral keys are refused in both messages', () => {
  const first = vectorBytes('initiation');
  first.fill(0, 8, 40);
  assert.equal(
    consumeInitiation(responder, first, () => undefined),
    'invalid',
  );
  const second = vectorBytes('response');
  second.fill(0, 12, 44);
  assert.equal(
    consumeResponse(initiator, remote(initiator, responder), initiation().state, second),
    undefined,
  );
});
