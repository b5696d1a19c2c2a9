// The relays this relay knows, and who is reached through them. A relay is known because the operator
// named it ([relay] peers) or because a network of ours has it as bootstrap; in both cases this node
// is its client by a session of its own, and its address is a configured one, never one a stranger
// names. Who is behind a relay is learned from the records it tells (its directory) and from the
// relays those records name.

import type { SessionKey } from '../../contract/engine.js';
import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { Uplink } from '../uplink/uplink.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import type { Circuit, CircuitEnd } from './circuits/relay-circuit.js';

/** Networks looked up at configured neighbours on behalf of clients. */
const MAX_FOLLOWED = 1024;
/** Neighbours asked for one circuit, one after the other. */
const MAX_CANDIDATES = 2;

/** A relay we ask to carry circuits on. */
export class Neighbour implements CircuitEnd {
  readonly circuits = new Set<Circuit>();
  #address: SocketAddress;

  constructor(readonly client: Uplink) {
    this.#address = client.address;
  }

  get key(): SessionKey {
    return this.client.sessionKey;
  }

  get sessionKey(): Uint8Array {
    return this.client.bootstrap.sessionKey;
  }

  get identity(): Uint8Array {
    return this.client.bootstrap.identity;
  }

  get address(): SocketAddress {
    return this.#address;
  }

  /**
   * The session with it goes by this address: frames have to take the same way, or they would come
   * from another address of ours than it knows us by. Only a configured address is followed.
   * @returns whether it is another one than before.
   */
  heardFrom(address: SocketAddress): boolean {
    const configured = this.client.bootstrap.addresses.some((own) => sameSocketAddress(own, address));
    if (!configured || sameSocketAddress(address, this.#address)) return false;
    this.#address = address;
    return true;
  }
}

/** A record that came from neighbours, and from which of them. */
interface RemoteRecord {
  readonly record: PeerRecord;
  readonly from: Set<SessionKey>;
}

export class RelayNeighbours {
  readonly #uplinks: () => Iterable<Uplink>;
  readonly #capacity: number;
  readonly #neighbours = new Map<SessionKey, Neighbour>();
  /** By identity (hex). */
  readonly #remote = new Map<string, RemoteRecord>();
  readonly #followed = new Set<string>();

  /** @param capacity records remembered at most. */
  constructor(uplinks: () => Iterable<Uplink>, capacity: number) {
    this.#uplinks = uplinks;
    this.#capacity = capacity;
  }

  /** Whether this identity is a relay we know: only such may ask on behalf of others. */
  knows(identity: Uint8Array): boolean {
    for (const { bootstrap } of this.#uplinks()) if (sameBytes(bootstrap.identity, identity)) return true;
    return false;
  }

  /** The neighbour with this session key; undefined when it is none. */
  get(key: SessionKey): Neighbour | undefined {
    const present = this.#neighbours.get(key);
    if (present !== undefined) return present;
    for (const client of this.#uplinks()) {
      if (client.sessionKey !== key) continue;
      const neighbour = new Neighbour(client);
      this.#neighbours.set(key, neighbour);
      return neighbour;
    }
    return undefined;
  }

  /** The operator removed a relay from the list of neighbours. */
  forget(key: SessionKey): void {
    this.#neighbours.delete(key);
    for (const [identity, { from }] of this.#remote)
      if (from.delete(key) && from.size === 0) this.#remote.delete(identity);
  }

  /**
   * Takes in a record a neighbour told, its signature checked.
   * @returns whether it is news; false also when there is no room for it.
   */
  learn(from: SessionKey, record: PeerRecord): boolean {
    const identity = toHex(record.identity);
    const held = this.#remote.get(identity);
    if (held !== undefined && record.sequence <= held.record.sequence) {
      if (sameBytes(record.bytes, held.record.bytes)) held.from.add(from);
      return false;
    }
    if (held === undefined && this.#remote.size >= this.#capacity) return false;
    this.#remote.set(identity, { record, from: new Set([from]) });
    return true;
  }

  /** The newest record neighbours told of everybody they told of. */
  *records(): Iterable<PeerRecord> {
    for (const { record } of this.#remote.values()) yield record;
  }

  /** The newest record neighbours told of this identity (hex). */
  record(identity: string): PeerRecord | undefined {
    return this.#remote.get(identity)?.record;
  }

  /**
   * Relays to ask for somebody who is not our client: those his record names, then those that told it.
   * @param besides identities that are in the circuit already.
   */
  towards(identity: Uint8Array, besides: readonly Uint8Array[]): Neighbour[] {
    const remote = this.#remote.get(toHex(identity));
    if (remote === undefined) return [];
    const names = (client: Uplink): boolean =>
      remote.record.relays.some((relay) => sameBytes(relay, client.bootstrap.identity));
    const usable = [...this.#uplinks()].filter(
      ({ usable, bootstrap }) => usable && !besides.some((other) => sameBytes(other, bootstrap.identity)),
    );
    const named = usable.filter(names);
    const told = usable.filter((client) => !names(client) && remote.from.has(client.sessionKey));
    return [...named, ...told]
      .slice(0, MAX_CANDIDATES)
      .map(({ sessionKey }) => this.get(sessionKey))
      .filter((neighbour) => neighbour !== undefined);
  }

  /** Removes records that have run out. @returns them. */
  expire(wallClock: number): PeerRecord[] {
    const gone: PeerRecord[] = [];
    for (const [identity, { record }] of this.#remote) {
      if (record.notAfter * 1000 > wallClock) continue;
      this.#remote.delete(identity);
      gone.push(record);
    }
    return gone;
  }

  /** Networks (hex) of our clients, to be looked up at configured neighbours. */
  get followed(): Iterable<string> {
    return this.#followed;
  }

  /** @returns those of these networks (hex) that were not followed before. */
  follow(networks: readonly string[]): string[] {
    const fresh = networks.filter((network) => !this.#followed.has(network));
    for (const network of fresh) if (this.#followed.size < MAX_FOLLOWED) this.#followed.add(network);
    return fresh.filter((network) => this.#followed.has(network));
  }
}
