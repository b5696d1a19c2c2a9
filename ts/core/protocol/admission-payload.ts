// The four payloads of admission (docs/protocol.md, "Admission"); integers are little-endian.
//
//   request 112     nonce 16 · reply leg id 4 · zero 4 · reply leg key 16 · commitment 32 · zero 40
//   challenge 64    nonce 16 · issued 8 · cookie 32 · zero 8
//   answer 384      request's first 72 · issued 8 · cookie 32 · ephemeral key 32 · sealed 176 · zero 64
//   grant 64        nonce 16 · status 1 · zero 3 · lifetime 4 · observed ip 16, port 2 · zero 22
//   sealed plain 160  identity 32 · session key 32 · network 16 · signature 64 · zero 16

import type { LegKey } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { concat, isZero, utf8, viewOf } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';

const REQUEST_SIZE = 112;
const CHALLENGE_SIZE = 64;
const ANSWER_SIZE = 384;
const GRANT_SIZE = 64;
const PLAIN_SIZE = 160;
/** What the signature and the seal cover of an answer. */
const ANSWER_HEAD_SIZE = 144;
const SEALED_END = 320;
const SIGNED_PLAIN_SIZE = 80;
export const NO_NETWORK = new Uint8Array(16);
const LABEL = 'omerta admission v1';

export interface AdmissionRequest {
  readonly nonce: Uint8Array;
  /** Where the node answers to; made up by the client. */
  readonly reply: LegKey;
  readonly commitment: Uint8Array;
}

export interface AdmissionChallenge {
  readonly nonce: Uint8Array;
  /** When it was made, ms by the node's clock; echoed in the answer. */
  readonly issued: bigint;
  readonly cookie: Uint8Array;
}

export interface AdmissionAnswer extends AdmissionRequest, AdmissionChallenge {
  readonly ephemeral: Uint8Array;
  /** payload[0..144): signed, and the seal's associated data. */
  readonly head: Uint8Array;
  readonly sealed: Uint8Array;
}

export interface AdmissionPlain {
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  /** Blinded id, all zero = none. */
  readonly network: Uint8Array;
  readonly signature: Uint8Array;
  /** plaintext[0..80): what the signature covers. */
  readonly signed: Uint8Array;
}

export const GrantStatus = { granted: 0, refused: 1, atCapacity: 2, draining: 3 } as const;
export type GrantStatus = (typeof GrantStatus)[keyof typeof GrantStatus];

export interface AdmissionGrant {
  readonly nonce: Uint8Array;
  readonly status: GrantStatus;
  /** Seconds the admission lasts without a session; of `draining`: until the node may be gone. */
  readonly lifetime: number;
  readonly observed: SocketAddress;
}

/** Binds a request to an identity without showing it. */
export function commitmentOf(primitives: Primitives, nonce: Uint8Array, identity: Uint8Array): Uint8Array {
  return primitives.sha256(utf8('omerta commitment v1'), nonce, identity);
}

/** The sealing key both sides compute. @returns undefined for a low-order public key. */
export function sealKey(
  primitives: Primitives,
  privateKey: Uint8Array,
  publicKey: Uint8Array,
): Uint8Array | undefined {
  const shared = primitives.x25519(privateKey, publicKey);
  return shared === undefined ? undefined : primitives.hkdfSha256(shared, LABEL, 32);
}

/** What the identity signs. */
export function admissionSignatureInput(
  nodeIdentity: Uint8Array,
  head: Uint8Array,
  signed: Uint8Array,
): Uint8Array {
  return concat(utf8(LABEL), nodeIdentity, head, signed);
}

export function encodeRequest({ nonce, reply, commitment }: AdmissionRequest): Uint8Array {
  const payload = new Uint8Array(REQUEST_SIZE);
  payload.set(nonce, 0);
  viewOf(payload).setUint32(16, reply.id, true);
  payload.set(reply.key, 24);
  payload.set(commitment, 40);
  return payload;
}

/** Undefined unless the size and every reserved byte are right. */
export function decodeRequest(payload: Uint8Array): AdmissionRequest | undefined {
  if (payload.length !== REQUEST_SIZE || !isZero(payload.subarray(72))) return undefined;
  return decodeRequestHead(payload);
}

