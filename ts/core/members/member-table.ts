// The members of our networks, known by their records, and the routes that follow from them.

import type { SessionKey } from '../../contract/engine.js';
import { compareBytes, sameBytes, toHex } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import {
  blindedNetworkId,
  combinePresharedKeys,
  networkPresharedKey,
  overlayAddresses,
  type Network,
  type OverlayAddresses,
} from '../protocol/network.js';
import { openPeerRecord, type PeerRecord, type RecordRefusal } from '../protocol/peer-record.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { Turn } from '../runtime/turn.js';

/** A cap on what bootstraps can make us remember. */
export const MAX_MEMBERS = 16_384;

/** A network we are in, with what is derived from it. */
export interface JoinedNetwork {
  readonly network: Network;
  readonly blindedId: Uint8Array;
  readonly presharedKey: Uint8Array;
  readonly own: OverlayAddresses;
}

export interface Member {
  record: PeerRecord;
  readonly identity: Uint8Array;
  readonly sessionKey: SessionKey;
  /** Overlay addresses in each shared network, by blinded id (hex). */
  overlay: Map<string, OverlayAddresses>;
}

export class MemberTable {
  readonly #primitives: Primitives;
  readonly #identity: Uint8Array;
  readonly #sessionKey: SessionKey;
  readonly #peers: PeerTable;
  readonly #networks = new Map<string, JoinedNetwork>();
  readonly #members = new Map<string, Member>();
  readonly #bySessionKey = new Map<SessionKey, Member>();
  /** IPv4 overlay address → identities that share it, ourselves included. */
  readonly #ipv4Users = new Map<string, Uint8Array[]>();

  constructor(primitives: Primitives, identity: Uint8Array, sessionKey: SessionKey, peers: PeerTable) {
    this.#primitives = primitives;
    this.#identity = identity;
    this.#sessionKey = sessionKey;
    this.#peers = peers;
  }

  /** Joined networks by blinded id (hex). */
  get networks(): ReadonlyMap<string, JoinedNetwork> {
    return this.#networks;
  }

  /** Members by identity (hex). */
  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  bySessionKey(key: SessionKey): Member | undefined {
    return this.#bySessionKey.get(key);
  }

