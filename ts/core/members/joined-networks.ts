// The networks this node is in, and its own overlay address in each: who vouches for how long it has had it, and that it
// takes another one where somebody has had the same for longer.

import { sameBytes, toHex } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import { heldSince, MAX_ROUND } from '../protocol/address-tenure.js';
import type { TenureGrant } from '../protocol/control-message.js';
import {
  blindedNetworkId,
  networkPresharedKey,
  overlayAddresses,
  type Network,
  type OverlayAddresses,
} from '../protocol/network.js';
import type { RecordAddress } from '../protocol/peer-record.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { Turn } from '../runtime/turn.js';
import type { AddressClaims } from './address-claims.js';
import { OwnAddresses } from './own-addresses.js';

/** Between two changes of the own address in one network: each makes a new interface. */
const MOVE_INTERVAL_MS = 60_000;

/** A network we are in, with what is derived from it. */
export interface JoinedNetwork {
  readonly network: Network;
  readonly blindedId: Uint8Array;
  readonly presharedKey: Uint8Array;
  own: MemberAddresses;
}

/** The addresses of a member, and which round of hashing they come of. */
export interface MemberAddresses extends OverlayAddresses {
  readonly round: number;
}

export const addressesIn = ({ ipv4, ipv6 }: OverlayAddresses): string[] => [ipv4, ipv6];

export interface JoinedNetworksHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  /** Whether this node vouches for others in its networks, as a bootstrap does. */
  readonly isBootstrap: boolean;
  readonly claims: AddressClaims;
  /** This node no longer claims an address in a network (hex). */
  release(address: string, network: string, turn: Turn): void;
  /** What the own record says of addresses has changed. */
  changed(turn: Turn): void;
}

export class JoinedNetworks {
  readonly #host: JoinedNetworksHost;
  readonly #joined = new Map<string, JoinedNetwork>();
  readonly #own: OwnAddresses;
  /** When this node last took another address, by network (hex). */
  readonly #movedAt = new Map<string, number>();

  constructor(host: JoinedNetworksHost) {
    this.#host = host;
    this.#own = new OwnAddresses(host.primitives, host.identity);
  }

  /** By blinded id (hex). */
  get all(): ReadonlyMap<string, JoinedNetwork> {
    return this.#joined;
  }