function decodeRequestHead(payload: Uint8Array): AdmissionRequest | undefined {
  const id = viewOf(payload).getUint32(16, true);
  if (id === 0 || !isZero(payload.subarray(20, 24))) return undefined;
  return {
    nonce: payload.slice(0, 16),
    reply: { id, key: payload.slice(24, 40), epoch: 0 },
    commitment: payload.slice(40, 72),
  };
}

export function encodeChallenge({ nonce, issued, cookie }: AdmissionChallenge): Uint8Array {
  const payload = new Uint8Array(CHALLENGE_SIZE);
  payload.set(nonce, 0);
  viewOf(payload).setBigUint64(16, issued, true);
  payload.set(cookie, 24);
  return payload;
}

export function decodeChallenge(payload: Uint8Array): AdmissionChallenge | undefined {
  if (payload.length !== CHALLENGE_SIZE || !isZero(payload.subarray(56))) return undefined;
  return {
    nonce: payload.slice(0, 16),
    issued: viewOf(payload).getBigUint64(16, true),
    cookie: payload.slice(24, 56),
  };
}

/** The first 144 bytes of an answer. */
export function encodeAnswerHead(
  request: AdmissionRequest,
  challenge: AdmissionChallenge,
  ephemeral: Uint8Array,
): Uint8Array {
  const head = new Uint8Array(ANSWER_HEAD_SIZE);
  head.set(encodeRequest(request).subarray(0, 72), 0);
  viewOf(head).setBigUint64(72, challenge.issued, true);
  head.set(challenge.cookie, 80);
  head.set(ephemeral, 112);
  return head;
}

export function encodeAnswer(head: Uint8Array, sealed: Uint8Array): Uint8Array {
  return concat(head, sealed, new Uint8Array(ANSWER_SIZE - SEALED_END));
}

export function decodeAnswer(payload: Uint8Array): AdmissionAnswer | undefined {
  if (payload.length !== ANSWER_SIZE || !isZero(payload.subarray(SEALED_END))) return undefined;
  const request = decodeRequestHead(payload);
  if (request === undefined) return undefined;
  return {
    ...request,
    issued: viewOf(payload).getBigUint64(72, true),
    cookie: payload.slice(80, 112),
    ephemeral: payload.slice(112, 144),
    head: payload.slice(0, ANSWER_HEAD_SIZE),
    sealed: payload.slice(ANSWER_HEAD_SIZE, SEALED_END),
  };
}

/** plaintext[0..80). */
export function encodeSignedPlain(
  identity: Uint8Array,
  sessionKey: Uint8Array,
  network: Uint8Array,
): Uint8Array {
  return concat(identity, sessionKey, network);
}

export function encodePlain(signed: Uint8Array, signature: Uint8Array): Uint8Array {
  return concat(signed, signature, new Uint8Array(16));
}

export function decodePlain(plain: Uint8Array): AdmissionPlain | undefined {
  if (plain.length !== PLAIN_SIZE || !isZero(plain.subarray(144))) return undefined;
  return {
    identity: plain.slice(0, 32),
    sessionKey: plain.slice(32, 64),
    network: plain.slice(64, 80),
    signature: plain.slice(80, 144),
    signed: plain.slice(0, SIGNED_PLAIN_SIZE),
  };
}

export function encodeGrant({ nonce, status, lifetime, observed }: AdmissionGrant): Uint8Array {
  const payload = new Uint8Array(GRANT_SIZE);
  payload.set(nonce, 0);
  payload[16] = status;
  viewOf(payload).setUint32(20, lifetime, true);
  payload.set(observed.ip, 24);
  viewOf(payload).setUint16(40, observed.port, true);
  return payload;
}

export function decodeGrant(payload: Uint8Array): AdmissionGrant | undefined {
  if (payload.length !== GRANT_SIZE) return undefined;
  if (!isZero(payload.subarray(17, 20)) || !isZero(payload.subarray(42))) return undefined;
  const status = Object.values(GrantStatus).find((known) => known === payload[16]);
  if (status === undefined) return undefined;
  const view = viewOf(payload);
  return {
    nonce: payload.slice(0, 16),
    status,
    lifetime: view.getUint32(20, true),
    observed: { ip: payload.slice(24, 40), port: view.getUint16(40, true) },
  };
}