  addNetwork(network: Network, turn: Turn): JoinedNetwork {
    const blindedId = blindedNetworkId(this.#primitives, network.id);
    const own = overlayAddresses(this.#primitives, network.id, this.#identity);
    const joined = { network, blindedId, presharedKey: networkPresharedKey(this.#primitives, network), own };
    this.#networks.set(toHex(blindedId), joined);
    this.#useIpv4(own.ipv4, this.#identity, turn);
    for (const member of this.#members.values()) this.#setOverlay(member, turn);
    return joined;
  }

  /** Names are the machine's own: nobody else is told. */
  renameNetwork(blindedId: string, name: string): void {
    const joined = this.#networks.get(blindedId);
    if (joined !== undefined)
      this.#networks.set(blindedId, { ...joined, network: { ...joined.network, name } });
  }

  /** Forgets a network and the members met in no other. @returns the session keys of those. */
  removeNetwork(blindedId: string, turn: Turn): SessionKey[] {
    const joined = this.#networks.get(blindedId);
    if (joined === undefined) return [];
    this.#networks.delete(blindedId);
    this.#releaseIpv4(joined.own.ipv4, this.#identity, turn);
    const gone: SessionKey[] = [];
    for (const member of [...this.#members.values()]) {
      this.#setOverlay(member, turn);
      if (member.overlay.size > 0) continue;
      this.#remove(member, turn);
      gone.push(member.sessionKey);
    }
    return gone;
  }

  /**
   * Takes in a record. @returns the member, or why the record is not used: `irrelevant` when it is
   * our own, older than the one held, or of no network of ours.
   */
  learn(bytes: Uint8Array, turn: Turn): Member | RecordRefusal | 'irrelevant' | 'capacity' {
    const record = openPeerRecord(this.#primitives, bytes, turn.step.wallClock);
    return typeof record === 'string' ? record : this.learnOpened(record, turn);
  }

  /** Takes in a record whose signature has been checked. */
  learnOpened(record: PeerRecord, turn: Turn): Member | 'irrelevant' | 'capacity' {
    const sessionKey = toHex(record.sessionKey);
    if (sameBytes(record.identity, this.#identity) || sessionKey === this.#sessionKey) return 'irrelevant';
    const id = toHex(record.identity);
    const held = this.#members.get(id);
    if (held !== undefined && record.sequence <= held.record.sequence)
      return sameBytes(record.bytes, held.record.bytes) ? held : 'irrelevant';
    // A session key belongs to one member; whoever was first keeps it until that record runs out.
    const owner = this.#bySessionKey.get(sessionKey);
    if (owner !== undefined && owner !== held) return 'irrelevant';
    if (held !== undefined && held.sessionKey === sessionKey) {
      held.record = record;
      this.#setOverlay(held, turn);
      if (held.overlay.size > 0) return held;
      this.#remove(held, turn);
      return 'irrelevant';
    }
    if (held !== undefined) this.#remove(held, turn);
    if (this.#members.size >= MAX_MEMBERS) return 'capacity';
    const member: Member = { record, identity: record.identity, sessionKey, overlay: new Map() };
    this.#setOverlay(member, turn);
    if (member.overlay.size === 0) return 'irrelevant';
    this.#members.set(id, member);
    this.#bySessionKey.set(sessionKey, member);
    this.#tell(member, turn);
    return member;
  }

  /** Removes members whose records have run out. @returns their session keys. */
  expire(turn: Turn): SessionKey[] {
    const gone = [...this.#members.values()].filter((m) => m.record.notAfter * 1000 <= turn.step.wallClock);
    for (const member of gone) this.#remove(member, turn);
    return gone.map((member) => member.sessionKey);
  }

  /** Whether `identity` keeps this IPv4 address: the lowest identity does. */
  ownsIpv4(ipv4: string, identity: Uint8Array): boolean {
    return (this.#ipv4Users.get(ipv4) ?? []).every((user) => compareBytes(identity, user) <= 0);
  }

  #setOverlay(member: Member, turn: Turn): void {
    const before = member.overlay;
    const overlay = new Map<string, OverlayAddresses>();
    for (const blinded of member.record.networks) {
      const id = toHex(blinded);
      const joined = this.#networks.get(id);
      if (joined === undefined) continue;
      overlay.set(
        id,
        before.get(id) ?? overlayAddresses(this.#primitives, joined.network.id, member.identity),
      );
    }
    member.overlay = overlay;
    for (const [id, addresses] of before)
      if (!overlay.has(id)) this.#releaseIpv4(addresses.ipv4, member.identity, turn);
    for (const [id, addresses] of overlay)
      if (!before.has(id)) this.#useIpv4(addresses.ipv4, member.identity, turn);
    if (this.#bySessionKey.get(member.sessionKey) === member && overlay.size > 0) this.#tell(member, turn);
  }

  #remove(member: Member, turn: Turn): void {
    this.#members.delete(toHex(member.identity));
    this.#bySessionKey.delete(member.sessionKey);
    for (const { ipv4 } of member.overlay.values()) this.#releaseIpv4(ipv4, member.identity, turn);
    member.overlay = new Map();
    this.#peers.setMember(member.sessionKey, undefined, turn);
  }

  #useIpv4(ipv4: string, identity: Uint8Array, turn: Turn): void {
    const users = this.#ipv4Users.get(ipv4) ?? [];
    this.#ipv4Users.set(ipv4, [...users, identity]);
    if (users.length > 0) this.#tellUsers(ipv4, turn);
  }

  #releaseIpv4(ipv4: string, identity: Uint8Array, turn: Turn): void {
    const users = this.#ipv4Users.get(ipv4) ?? [];
    const index = users.findIndex((user) => sameBytes(user, identity));
    if (index < 0) return;
    const left = users.toSpliced(index, 1);
    if (left.length === 0) this.#ipv4Users.delete(ipv4);
    else this.#ipv4Users.set(ipv4, left);
    this.#tellUsers(ipv4, turn);
  }

  /** Losers first: the engine must not see one route at two peers. */
  #tellUsers(ipv4: string, turn: Turn): void {
    const users = (this.#ipv4Users.get(ipv4) ?? []).toSorted((a, b) => compareBytes(b, a));
    for (const identity of users) {
      const member = this.#members.get(toHex(identity));
      if (member !== undefined) this.#tell(member, turn);
    }
  }

  #tell(member: Member, turn: Turn): void {
    const routes = new Map(
      [...member.overlay].map(([network, { ipv4, ipv6 }]): [string, string[]] => [
        network,
        this.ownsIpv4(ipv4, member.identity) ? [`${ipv6}/128`, `${ipv4}/32`] : [`${ipv6}/128`],
      ]),
    );
    const keys = [...member.overlay.keys()]
      .toSorted()
      .map((id) => this.#networks.get(id)?.presharedKey)
      .filter((key) => key !== undefined);
    const presharedKey = combinePresharedKeys(this.#primitives, keys);
    this.#peers.setMember(member.sessionKey, { presharedKey, routes }, turn);
  }
}
