// A transport payload that claims to be a control frame, and the message inside: read only as it is written.

import assert from 'node:assert/strict';
import {
  ControlKind,
  decodeControlFrame,
  encodeControlFrame,
} from '../../../ts/core/protocol/control-frame.js';
import { PING_TOKEN_SIZE, pongTo } from '../../../ts/wire/ping-frame.js';
import {
  decodeMessage,
  encodeMessage,
  isRequest,
  messageSize,
} from '../../../ts/core/protocol/control-message.js';
import { mutateCbor } from '../harness/cbor-mutation.js';
import { controlMessages } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

const target: FuzzTarget = {
  seeds: () => [
    ...controlMessages.map((message, request) => encodeMessage({ request, message })),
    encodeControlFrame({ kind: ControlKind.ping, body: new Uint8Array(PING_TOKEN_SIZE) }),
    encodeControlFrame({ kind: ControlKind.pong, body: new Uint8Array(PING_TOKEN_SIZE).fill(7) }),
  ],
  mutate(input, random) {
    const frame = decodeControlFrame(input);
    const body = frame?.kind === ControlKind.message ? mutateCbor(frame.body, random) : undefined;
    if (body === undefined || body.length > 1200) return undefined;
    return encodeControlFrame({ kind: ControlKind.message, body });
  },
  run(input) {
    if (input.length !== PING_TOKEN_SIZE)
      assert.throws(() => encodeControlFrame({ kind: ControlKind.ping, body: input }), RangeError);
    const frame = decodeControlFrame(input);
    const pong = pongTo(input);
    if (pong !== undefined) {
      assert.equal(frame, undefined);
      const answer = decodeControlFrame(pong);
      assert.equal(answer?.kind, ControlKind.pong);
      assert.deepEqual(answer.body, input.slice(4, 12));
    }
    if (frame === undefined) return;
    const again = encodeControlFrame(frame);
    assert.deepEqual(again, input.slice(0, again.length));
    // However much an engine padded it: at a constant rate, to the whole size of a datagram.
    assert.ok(input.subarray(again.length).every((byte) => byte === 0));
    if (frame.kind !== ControlKind.message) return;
    const envelope = decodeMessage(frame.body);
    if (envelope === undefined) return;
    assert.deepEqual(encodeMessage(envelope), again);
    assert.ok(messageSize(envelope.message) <= frame.body.length + 4);
    isRequest(envelope.message);
  },
};
export default target;
