// The members of our networks, known by their records, and the routes that follow from them.

import type { SessionKey } from '../../contract/engine.js';
import type { PeerShaping } from '../../contract/shaping-control.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { parseIp } from '../../wire/socket-address.js';
import { containsIp, parsePrefix } from '../../wire/prefix.js';
import type { TenureGrant } from '../protocol/control-message.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { Primitives } from '../../contract/primitives.js';
import { combinePresharedKeys, OVERLAY_PREFIX_IPV4, type Network } from '../protocol/network.js';
import {
  openPeerRecord,
  type PeerRecord,
  type RecordAddress,
  type RecordRefusal,
} from '../protocol/peer-record.js';
import { BoundedTable, type Bounds, type Owners } from '../runtime/bounded-table.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { Turn } from '../runtime/turn.js';
import { AddressClaims, type Claim } from './address-claims.js';
import { addressesIn, JoinedNetworks, type JoinedNetwork, type MemberAddresses } from './joined-networks.js';
import {
  isShaped,
  NO_NETWORK,
  NO_SHAPING,
  peerShaping,
  rulesOf,
  type NetworkShare,
  type ShapingPolicy,
  type ShapingRules,
} from './shaping-policy.js';

/** A cap on what bootstraps can make us remember. */
export const MAX_MEMBERS = 8192;

/** Of the members known, so many known by a circuit alone: nobody who keeps a directory has told of them. */
const MOST_BY_CIRCUIT = 1024;
/** Room that members of one network leave to those of each other network. */
const LEFT_TO_NETWORK = 1024;

/** Who pays for a member: the network it is met in, and, as long as no directory tells of it, circuits. */
export type MemberOwner = 'network' | 'circuit';

/** @param networks that are joined, at most 8. */
export function memberBounds(networks: number): Bounds<MemberOwner> {
  const network = MAX_MEMBERS - LEFT_TO_NETWORK * Math.max(networks - 1, 0);
  return { total: MAX_MEMBERS, shares: { network, circuit: MOST_BY_CIRCUIT } };
}

export interface Member {
  record: PeerRecord;
  readonly identity: Uint8Array;
  readonly sessionKey: SessionKey;
  /** Overlay addresses in each shared network, by blinded id (hex). */
  overlay: Map<string, MemberAddresses>;
  /** A directory had it and has it no longer: it makes room when there is none. */
  gone: boolean;
}

/** A WireGuard peer that runs nothing of Omerta: its key and its addresses are nobody else's. */
export interface StockPeer {
  readonly sessionKey: SessionKey;
  /** CIDR prefixes. */
  readonly allowedIps: readonly string[];
}

export interface MemberTableOptions {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly sessionKey: SessionKey;
  readonly peers: PeerTable;
  /** Whether this node vouches for others in its networks, as a bootstrap does. */
  readonly isBootstrap?: boolean;
  readonly stockPeers?: readonly StockPeer[];
  /** Default: nothing is shaped. */
  readonly shaping?: ShapingPolicy | undefined;
  /** What the own record says of addresses has changed. */
  readonly ownChanged?: (turn: Turn) => void;
  /** A member is gone, or has another session key now. */
  readonly removed?: (member: SessionKey, turn: Turn) => void;
}

export class MemberTable {
  readonly #primitives: Primitives;
  readonly #identity: Uint8Array;
  readonly #sessionKey: SessionKey;
  readonly #peers: PeerTable;
  readonly #stockKeys: ReadonlySet<SessionKey>;
  readonly #networks: JoinedNetworks;
  readonly #members = new BoundedTable<string, Member, MemberOwner>(() =>
    memberBounds(this.#networks.all.size),
  );
  readonly #removed: (member: SessionKey, turn: Turn) => void;
  #shaping: ShapingPolicy;
  readonly #bySessionKey = new Map<SessionKey, Member>();
  readonly #claims: AddressClaims;

