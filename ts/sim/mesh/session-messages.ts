// The messages of simulated sessions: WireGuard's with its sizes, indices and counters, and the cryptography left
// out. The static keys travel in the clear, a preshared key is compared by a hash, a payload lies open.
//
//   initiation 148   01 · sender index · initiator key · responder key · psk hash 8 · time 8
//   response    92   02 · sender index · receiver index · psk hash 8
//   transport        04 · receiver index · counter 8 · payload · padding to 16 · 16

import { concat, viewOf } from '../../wire/bytes.js';
import { TRANSPORT_OVERHEAD } from '../../wire/path-frame.js';
import { siphash24 } from '../../wire/siphash.js';

export const INITIATION = 1;
export const RESPONSE = 2;
export const TRANSPORT = 4;

const INITIATION_SIZE = 148;
const RESPONSE_SIZE = 92;
const TRANSPORT_HEADER = 16;
const TRANSPORT_TAG = 16;
const NO_PRESHARED_KEY = new Uint8Array(32);

export interface Initiation {
  readonly sender: number;
  /** Static keys, 32 bytes each. */
  readonly initiator: Uint8Array;
  readonly responder: Uint8Array;
  readonly pskHash: bigint;
  /** Later than in the initiator's last one. */
  readonly time: number;
}

export interface Response {
  readonly sender: number;
  readonly receiver: number;
  readonly pskHash: bigint;
}

export interface Transport {
  readonly receiver: number;
  readonly counter: bigint;
  /** Padded when it is read. */
  readonly payload: Uint8Array;
}

/** What both sides of a handshake have to have in common; the keys are in the clear beside it. */
export function pskHash(
  presharedKey: Uint8Array | undefined,
  initiator: Uint8Array,
  responder: Uint8Array,
): bigint {
  return siphash24((presharedKey ?? NO_PRESHARED_KEY).slice(0, 16), concat(initiator, responder));
}

export function encodeInitiation(fields: Initiation): Uint8Array {
  const message = new Uint8Array(INITIATION_SIZE);
  message[0] = INITIATION;
  const view = viewOf(message);
  view.setUint32(4, fields.sender, true);
  message.set(fields.initiator, 8);
  message.set(fields.responder, 40);
  view.setBigUint64(72, fields.pskHash, true);
  view.setFloat64(80, fields.time, true);
  return message;
}

export function decodeInitiation(message: Uint8Array): Initiation {
  const view = viewOf(message);
  return {
    sender: view.getUint32(4, true),
    initiator: message.slice(8, 40),
    responder: message.slice(40, 72),
    pskHash: view.getBigUint64(72, true),
    time: view.getFloat64(80, true),
  };
}

export function encodeResponse(fields: Response): Uint8Array {
  const message = new Uint8Array(RESPONSE_SIZE);
  message[0] = RESPONSE;
  const view = viewOf(message);
  view.setUint32(4, fields.sender, true);
  view.setUint32(8, fields.receiver, true);
  view.setBigUint64(12, fields.pskHash, true);
  return message;
}

export function decodeResponse(message: Uint8Array): Response {
  const view = viewOf(message);
  return {
    sender: view.getUint32(4, true),
    receiver: view.getUint32(8, true),
    pskHash: view.getBigUint64(12, true),
  };
}

/** @param limit bytes of payload that padding does not go beyond */
export function encodeTransport({ receiver, counter, payload }: Transport, limit = Infinity): Uint8Array {
  const padded = Math.max(payload.length, Math.min(Math.ceil(payload.length / 16) * 16, limit));
  const message = new Uint8Array(TRANSPORT_OVERHEAD + padded);
  message[0] = TRANSPORT;
  viewOf(message).setUint32(4, receiver, true);
  viewOf(message).setBigUint64(8, counter, true);
  message.set(payload, TRANSPORT_HEADER);
  return message;
}

export function decodeTransport(message: Uint8Array): Transport {
  const view = viewOf(message);
  return {
    receiver: view.getUint32(4, true),
    counter: view.getBigUint64(8, true),
    payload: message.slice(TRANSPORT_HEADER, message.length - TRANSPORT_TAG),
  };
}
