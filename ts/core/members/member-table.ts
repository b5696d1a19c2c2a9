// The members of our networks, known by their records, and the routes that follow from them.

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { decodeCbor, encodeCbor, isBytes, isInteger } from '../protocol/cbor.js';
import { encodePeerId } from '../protocol/peer-id.js';
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
export const MAX_MEMBERS = 8192;

const HOLDER_PREFIX = 'node/holder/';
/** Longer than it takes to read a directory: whoever came first in it was perhaps not first. */
const HELD_AFTER_MS = 600_000;

/** Somebody whose overlay address this is. */
interface Claimant {
  readonly identity: Uint8Array;
  /** Monotonic ms since when this node knows of it; Infinity = by nobody who keeps a directory. */
  since: number;
}

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
  /** Overlay address → those whose it is, ourselves included. */
  readonly #claimants = new Map<string, Claimant[]>();
  /** IPv4 overlay address → who held it in a former life of this node, until its record ran out. */
  readonly #heldBefore = new Map<string, { readonly identity: Uint8Array; readonly notAfter: number }>();

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
    for (const address of [own.ipv4, own.ipv6]) this.#claim(address, this.#identity, -Infinity, turn);
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
    for (const address of [joined.own.ipv4, joined.own.ipv6]) this.#release(address, this.#identity, turn);
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
  learn(bytes: Uint8Array, turn: Turn, since = Infinity): Member | RecordRefusal | 'irrelevant' | 'capacity' {
    const record = openPeerRecord(this.#primitives, bytes, turn.step.wallClock);
    return typeof record === 'string' ? record : this.learnOpened(record, turn, since);
  }

  /**
   * Takes in a record whose signature has been checked.
   * @param since monotonic ms when its member was first told of, for whose an address is that two have:
   * the same for all that came in one reading of a directory, whose order says nothing of who was first.
   */
  learnOpened(record: PeerRecord, turn: Turn, since = Infinity): Member | 'irrelevant' | 'capacity' {
    const sessionKey = toHex(record.sessionKey);
    if (sameBytes(record.identity, this.#identity) || sessionKey === this.#sessionKey) return 'irrelevant';
    const id = toHex(record.identity);
    const held = this.#members.get(id);
    if (held !== undefined) this.#knownSince(held, since, turn);
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
    this.#members.set(id, member);
    this.#bySessionKey.set(sessionKey, member);
    this.#setOverlay(member, turn, since);
    if (member.overlay.size === 0) {
      this.#members.delete(id);
      this.#bySessionKey.delete(sessionKey);
      return 'irrelevant';
    }
    return member;
  }

  /**
   * Removes members whose records have run out, and keeps who holds which address.
   * @returns the session keys of those removed.
   */
  expire(turn: Turn): SessionKey[] {
    for (const [address, { notAfter }] of this.#heldBefore)
      if (notAfter * 1000 <= turn.step.wallClock) {
        this.#heldBefore.delete(address);
        turn.emit({ type: 'persist', key: HOLDER_PREFIX + address, value: undefined });
        this.#tellClaimants(address, turn);
      }
    const gone = [...this.#members.values()].filter((m) => m.record.notAfter * 1000 <= turn.step.wallClock);
    for (const member of gone) this.#remove(member, turn);
    for (const member of this.#members.values())
      for (const { ipv4 } of member.overlay.values()) this.#keep(member, ipv4, turn);
    return gone.map((member) => member.sessionKey);
  }

  /** Takes up who held which IPv4 address. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored) {
      if (!key.startsWith(HOLDER_PREFIX)) continue;
      const stored = decodeCbor(value, 64);
      const [identity, notAfter] = Array.isArray(stored) ? (stored as unknown[]) : [];
      const valid = isBytes(identity, 32) && isInteger(notAfter, 0, Number.MAX_SAFE_INTEGER);
      if (valid && notAfter * 1000 > turn.step.wallClock && this.#heldBefore.size < MAX_MEMBERS)
        this.#heldBefore.set(key.slice(HOLDER_PREFIX.length), { identity, notAfter });
      else turn.emit({ type: 'persist', key, value: undefined });
    }
  }

  /**
   * Whether an overlay address is this identity's: its own are this node's; else whoever held it keeps it,
   * so that nothing a newcomer makes up takes it from him. Where nobody knows who was first, it is nobody's.
   */
  owns(address: string, identity: Uint8Array): boolean {
    const holder = this.#holder(address);
    return holder !== undefined && sameBytes(holder, identity);
  }

  #holder(address: string): Uint8Array | undefined {
    const claimants = this.#claimants.get(address) ?? [];
    if (claimants.some(({ identity }) => sameBytes(identity, this.#identity))) return this.#identity;
    const before = this.#heldBefore.get(address);
    if (before !== undefined) return before.identity;
    const first = Math.min(...claimants.map(({ since }) => since));
    const [holder, another] = claimants.filter(({ since }) => since === first);
    return another === undefined ? holder?.identity : undefined;
  }

  #setOverlay(member: Member, turn: Turn, since = Infinity): void {
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
    for (const [id, { ipv4, ipv6 }] of before)
      if (!overlay.has(id)) for (const address of [ipv4, ipv6]) this.#release(address, member.identity, turn);
    for (const [id, { ipv4, ipv6 }] of overlay)
      if (!before.has(id))
        for (const address of [ipv4, ipv6]) this.#claim(address, member.identity, since, turn);
    if (this.#bySessionKey.get(member.sessionKey) === member && overlay.size > 0) this.#tell(member, turn);
  }

  #remove(member: Member, turn: Turn): void {
    this.#members.delete(toHex(member.identity));
    this.#bySessionKey.delete(member.sessionKey);
    for (const { ipv4, ipv6 } of member.overlay.values())
      for (const address of [ipv4, ipv6]) this.#release(address, member.identity, turn);
    member.overlay = new Map();
    this.#peers.setMember(member.sessionKey, undefined, turn);
  }

  #claim(address: string, identity: Uint8Array, since: number, turn: Turn): void {
    const claimants = this.#claimants.get(address) ?? [];
    this.#claimants.set(address, [...claimants, { identity, since }]);
    if (claimants.length === 0) return;
    const holder = this.#holder(address);
    turn.notify('warn', 'address-collision', {
      address,
      member: encodePeerId(identity),
      holder: holder === undefined ? 'nobody' : encodePeerId(holder),
    });
    this.#tellClaimants(address, turn);
  }

  /** A directory tells of a member that was known by a circuit only, or one tells of it for longer. */
  #knownSince(member: Member, since: number, turn: Turn): void {
    for (const { ipv4, ipv6 } of member.overlay.values())
      for (const address of [ipv4, ipv6]) {
        const claimants = this.#claimants.get(address) ?? [];
        const own = claimants.find(({ identity }) => sameBytes(identity, member.identity));
        if (own === undefined || own.since <= since) continue;
        own.since = since;
        if (claimants.length > 1) this.#tellClaimants(address, turn);
      }
  }

  #release(address: string, identity: Uint8Array, turn: Turn): void {
    const claimants = this.#claimants.get(address) ?? [];
    const left = claimants.filter((claimant) => !sameBytes(claimant.identity, identity));
    if (left.length === claimants.length) return;
    if (left.length === 0) this.#claimants.delete(address);
    else this.#claimants.set(address, left);
    this.#tellClaimants(address, turn);
  }

  /** Losers first: the engine must not see one route at two peers. */
  #tellClaimants(address: string, turn: Turn): void {
    const claimants = this.#claimants.get(address) ?? [];
    for (const holds of [false, true])
      for (const { identity } of claimants) {
        const member = this.#members.get(toHex(identity));
        if (member !== undefined && this.owns(address, identity) === holds) this.#tell(member, turn);
      }
  }

  /** Who has held an IPv4 address for a while keeps it across a restart of this node, until its record runs out. */
  #keep({ identity, record: { notAfter } }: Member, address: string, turn: Turn): void {
    const claimant = this.#claimants.get(address)?.find((other) => sameBytes(other.identity, identity));
    if (claimant === undefined || claimant.since > turn.now - HELD_AFTER_MS) return;
    const before = this.#heldBefore.get(address);
    if (before === undefined ? this.#heldBefore.size >= MAX_MEMBERS : before.notAfter >= notAfter) return;
    if (!this.owns(address, identity)) return;
    this.#heldBefore.set(address, { identity, notAfter });
    turn.emit({ type: 'persist', key: HOLDER_PREFIX + address, value: encodeCbor([identity, notAfter]) });
  }

  #tell(member: Member, turn: Turn): void {
    const routes = new Map(
      [...member.overlay].map(([network, { ipv4, ipv6 }]): [string, string[]] => [
        network,
        [
          ...(this.owns(ipv6, member.identity) ? [`${ipv6}/128`] : []),
          ...(this.owns(ipv4, member.identity) ? [`${ipv4}/32`] : []),
        ],
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