  constructor(options: MemberTableOptions) {
    const { primitives, identity, sessionKey, peers, stockPeers = [] } = options;
    this.#primitives = primitives;
    this.#identity = identity;
    this.#sessionKey = sessionKey;
    this.#peers = peers;
    this.#shaping = options.shaping ?? NO_SHAPING;
    this.#removed = options.removed ?? (() => undefined);
    this.#stockKeys = new Set(stockPeers.map((peer) => peer.sessionKey));
    const reserved = stockPeers
      .flatMap(({ allowedIps }) => allowedIps.map((text) => parsePrefix(text) ?? []).flat())
      // The whole range, as for a gateway, leaves room for members, whose routes are longer.
      .filter(({ length }) => length > OVERLAY_PREFIX_IPV4);
    this.#claims = new AddressClaims(
      identity,
      (address) => {
        const ip = reserved.length === 0 ? undefined : parseIp(address);
        return ip !== undefined && reserved.some((prefix) => containsIp(prefix, ip));
      },
      MAX_MEMBERS,
    );
    this.#networks = new JoinedNetworks({
      primitives,
      identity,
      isBootstrap: options.isBootstrap ?? false,
      claims: this.#claims,
      release: (address, network, turn) => this.#release(address, identity, network, turn),
      changed: options.ownChanged ?? (() => undefined),
    });
  }

  /** Joined networks by blinded id (hex). */
  get networks(): ReadonlyMap<string, JoinedNetwork> {
    return this.#networks.all;
  }

  /** Members by identity (hex). */
  get members(): Pick<BoundedTable<string, Member, MemberOwner>, 'get' | 'has' | 'size' | 'values'> {
    return this.#members;
  }

  /** How packets to members are shaped from now on. */
  setShaping(policy: ShapingPolicy, turn: Turn): void {
    this.#shaping = policy;
    for (const member of this.#members.values()) if (member.overlay.size > 0) this.#tell(member, turn);
  }

  /** How packets to a member are shaped. */
  shapingOf({ identity }: Member): ShapingRules {
    return rulesOf(this.#shaping, identity);
  }

  bySessionKey(key: SessionKey): Member | undefined {
    return this.#bySessionKey.get(key);
  }

  /** The network with this (unblinded) id. */
  joined(id: Uint8Array): JoinedNetwork | undefined {
    return [...this.#networks.all.values()].find(({ network }) => sameBytes(network.id, id));
  }

  addNetwork(network: Network, turn: Turn): JoinedNetwork {
    const joined = this.#networks.add(network, turn);
    for (const member of this.#members.values()) this.#setOverlay(member, turn);
    this.#networks.settle(turn);
    return joined;
  }

  /** What the own record says of the address in each of these networks. */
  ownAddresses(): RecordAddress[] {
    return this.#networks.recordAddresses();
  }

  /** A bootstrap vouches for how long this node has had its addresses. */
  vouched(issuer: Uint8Array, grants: readonly TenureGrant[], turn: Turn): void {
    this.#networks.vouched(issuer, grants, turn);
  }

  /** Identities of others who say that this node's IPv4 address in a network (hex) is theirs. */
  contenders(network: string): Uint8Array[] {
    return this.#networks.contenders(network);
  }

  /** Names are the machine's own: nobody else is told. */
  renameNetwork(blindedId: string, name: string, turn: Turn): void {
    if (!this.#networks.rename(blindedId, name)) return;
    if (this.#shaping.networks.size > 0) this.setShaping(this.#shaping, turn); // which names networks
  }

  /** Forgets a network and the members met in no other. */
  removeNetwork(blindedId: string, turn: Turn): void {
    if (!this.#networks.remove(blindedId, turn)) return;
    for (const member of [...this.#members.values()]) {
      this.#setOverlay(member, turn);
      if (member.overlay.size === 0) this.#remove(member, turn);
    }
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
   * @param told the network (hex) whose directory tells of it. What else a record names it only says itself: it
   * makes nobody known, and no other network pays for it. Undefined = a circuit.
   */
  learnOpened(
    record: PeerRecord,
    turn: Turn,
    since = Infinity,
    told?: string,
  ): Member | 'irrelevant' | 'capacity' {
    const sessionKey = toHex(record.sessionKey);
    if (sameBytes(record.identity, this.#identity) || sessionKey === this.#sessionKey) return 'irrelevant';
    const id = toHex(record.identity);
    const held = this.#members.get(id);
    const network = this.#sharedNetwork(record, told);
    if (held === undefined && network === undefined) return 'irrelevant';
    if (held !== undefined && network !== undefined && since !== Infinity) this.#told(held, network, since);
    if (held !== undefined && record.sequence <= held.record.sequence) {
      this.#setOverlay(held, turn, since);
      return sameBytes(record.bytes, held.record.bytes) ? held : 'irrelevant';
    }
    if (this.#isSomebodyElses(sessionKey, record.identity)) {
      turn.notify('warn', 'session-key-claimed', { member: encodePeerId(record.identity) });
      return 'irrelevant';
    }
    // A session key belongs to one member; whoever was first keeps it until that record runs out.
    const owner = this.#bySessionKey.get(sessionKey);
    if (owner !== undefined && owner !== held) return 'irrelevant';
    if (held !== undefined && held.sessionKey === sessionKey) {
      held.record = record;
      this.#setOverlay(held, turn, since);
      if (held.overlay.size > 0) return held;
      this.#remove(held, turn);
      return 'irrelevant';
    }
    // Another key, told where he is none of ours: that is for the networks to tell he is in.
    if (network === undefined && this.#sharedNetwork(record, undefined) !== undefined) return 'irrelevant';
    if (held !== undefined) this.#remove(held, turn);
    if (network === undefined) return 'irrelevant';
    const owners = ownersOf(network, since);
    const crowded = this.#members.crowded(owners);
    if (crowded !== undefined && !this.#makeRoom(crowded, network, turn)) return 'capacity';
    const member: Member = {
      record,
      identity: record.identity,
      sessionKey,
      overlay: new Map(),
      gone: false,
    };
    if (this.#members.set(id, member, owners) !== undefined) return 'capacity';
    this.#bySessionKey.set(sessionKey, member);
    this.#setOverlay(member, turn, since);
    return member;
  }

  /** A directory has somebody no longer. */
  untold(identity: Uint8Array): void {
    const member = this.#members.get(toHex(identity));
    if (member !== undefined) member.gone = true;
  }

  /** Removes members whose records have run out, and keeps who holds which address. */
  expire(turn: Turn): void {
    for (const address of this.#claims.expire(turn)) this.#tellClaimants(address, turn);
    const gone = [...this.#members.values()].filter((m) => m.record.notAfter * 1000 <= turn.step.wallClock);
    for (const member of gone) this.#remove(member, turn);
    for (const { identity, record, overlay } of this.#members.values())
      for (const { ipv4 } of overlay.values()) this.#claims.keep(ipv4, identity, record.notAfter, turn);
    this.#networks.expire(turn);
    this.#networks.settle(turn);
  }

  /** Takes up who held which address. @param networks that will be joined at once. */
  restore(restored: ReadonlyMap<string, Uint8Array>, networks: readonly Network[], turn: Turn): void {
    this.#networks.restore(restored, networks, turn);
    this.#claims.restore(restored, turn);
  }

  /**
   * Whether an overlay address is this identity's: its own are this node's, until it has taken another; else
   * whoever has had it for longest keeps it, so that nothing a newcomer makes up takes it from him.
   */
  owns(address: string, identity: Uint8Array): boolean {
    const holder = this.#claims.holder(address);
    return holder !== undefined && sameBytes(holder, identity);
  }

  /** The network (hex) of ours by which a record is of interest. */
  #sharedNetwork({ networks }: PeerRecord, told: string | undefined): string | undefined {
    return networks.map(toHex).find((id) => (told ?? id) === id && this.#networks.all.has(id));
  }

  /** A directory tells of a member: it is no longer one that is known by a circuit alone. */
  #told(member: Member, network: string, since: number): void {
    member.gone = false;
    this.#members.hand(toHex(member.identity), ownersOf(network, since));
  }

  /** Whoever a directory has no longer goes, the one known for longest first, of those who pay. */
  #makeRoom(crowded: MemberOwner | 'total', network: string, turn: Turn): boolean {
    for (const [id, member] of this.#members) {
      const owners = this.#members.owners(id);
      if (!member.gone || (crowded === 'network' && owners?.network !== network)) continue;
      if (crowded === 'circuit' && owners?.circuit === undefined) continue;
      this.#remove(member, turn);
      return true;
    }
    return false;
  }

  /** A key of a bootstrap, or of a stock peer, is theirs by what the operator configured. */
  #isSomebodyElses(sessionKey: SessionKey, identity: Uint8Array): boolean {
    if (this.#stockKeys.has(sessionKey)) return true;
    return [...this.#networks.all.values()].some(({ network }) =>
      network.bootstraps.some(
        (known) => toHex(known.sessionKey) === sessionKey && !sameBytes(known.identity, identity),
      ),
    );
  }

  #setOverlay(member: Member, turn: Turn, since = Infinity): void {
    const { identity, record } = member;
    const before = member.overlay;
    const overlay = new Map<string, MemberAddresses>();
    record.networks.forEach((blinded, index) => {
      const id = toHex(blinded);
      const joined = this.#networks.all.get(id);
      const address = record.addresses[index];
      if (joined === undefined || address === undefined) return;
      const known = before.get(id);
      overlay.set(
        id,
        known?.round === address.round
          ? known
          : this.#networks.addressesOf(joined.network, identity, address.round),
      );
    });
    member.overlay = overlay;
    for (const [network, addresses] of before) {
      const present = overlay.get(network);
      for (const address of addressesIn(addresses)) {
        if (present !== undefined && addressesIn(present).includes(address)) continue;
        this.#release(address, identity, network, turn);
        this.#claims.leave(address, identity, turn);
      }
    }
    record.networks.forEach((blinded, index) => {
      const id = toHex(blinded);
      const joined = this.#networks.all.get(id);
      const address = record.addresses[index];
      const addresses = overlay.get(id);
      if (joined === undefined || address === undefined || addresses === undefined) return;
      let counted: number | undefined;
      const held = (): number => (counted ??= this.#networks.heldSince(joined, identity, address, turn));
      for (const each of addressesIn(addresses))
        this.#claim(each, { identity, network: id, heldSince: held, since }, turn);
    });
    if (this.#bySessionKey.get(member.sessionKey) === member && overlay.size > 0) this.#tell(member, turn);
    this.#networks.settle(turn);
  }

  #remove(member: Member, turn: Turn): void {
    this.#members.delete(toHex(member.identity));
    this.#bySessionKey.delete(member.sessionKey);
    for (const [network, addresses] of member.overlay)
      for (const address of addressesIn(addresses)) this.#release(address, member.identity, network, turn);
    member.overlay = new Map();
    this.#peers.setMember(member.sessionKey, undefined, turn);
    this.#removed(member.sessionKey, turn);
  }

  #claim(address: string, claim: Claim, turn: Turn): void {
    const isNew = this.#claims.put(address, claim);
    if (this.#claims.of(address).length === 1 && this.#claims.isUncontested(address)) return;
    if (isNew) {
      const holder = this.#claims.holder(address);
      turn.notify('warn', 'address-collision', {
        address,
        member: encodePeerId(claim.identity),
        holder: holder === undefined ? 'nobody' : encodePeerId(holder),
      });
    }
    this.#tellClaimants(address, turn);
  }

  #release(address: string, identity: Uint8Array, network: string, turn: Turn): void {
    if (this.#claims.release(address, identity, network)) this.#tellClaimants(address, turn);
  }

  /** Losers first: the engine must not see one route at two peers. */
  #tellClaimants(address: string, turn: Turn): void {
    const claims = this.#claims.of(address);
    for (const holds of [false, true])
      for (const { identity } of claims) {
        const member = this.#members.get(toHex(identity));
        if (member !== undefined && this.owns(address, identity) === holds) this.#tell(member, turn);
      }
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
      .map((id) => this.#networks.all.get(id)?.presharedKey)
      .filter((key) => key !== undefined);
    const presharedKey = combinePresharedKeys(this.#primitives, keys);
    const shaping = this.#peerShaping(member);
    this.#peers.setMember(member.sessionKey, { presharedKey, routes, shaping }, turn);
  }

  #peerShaping(member: Member): PeerShaping | undefined {
    const share = this.#shaping.limited ? this.#shareOf(member) : undefined;
    const shaping = peerShaping(member.sessionKey, this.shapingOf(member), share);
    return isShaped(shaping) ? shaping : undefined;
  }

  /** Whoever is in several networks shares as a member of that with the greatest weight. */
  #shareOf({ overlay }: Member): NetworkShare {
    const shares = [...overlay.keys()].toSorted().map((network): NetworkShare => {
      const name = this.#networks.all.get(network)?.network.name;
      return { network, weight: (name === undefined ? undefined : this.#shaping.networks.get(name)) ?? 1 };
    });
    const none: NetworkShare = { network: NO_NETWORK, weight: 1 };
    return shares.reduce((most, share) => (share.weight > most.weight ? share : most), shares[0] ?? none);
  }
}

const ownersOf = (network: string, since: number): Owners<MemberOwner> =>
  since === Infinity ? { network, circuit: 'any' } : { network };
