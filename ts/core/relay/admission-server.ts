// The node's side of admission. Until a cookie comes back nothing is kept but two secrets; what is
// kept afterwards is bounded. Bad frames are met with silence and a counter.

import { encodeFrame, FrameKind, type ParsedFrame } from '../../wire/frame.js';
import type { LegKey } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import {
  admissionSignatureInput,
  commitmentOf,
  decodeAnswer,
  decodePlain,
  decodeRequest,
  encodeChallenge,
  encodeGrant,
  GrantStatus,
  sealKey,
} from '../protocol/admission-payload.js';
import { concat, sameBytes, toHex, utf8, viewOf } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import type { Turn } from '../runtime/turn.js';

/** A secret is made for each slot; cookies of the slot before are still accepted. */
export const SLOT_MS = 120_000;
/** Cookies used, kept per slot so that each is good for one admission. */
const MAX_USED_COOKIES = 16_384;
const NONCE_ZERO = new Uint8Array(12);

/** A stranger whose address and identity are proven. */
export interface AdmissionClaim {
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  /** Blinded id, all zero = none. */
  readonly network: Uint8Array;
  readonly address: SocketAddress;
}

export interface AdmissionVerdict {
  readonly status: GrantStatus;
  /** Seconds. */
  readonly lifetime: number;
}

/** Why a frame was dropped. */
export const ADMISSION_DROPS = [
  'admission-malformed',
  'admission-bad-cookie',
  'admission-bad-seal',
  'admission-bad-commitment',
  'admission-bad-signature',
  'admission-replay',
] as const;
export type AdmissionDrop = (typeof ADMISSION_DROPS)[number];

interface Slot {
  readonly number: number;
  readonly secret: Uint8Array;
  /** Commitment (hex) → the answer it was used in and the grant that answered it. */
  readonly used: Map<string, { readonly answer: Uint8Array; readonly grant: Uint8Array }>;
}

export class AdmissionServer {
  readonly #primitives: Primitives;
  readonly #identity: Uint8Array;
  readonly #sessionPrivateKey: Uint8Array;
  readonly #judge: (claim: AdmissionClaim, turn: Turn) => AdmissionVerdict;
  readonly #drop: (reason: AdmissionDrop) => void;
  readonly #maxUsedCookies: number;
  #current: Slot | undefined;
  #previous: Slot | undefined;

  /** @param judge decides by policy and caps, and remembers whom it grants. */
  constructor(
    primitives: Primitives,
    identity: Uint8Array,
    sessionPrivateKey: Uint8Array,
    judge: (claim: AdmissionClaim, turn: Turn) => AdmissionVerdict,
    drop: (reason: AdmissionDrop) => void,
    maxUsedCookies = MAX_USED_COOKIES,
  ) {
    this.#primitives = primitives;
    this.#identity = identity;
    this.#sessionPrivateKey = sessionPrivateKey;
    this.#judge = judge;
    this.#drop = drop;
    this.#maxUsedCookies = maxUsedCookies;
  }

  /** A frame on the contact leg whose tag the engine has checked. */
  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): void {
    if (frame.kind === FrameKind.admissionRequest) this.#handleRequest(from, frame.payload, turn);
    else if (frame.kind === FrameKind.admissionAnswer) this.#handleAnswer(from, frame.payload, turn);
    else this.#drop('admission-malformed');
  }

  #handleRequest(from: SocketAddress, payload: Uint8Array, turn: Turn): void {
    const request = decodeRequest(payload);
    if (request === undefined) {
      this.#drop('admission-malformed');
      return;
    }
    const slot = this.#slot(turn);
    const challenge = encodeChallenge({
      nonce: request.nonce,
      slot: BigInt(slot.number),
      cookie: this.#cookie(slot, from, request.commitment),
    });
    reply(from, request.reply, FrameKind.admissionChallenge, challenge, turn);
  }

  #handleAnswer(from: SocketAddress, payload: Uint8Array, turn: Turn): void {
    const answer = decodeAnswer(payload);
    if (answer === undefined) {
      this.#drop('admission-malformed');
      return;
    }
    const current = this.#slot(turn);
    const slot = [current, this.#previous].find(
      (candidate) => BigInt(candidate?.number ?? -1) === answer.slot,
    );
    if (
      slot === undefined ||
      !this.#primitives.equal(answer.cookie, this.#cookie(slot, from, answer.commitment))
    ) {
      this.#drop('admission-bad-cookie');
      return;
    }
    const usedKey = toHex(answer.commitment);
    const used = slot.used.get(usedKey);
    if (used !== undefined) {
      // The grant got lost: the very same answer is granted again. Any other is a replay.
      if (sameBytes(used.answer, this.#primitives.sha256(payload)))
        reply(from, answer.reply, FrameKind.admissionGrant, used.grant, turn);
      else this.#drop('admission-replay');
      return;
    }
    const key = sealKey(this.#primitives, this.#sessionPrivateKey, answer.ephemeral);
    const opened =
      key === undefined ? undefined : this.#primitives.aeadOpen(key, NONCE_ZERO, answer.sealed, answer.head);
    const plain = opened === undefined ? undefined : decodePlain(opened);
    if (plain === undefined) {
      this.#drop('admission-bad-seal');
      return;
    }
    const { identity, sessionKey, network, signature, signed } = plain;
    if (!sameBytes(answer.commitment, commitmentOf(this.#primitives, answer.nonce, identity))) {
      this.#drop('admission-bad-commitment');
      return;
    }
    const input = admissionSignatureInput(this.#identity, answer.head, signed);
    if (!this.#primitives.ed25519Verify(identity, input, signature)) {
      this.#drop('admission-bad-signature');
      return;
    }
    const verdict =
      slot.used.size >= this.#maxUsedCookies
        ? { status: GrantStatus.atCapacity, lifetime: 0 }
        : this.#judge({ identity, sessionKey, network, address: from }, turn);
    const grant = encodeGrant({ nonce: answer.nonce, ...verdict, observed: from });
    if (slot.used.size < this.#maxUsedCookies)
      slot.used.set(usedKey, { answer: this.#primitives.sha256(payload), grant });
    reply(from, answer.reply, FrameKind.admissionGrant, grant, turn);
  }

  /** The present slot; a new one gets a new secret. The monotonic clock cannot be set back. */
  #slot(turn: Turn): Slot {
    const number = Math.floor(turn.now / SLOT_MS);
    if (this.#current?.number !== number) {
      this.#previous = this.#current?.number === number - 1 ? this.#current : undefined;
      this.#current = { number, secret: turn.random(32), used: new Map() };
    }
    return this.#current;
  }

  #cookie(slot: Slot, from: SocketAddress, commitment: Uint8Array): Uint8Array {
    const portAndSlot = new Uint8Array(2 + 8);
    viewOf(portAndSlot).setUint16(0, from.port, true);
    viewOf(portAndSlot).setBigUint64(2, BigInt(slot.number), true);
    return this.#primitives.hmacSha256(
      slot.secret,
      utf8('omerta challenge v1'),
      concat(from.ip, portAndSlot.subarray(0, 2)),
      commitment,
      portAndSlot.subarray(2),
    );
  }
}

function reply(to: SocketAddress, leg: LegKey, kind: FrameKind, payload: Uint8Array, turn: Turn): void {
  const frame = encodeFrame({ kind, hopLimit: 1, epoch: 0, legId: leg.id, key: leg.key, payload });
  turn.emit({ type: 'send-frame', to, frame });
}
