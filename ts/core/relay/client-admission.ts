// Whom a relay admits: who proved to hold a session key and to receive at an address, as far as the rules and the
// caps allow. What is granted is a place until the client registers; it is sent nothing before it begins a session.

import type { SocketAddress } from '../../wire/socket-address.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import type { ParsedFrame } from '../../wire/frame.js';
import { GrantStatus } from '../protocol/admission-payload.js';
import type { Refusal } from '../protocol/refusal.js';
import type { Counter } from '../runtime/counter.js';
import type { Turn } from '../runtime/turn.js';
import { AdmissionServer, type AdmissionClaim, type AdmissionVerdict } from './admission-server.js';
import type { ClientRoster, GivenClient } from './client-roster.js';
import type { Client } from './relay-client.js';
import { isOwnAddress, type RelayHost } from './relay-host.js';
import { isCap, type Cap } from './relay-limits.js';
import type { RelayRules } from './relay-rules.js';
import type { RelayDrain } from './relay-drain.js';

/** What the admission of clients asks for. */
export interface AdmissionUser {
  readonly host: RelayHost;
  readonly rules: RelayRules;
  readonly refusals: Counter;
  readonly roster: ClientRoster;
  readonly drain: RelayDrain;
  /** Gives a place that is free. */
  add(given: GivenClient, turn: Turn): Client;
  remove(client: Client, turn: Turn): void;
  /** A client without a session has shown to receive here. */
  proven(client: Client, address: SocketAddress, turn: Turn): void;
}

export class ClientAdmission {
  readonly #user: AdmissionUser;
  readonly #server: AdmissionServer;

  constructor(user: AdmissionUser) {
    const { host, refusals } = user;
    this.#user = user;
    this.#server = new AdmissionServer(
      host.primitives,
      host.identity,
      host.sessionPrivateKey,
      (claim, turn) => this.#judge(claim, turn),
      (reason) => refusals.add(reason, 1),
    );
  }

  /** A frame on the contact leg. */
  handleFrame(from: SocketAddress, frame: ParsedFrame, turn: Turn): void {
    this.#server.handleFrame(from, frame, turn);
  }

  #judge(claim: AdmissionClaim, turn: Turn): AdmissionVerdict | 'replay' {
    const { rules, refusals } = this.#user;
    const refusal = this.#admit(claim, turn);
    if (refusal === undefined)
      return { status: GrantStatus.granted, lifetime: rules.limits.admissionSeconds };
    if (refusal === 'replay') return refusal;
    refusals.add(refusal, 1);
    if (refusal === 'draining')
      return { status: GrantStatus.draining, lifetime: this.#user.drain.secondsLeft(turn.now) };
    const status = isCap(refusal) ? GrantStatus.atCapacity : GrantStatus.refused;
    return { status, lifetime: 0 };
  }

  #admit(claim: AdmissionClaim, turn: Turn): Refusal | Cap | 'replay' | undefined {
    const { host, rules, roster } = this.#user;
    const { identity, sessionKey, address, issued, digest } = claim;
    if (isOwnAddress(host, address)) return 'own-address';
    if (sameBytes(identity, host.identity) || sameBytes(sessionKey, host.sessionKey)) return 'denied';
    if (!rules.allows(identity)) return 'denied';
    if (!rules.isPeer(identity) && !rules.admits(claim.network)) return 'not-served';
    const key = toHex(sessionKey);
    // The key of a relay we use or of a member is known to be theirs: nobody else can claim it.
    const holder = host.holderOf(key);
    if (holder !== undefined && !sameBytes(holder, identity)) return 'denied';
    const present = roster.get(key);
    if (present !== undefined) {
      const same = sameBytes(present.identity, identity);
      // A session proves the session key; somebody else's claim to it is then worth nothing.
      if (!same && present.hasSession) return 'denied';
      const { admitted } = present;
      // The grant got lost: the very same answer is granted again. An older one, or another, is a replay.
      if (admitted !== undefined && issued <= admitted.issued)
        return same && sameBytes(digest, admitted.digest) ? undefined : 'replay';
      if (same) {
        present.admitted = { issued, digest };
        this.#user.drain.forgotten(present);
        // Its frames come from where its session is; an admission may have been asked for by another way.
        if (present.hasSession) present.provenAddress = address;
        else this.#user.proven(present, address, turn);
        if (present.registration === undefined || roster.passes(present)) this.#expire(present, turn);
        return undefined;
      }
      this.#user.remove(present, turn);
    }
    if (this.#user.drain.isOn) return 'draining';
    const admitted = { sessionKey, identity, network: toHex(claim.network), address };
    const crowded = this.#crowded(admitted, turn);
    if (crowded !== undefined) return crowded;
    this.#expire(this.#user.add({ ...admitted, admitted: { issued, digest } }, turn), turn);
    return undefined;
  }

  /** The cap that another admission would exceed. Where all places are taken, one may be made. */
  #crowded(given: Pick<Client, 'identity' | 'network' | 'address'>, turn: Turn): Cap | undefined {
    const { rules, roster } = this.#user;
    if (!rules.isPeer(given.identity) && roster.isFull(given.network)) return 'admissions-per-network';
    const exceeded = roster.exceeded(given);
    if (exceeded !== 'admissions') return exceeded;
    const leaving = roster.givingWayTo(given);
    if (leaving === undefined) return exceeded;
    this.#user.remove(leaving, turn);
    return undefined;
  }

  #expire(client: Client, turn: Turn): void {
    const { rules, roster } = this.#user;
    roster.expire(client, rules.limits.admissionSeconds, turn.now);
  }
}
