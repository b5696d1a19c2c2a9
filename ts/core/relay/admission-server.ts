// The node's side of admission. Nothing is kept here but two secrets: a challenge says when it was issued,
// and whoever is granted something remembers that time and the answer (ClientAdmission, in the client's own
// entry), so that an older answer is worth nothing. Bad frames are met with silence and a counter.

import { encodeFrame, FrameKind, type ParsedFrame } from '../../wire/frame.js';
import type { LegKey } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { GrantStatus } from '../protocol/admission-payload.js';
import {
  admissionSignatureInput,
  commitmentOf,
  decodeAnswer,
  decodePlain,
  decodeRequest,
  encodeChallenge,
  encodeGrant,
  sealKey,
} from '../protocol/admission-payload.js';
import { concat, sameBytes, utf8, viewOf } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import type { Turn } from '../runtime/turn.js';

/** A secret is made for each slot; cookies of the slot before are still accepted. */
export const SLOT_MS = 120_000;
const NONCE_ZERO = new Uint8Array(12);

/** A stranger whose address and identity are proven. */
export interface AdmissionClaim {
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  /** Blinded id, all zero = none. */
  readonly network: Uint8Array;
  readonly address: SocketAddress;
  /** When the challenge was made that this answers, ms of the node's monotonic clock. */
  readonly issued: number;
  /** SHA-256 of the answer: the very same one may be granted again. */
  readonly digest: Uint8Array;
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
}

export class AdmissionServer {
  readonly #primitives: Primitives;
  readonly #identity: Uint8Array;
  readonly #sessionPrivateKey: Uint8Array;
  readonly #judge: (claim: AdmissionClaim, turn: Turn) => AdmissionVerdict | 'replay';
  readonly #drop: (reason: AdmissionDrop) => void;
  #current: Slot | undefined;
  #previous: Slot | undefined;

  /**
   * @param judge decides by policy and caps, and remembers whom it grants, with what; `replay` when the
   * claim is older than one granted since.
   */
  constructor(
    primitives: Primitives,
    identity: Uint8Array,
    sessionPrivateKey: Uint8Array,
    judge: (claim: AdmissionClaim, turn: Turn) => AdmissionVerdict | 'replay',
    drop: (reason: AdmissionDrop) => void,
  ) {
    this.#primitives = primitives;
    this.#identity = identity;
    this.#sessionPrivateKey = sessionPrivateKey;
    this.#judge = judge;
    this.#drop = drop;
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
    const issued = BigInt(Math.floor(turn.now));
    const challenge = encodeChallenge({
      nonce: request.nonce,
      issued,
      cookie: this.#cookie(this.#slot(turn), from, request.commitment, issued),
    });
    reply(from, request.reply, FrameKind.admissionChallenge, challenge, turn);
  }

  #handleAnswer(from: SocketAddress, payload: Uint8Array, turn: Turn): void {
    const answer = decodeAnswer(payload);
    if (answer === undefined) {
      this.#drop('admission-malformed');
      return;
    }
    const { issued } = answer;
    const slot = this.#slotOf(issued, turn);
    if (
      slot === undefined ||
      !this.#primitives.equal(answer.cookie, this.#cookie(slot, from, answer.commitment, issued))
    ) {
      this.#drop('admission-bad-cookie');
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
    const digest = this.#primitives.sha256(payload);
    const claim = { identity, sessionKey, network, address: from, issued: Number(issued), digest };
    const verdict = this.#judge(claim, turn);
    if (verdict === 'replay') {
      this.#drop('admission-replay');
      return;
    }
    const grant = encodeGrant({ nonce: answer.nonce, ...verdict, observed: from });
    reply(from, answer.reply, FrameKind.admissionGrant, grant, turn);
  }

  /** The present slot; a new one gets a new secret. The monotonic clock cannot be set back. */
  #slot(turn: Turn): Slot {
    const number = Math.floor(turn.now / SLOT_MS);
    if (this.#current?.number !== number) {
      this.#previous = this.#current?.number === number - 1 ? this.#current : undefined;
      this.#current = { number, secret: turn.random(32) };
    }
    return this.#current;
  }

  /** The slot a challenge was issued in; undefined when its secret is gone, or is not made yet. */
  #slotOf(issued: bigint, turn: Turn): Slot | undefined {
    const present = this.#slot(turn);
    return [present, this.#previous].find((slot) => issued / BigInt(SLOT_MS) === BigInt(slot?.number ?? -1));
  }

  #cookie(slot: Slot, from: SocketAddress, commitment: Uint8Array, issued: bigint): Uint8Array {
    const portAndTime = new Uint8Array(2 + 8);
    viewOf(portAndTime).setUint16(0, from.port, true);
    viewOf(portAndTime).setBigUint64(2, issued, true);
    return this.#primitives.hmacSha256(
      slot.secret,
      utf8('omerta challenge v1'),
      concat(from.ip, portAndTime.subarray(0, 2)),
      commitment,
      portAndTime.subarray(2),
    );
  }
}

function reply(to: SocketAddress, leg: LegKey, kind: FrameKind, payload: Uint8Array, turn: Turn): void {
  const frame = encodeFrame({ kind, hopLimit: 1, epoch: 0, legId: leg.id, key: leg.key, payload });
  turn.emit({ type: 'send-frame', to, frame });
}
