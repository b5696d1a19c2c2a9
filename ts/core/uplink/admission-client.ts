// The stranger's side of admission: one attempt at one address of one node.

import { encodeFrame, FrameKind, type ParsedFrame } from '../../wire/frame.js';
import { UNCHARGED, type LegKey } from '../../wire/leg.js';
import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import {
  admissionSignatureInput,
  commitmentOf,
  decodeChallenge,
  decodeGrant,
  encodeAnswer,
  encodeAnswerHead,
  encodePlain,
  encodeRequest,
  encodeSignedPlain,
  sealKey,
  type AdmissionGrant,
  type AdmissionRequest,
} from '../protocol/admission-payload.js';
import { sameBytes } from '../../wire/bytes.js';
import { contactLegKey } from '../protocol/contact-leg.js';
import type { Primitives } from '../../contract/primitives.js';
import type { LegIds } from '../runtime/leg-ids.js';
import type { Bootstrap } from '../protocol/network.js';
import type { Turn } from '../runtime/turn.js';

const FIRST_WAIT_MS = 250;
/** Of each of the two frames: 250 + 500 + 1000 + 2000 ms. */
const TRIES = 4;
const NONCE_ZERO = new Uint8Array(12);

/** Who asks to be admitted. */
export interface AdmissionSelf {
  readonly identitySeed: Uint8Array;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
}

/** Undefined: still under way. */
export type AdmissionOutcome = AdmissionGrant | 'unanswered' | 'bad-key' | undefined;

export class AdmissionClient {
  readonly #primitives: Primitives;
  readonly #legs: LegIds;
  readonly #self: AdmissionSelf;
  readonly #bootstrap: Bootstrap;
  readonly #address: SocketAddress;
  readonly #network: Uint8Array;
  readonly #request: AdmissionRequest;
  readonly #contact: LegKey;
  #answered = false;
  #frame: Uint8Array;
  #sent = 0;
  #nextSend = 0;

  /** Starts the attempt. @param network blinded id, all zero = none. */
  constructor(
    primitives: Primitives,
    self: AdmissionSelf,
    bootstrap: Bootstrap,
    address: SocketAddress,
    network: Uint8Array,
    legs: LegIds,
    turn: Turn,
  ) {
    this.#legs = legs;
    this.#primitives = primitives;
    this.#self = self;
    this.#bootstrap = bootstrap;
    this.#address = address;
    this.#network = network;
    this.#contact = contactLegKey(primitives, bootstrap.sessionKey);
    const nonce = turn.random(16);
    const reply = legs.create(turn);
    this.#request = { nonce, reply, commitment: commitmentOf(primitives, nonce, self.identity) };
    legs.install(
      {
        ...reply,
        action: 'control',
        source: address,
        next: undefined,
        lifetimeMs: undefined,
        charging: UNCHARGED,
      },
      turn,
    );
    this.#frame = this.#contactFrame(FrameKind.admissionRequest, encodeRequest(this.#request));
    this.#send(turn);
  }

  /** The reply leg, to tell whose frame it is. */
  get replyLeg(): number {
    return this.#request.reply.id;
  }

  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): AdmissionOutcome {
    if (!sameSocketAddress(from, this.#address)) return undefined;
    if (frame.kind === FrameKind.admissionGrant && this.#answered) {
      const grant = decodeGrant(frame.payload);
      return grant !== undefined && sameBytes(grant.nonce, this.#request.nonce) ? grant : undefined;
    }
    if (frame.kind !== FrameKind.admissionChallenge || this.#answered) return undefined;
    const challenge = decodeChallenge(frame.payload);
    if (challenge === undefined || !sameBytes(challenge.nonce, this.#request.nonce)) return undefined;
    const ephemeral = turn.random(32);
    const key = sealKey(this.#primitives, ephemeral, this.#bootstrap.sessionKey);
    if (key === undefined) return 'bad-key';
    const { identity, identitySeed, sessionKey } = this.#self;
    const head = encodeAnswerHead(this.#request, challenge, this.#primitives.x25519PublicKey(ephemeral));
    const signed = encodeSignedPlain(identity, sessionKey, this.#network);
    const signature = this.#primitives.ed25519Sign(
      identitySeed,
      admissionSignatureInput(this.#bootstrap.identity, head, signed),
    );
    const sealed = this.#primitives.aeadSeal(key, NONCE_ZERO, encodePlain(signed, signature), head);
    this.#frame = this.#contactFrame(FrameKind.admissionAnswer, encodeAnswer(head, sealed));
    this.#answered = true;
    this.#sent = 0;
    this.#send(turn);
    return undefined;
  }

  handleTimeout(turn: Turn): AdmissionOutcome {
    if (turn.now < this.#nextSend) return undefined;
    if (this.#sent >= TRIES) return 'unanswered';
    this.#send(turn);
    return undefined;
  }

  deadline(): number {
    return this.#nextSend;
  }

  /** Removes the reply leg; the attempt is over. */
  close(turn: Turn): void {
    this.#legs.remove(this.replyLeg, turn);
  }

  #send(turn: Turn): void {
    turn.emit({ type: 'send-frame', to: this.#address, frame: this.#frame });
    this.#nextSend = turn.now + FIRST_WAIT_MS * 2 ** this.#sent;
    this.#sent++;
  }

  #contactFrame(kind: FrameKind, payload: Uint8Array): Uint8Array {
    const { id, key, epoch } = this.#contact;
    return encodeFrame({ kind, hopLimit: 1, epoch, legId: id, key, payload });
  }
}