  /** Takes up which addresses this node had. @param networks that will be joined at once. */
  restore(restored: ReadonlyMap<string, Uint8Array>, networks: readonly Network[], turn: Turn): void {
    const joined = networks.map((network) => toHex(blindedNetworkId(this.#host.primitives, network)));
    this.#own.restore(restored, new Set(joined), turn);
  }

  /** Call `settle` once members are where they are in it. */
  add(network: Network, turn: Turn): JoinedNetwork {
    const { primitives, identity } = this.#host;
    const blindedId = blindedNetworkId(primitives, network);
    const id = toHex(blindedId);
    const own = this.addressesOf(network, identity, this.#own.of(id).round);
    const joined = { network, blindedId, presharedKey: networkPresharedKey(primitives, network), own };
    this.#joined.set(id, joined);
    this.#claim(id, joined, turn);
    return joined;
  }

  /** Names are the machine's own: nobody else is told. @returns whether it is joined. */
  rename(blindedId: string, name: string): boolean {
    const joined = this.#joined.get(blindedId);
    if (joined === undefined) return false;
    this.#joined.set(blindedId, { ...joined, network: { ...joined.network, name } });
    return true;
  }

  /** @returns whether it was joined. */
  remove(blindedId: string, turn: Turn): boolean {
    const joined = this.#joined.get(blindedId);
    if (joined === undefined) return false;
    this.#joined.delete(blindedId);
    this.#own.forget(blindedId, turn);
    this.#movedAt.delete(blindedId);
    for (const address of addressesIn(joined.own)) this.#host.release(address, blindedId, turn);
    return true;
  }

  /** What the own record says of the address in each of the networks. */
  recordAddresses(): RecordAddress[] {
    return [...this.#joined.keys()].map((id) => this.#own.of(id));
  }

  addressesOf({ id }: Network, identity: Uint8Array, round: number): MemberAddresses {
    return { round, ...overlayAddresses(this.#host.primitives, id, identity, round) };
  }

  /** A bootstrap vouches for how long this node has had its addresses. */
  vouched(issuer: Uint8Array, grants: readonly TenureGrant[], turn: Turn): void {
    let news = false;
    for (const grant of grants) {
      const joined = this.#joined.get(toHex(grant.network));
      if (joined === undefined || !this.#issuers(joined).some((known) => sameBytes(known, issuer))) continue;
      if (this.#own.vouched(issuer, grant, turn)) news = true;
    }
    if (news) this.#host.changed(turn);
  }

  /** Identities of others who say that this node's IPv4 address in a network (hex) is theirs. */
  contenders(network: string): Uint8Array[] {
    const { claims, identity: self } = this.#host;
    const own = this.#joined.get(network)?.own.ipv4;
    const all = own === undefined ? [] : claims.of(own);
    return all.map(({ identity }) => identity).filter((identity) => !sameBytes(identity, self));
  }

  /** Since when somebody has had the address of a record in a network, as those say who vouch for it. */
  heldSince(
    joined: JoinedNetwork,
    identity: Uint8Array,
    { round, tenures }: RecordAddress,
    turn: Turn,
  ): number {
    const issuers = this.#issuers(joined);
    // A bootstrap is named in the invite: its address cannot have been searched for.
    if (issuers.some((issuer) => sameBytes(issuer, identity))) return -Infinity;
    const subject = { identity, network: joined.blindedId, round };
    return heldSince(this.#host.primitives, issuers, subject, tenures, turn.step.wallClock);
  }

  /** Forgets who vouched, once that has run out. */
  expire(turn: Turn): void {
    if (this.#own.expire(turn)) this.#host.changed(turn);
  }

  /** Takes another address where somebody has had ours for longer. */
  settle(turn: Turn): void {
    const { claims } = this.#host;
    for (const [id, joined] of this.#joined) {
      const { ipv4 } = joined.own;
      const holder = claims.longerThanOwn(ipv4, id);
      if (holder === undefined || turn.now < (this.#movedAt.get(id) ?? -Infinity) + MOVE_INTERVAL_MS)
        continue;
      const own = this.#freeAddresses(joined);
      if (own === undefined) continue;
      this.#movedAt.set(id, turn.now);
      this.#own.move(id, own.round, turn);
      for (const address of addressesIn(joined.own)) this.#host.release(address, id, turn);
      joined.own = own;
      this.#claim(id, joined, turn);
      turn.notify('warn', 'address-moved', {
        network: joined.network.name,
        from: ipv4,
        to: own.ipv4,
        holder: holder === 'reserved' ? 'a stock WireGuard peer of this node' : encodePeerId(holder),
      });
      this.#host.changed(turn);
    }
  }

  /** Who vouches in a network for how long somebody has had his address. */
  #issuers({ network }: JoinedNetwork): Uint8Array[] {
    const { isBootstrap, identity } = this.#host;
    const bootstraps = network.bootstraps.map((bootstrap) => bootstrap.identity);
    return isBootstrap && !bootstraps.some((known) => sameBytes(known, identity))
      ? [...bootstraps, identity]
      : bootstraps;
  }

  #claim(id: string, joined: JoinedNetwork, turn: Turn): void {
    const { claims, identity } = this.#host;
    const held = (): number => this.heldSince(joined, identity, this.#own.of(id), turn);
    for (const address of addressesIn(joined.own))
      claims.put(address, { identity, network: id, heldSince: held, since: -Infinity });
  }

  /** The first of the addresses a member may have in a network that is nobody's. */
  #freeAddresses({ network, own }: JoinedNetwork): MemberAddresses | undefined {
    for (let round = 0; round <= MAX_ROUND; round++) {
      const addresses = this.addressesOf(network, this.#host.identity, round);
      if (round !== own.round && this.#host.claims.isFree(addresses.ipv4)) return addresses;
    }
    return undefined;
  }
}
