// The payloads of admission, which anybody may send: read only as they are written.

import assert from 'node:assert/strict';
import {
  admissionSignatureInput,
  commitmentOf,
  decodeAnswer,
  decodeChallenge,
  decodeGrant,
  decodePlain,
  decodeRequest,
  encodeAnswer,
  encodeAnswerHead,
  encodeChallenge,
  encodeGrant,
  encodePlain,
  encodeRequest,
  encodeSignedPlain,
  GrantStatus,
  sealKey,
} from '../../../ts/core/protocol/admission-payload.js';
import { nodePrimitives } from '../../../ts/engine/node-primitives.js';
import { address, bytes } from '../../core/fixtures.js';
import { node } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

const nonce = bytes(16);
const request = {
  nonce,
  reply: { id: 9, key: bytes(16), epoch: 0 },
  commitment: commitmentOf(nodePrimitives, nonce, node.identity),
};
const challenge = { nonce, issued: 77n, cookie: bytes(32) };

const target: FuzzTarget = {
  seeds: () => [
    encodeRequest(request),
    encodeChallenge(challenge),
    encodeAnswer(encodeAnswerHead(request, challenge, node.sessionKey), bytes(176)),
    encodePlain(encodeSignedPlain(node.identity, node.sessionKey, bytes(16)), bytes(64)),
    ...Object.values(GrantStatus).map((status) =>
      encodeGrant({ nonce, status, lifetime: 60, observed: address('203.0.113.5:51820') }),
    ),
  ],
  run(input) {
    const asked = decodeRequest(input);
    if (asked !== undefined) assert.deepEqual(encodeRequest(asked), input);
    const told = decodeChallenge(input);
    if (told !== undefined) assert.deepEqual(encodeChallenge(told), input);
    const granted = decodeGrant(input);
    if (granted !== undefined) assert.deepEqual(encodeGrant(granted), input);
    const plain = decodePlain(input);
    if (plain !== undefined) {
      const { identity, sessionKey, network, signature, signed } = plain;
      assert.deepEqual(encodeSignedPlain(identity, sessionKey, network), signed);
      assert.deepEqual(encodePlain(signed, signature), input);
    }
    const answer = decodeAnswer(input);
    if (answer === undefined) return;
    assert.deepEqual(encodeAnswerHead(answer, answer, answer.ephemeral), answer.head);
    assert.deepEqual(encodeAnswer(answer.head, answer.sealed), input);
    // Low-order points among them.
    const key = sealKey(nodePrimitives, node.sessionPrivateKey, answer.ephemeral);
    assert.ok(key === undefined || key.length === 32);
    admissionSignatureInput(node.identity, answer.head, answer.sealed.subarray(0, 80));
  },
};
export default target;
