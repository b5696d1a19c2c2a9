// The relays this relay knows, and who is reached through them. A relay is known because the operator
// named it ([relay] peers) or because a network of ours has it as bootstrap; in both cases this node
// is its client by a session of its own, and its address is a configured one, never one a stranger
// names. Who is behind a relay is learned from the records it tells (its directory) and from the
// relays those records name.

import type { SessionKey } from '../../contract/engine.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { Uplink } from '../uplink/uplink.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import { BoundedTable, type Bounds } from '../runtime/bounded-table.js';
import type { Circuit, CircuitEnd } from './relay-circuit.js';
import { FollowedNetworks } from './followed-networks.js';

/** Neighbours asked for one circuit, one after the other. */
const MAX_CANDIDATES = 2;

/** A relay we ask to carry circuits on. */
export class Neighbour implements CircuitEnd {
  readonly circuits = new Set<Circuit>();

  constructor(readonly client: Uplink) {}

  get key(): SessionKey {
    return this.client.sessionKey;
  }

  get sessionKey(): Uint8Array {
    return this.client.bootstrap.sessionKey;
  }

  get identity(): Uint8Array {
    return this.client.bootstrap.identity;
  }

  /** Where the session with it goes: by another way frames would come from another address of ours than it knows us by. */
  get address(): SocketAddress {
    return this.client.address;
  }
}

/** That a neighbour has a record in a network (hex). */
interface Telling {
  readonly neighbour: SessionKey;
  readonly network: string;
}

/** A record that came from neighbours. */
interface RemoteRecord {
  readonly record: PeerRecord;
  /** Each once. It lasts as long as one of them has it. */
  told: readonly Telling[];
}

/** Who pays for a record that is remembered: the neighbour that told it first, and the network. */
export type RemoteOwner = 'neighbour' | 'network';

/** Records remembered: in all as many as this relay registers, of one neighbour and of one network a part. */
export function remoteBounds(registrations: number): Bounds<RemoteOwner> {
  return {
    total: registrations,
    shares: { neighbour: Math.ceil(registrations / 2), network: Math.ceil(registrations / 4) },
  };
}

export class RelayNeighbours {
  readonly #uplinks: () => Iterable<Uplink>;
  readonly #neighbours = new Map<SessionKey, Neighbour>();
  /** By identity (hex). */
  readonly #remote: BoundedTable<string, RemoteRecord, RemoteOwner>;
  readonly followed = new FollowedNetworks();

  /** @param registrations records this relay registers at most. */
  constructor(uplinks: () => Iterable<Uplink>, registrations: () => number) {
    this.#uplinks = uplinks;
    this.#remote = new BoundedTable(() => remoteBounds(registrations()));
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

  /** The operator removed a relay from the list of neighbours. @returns the records only it told. */
  forget(key: SessionKey): PeerRecord[] {
    this.#neighbours.delete(key);
    return this.#untell(({ neighbour }) => neighbour === key);
  }

  /** A neighbour no longer has these identities in a network; undefined = whatever it told. */
  untold(from: SessionKey, network: string, gone: readonly Uint8Array[] | undefined): PeerRecord[] {
    return this.#untell((telling) => telling.neighbour === from && telling.network === network, gone);
  }

  /** Nobody here wishes the records of these networks any more. */
  unfollow(networks: readonly string[]): PeerRecord[] {
    return networks.length === 0 ? [] : this.#untell(({ network }) => networks.includes(network));
  }

  #untell(ends: (telling: Telling) => boolean, of?: readonly Uint8Array[]): PeerRecord[] {
    const lost: PeerRecord[] = [];
    for (const identity of of === undefined ? [...this.#remote.keys()] : of.map(toHex)) {
      const held = this.#remote.get(identity);
      if (held === undefined) continue;
      held.told = held.told.filter((telling) => !ends(telling));
      if (held.told.length > 0) continue;
      this.#remote.delete(identity);
      lost.push(held.record);
    }
    return lost;
  }

  /**
   * Takes in a record a neighbour told, its signature checked.
   * @returns whether it is news, of the record or of the network; false also when there is no room for it.
   */
  learn(from: SessionKey, network: string, record: PeerRecord): boolean {
    const identity = toHex(record.identity);
    const held = this.#remote.get(identity);
    if (held !== undefined && record.sequence <= held.record.sequence) {
      if (!sameBytes(record.bytes, held.record.bytes)) return false;
      const known = this.toldIn(identity).includes(network);
      if (!held.told.some((telling) => telling.neighbour === from && telling.network === network))
        held.told = [...held.told, { neighbour: from, network }];
      return !known;
    }
    // What this neighbour told of it in other networks it will tell anew in a moment.
    const still = (held?.told ?? []).filter(
      (telling) =>
        telling.neighbour === from &&
        telling.network !== network &&
        record.networks.some((id) => toHex(id) === telling.network),
    );
    const told = [...still, { neighbour: from, network }];
    return this.#remote.set(identity, { record, told }, { neighbour: from, network }) === undefined;
  }

  /** The newest record neighbours told of everybody they told of. */
  *records(): Iterable<PeerRecord> {
    for (const { record } of this.#remote.values()) yield record;
  }

  /** The networks (hex) in which neighbours told of this identity (hex): they know it to be a member there. */
  toldIn(identity: string): string[] {
    const told = this.#remote.get(identity)?.told ?? [];
    return [...new Set(told.map((telling) => telling.network))];
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
    const told = usable.filter(
      (client) => !names(client) && remote.told.some(({ neighbour }) => neighbour === client.sessionKey),
    );
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
}
