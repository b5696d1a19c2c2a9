// The places for clients of a relay: who has one, until when, and who pays for it. Every table has a cap.

import type { SessionKey } from '../../contract/engine.js';
import { toHex } from '../../wire/bytes.js';
import { BoundedTable } from '../runtime/bounded-table.js';
import { FairPlaces } from '../runtime/fair-places.js';
import { TimerQueue } from '../runtime/timer-queue.js';
import { clientOwners, prefixOf, type Client, type ClientOwner } from './relay-client.js';
import type { Cap } from './relay-limits.js';
import type { RelayRules } from './relay-rules.js';

/** Networks a client may show to be in, while it is one; its record names eight at a time. */
export const MAX_PROVEN = 64;

/** What is known of a client when it gets a place. */
export type GivenClient = Pick<Client, 'sessionKey' | 'identity' | 'network' | 'address' | 'admitted'> &
  Partial<Pick<Client, 'proven'>>;

export class ClientRoster {
  readonly #rules: RelayRules;
  readonly #clients = new BoundedTable<SessionKey, Client, ClientOwner>(() => {
    const { limits } = this.#rules;
    return {
      total: limits.admissions,
      shares: {
        identity: limits.admissionsPerIdentity,
        network: limits.admissionsPerNetwork,
        prefix: limits.admissionsPerPrefix,
        site: limits.admissionsPerSite,
      },
    };
  });
  /**
   * Those that have shown to be in no network yet, by prefix: strangers take no place for longer than it takes
   * others to ask for one.
   */
  readonly #passing = new FairPlaces<Client>();
  /** Admissions and registrations that run out. */
  readonly #expiries = new TimerQueue<Client>();

  constructor(rules: RelayRules) {
    this.#rules = rules;
  }

  get size(): number {
    return this.#clients.size;
  }

  get(key: SessionKey): Client | undefined {
    return this.#clients.get(key);
  }

  keys(): Iterable<SessionKey> {
    return this.#clients.keys();
  }

  all(): Client[] {
    return [...this.#clients.values()];
  }

  add(given: GivenClient): Client {
    const client: Client = {
      proven: new Set(),
      ...given,
      key: toHex(given.sessionKey),
      hasSession: false,
      bound: false,
      registration: undefined,
      formerBoot: undefined,
      provenAddress: undefined,
      challenged: undefined,
      challenging: false,
      nextMessage: 0,
      nextChange: 0,
      drain: undefined,
      circuits: new Set(),
    };
    this.#clients.set(client.key, client, clientOwners(client));
    this.sort(client);
    return client;
  }

  remove(client: Client): void {
    this.#passing.delete(prefixOf(client.address), client);
    this.#clients.delete(client.key);
    this.#expiries.clear(client);
  }

  /** It has a place for so long from now on. */
  expire(client: Client, seconds: number, now: number): void {
    this.#expiries.set(client, now + seconds * 1000);
  }

  /** Those whose time is over. */
  expired(now: number): Iterable<Client> {
    return this.#expiries.allDue(now);
  }

  deadline(): number | undefined {
    return this.#expiries.next();
  }

  /** The cap that another client would exceed, whether or not somebody gives way. */
  exceeded(given: Pick<GivenClient, 'identity' | 'proven' | 'address'>): Cap | undefined {
    const crowded = this.#clients.crowded(clientOwners({ proven: new Set(), ...given }));
    if (crowded === undefined) return undefined;
    return crowded === 'total' ? 'admissions' : `admissions-per-${crowded}`;
  }

  /** Who gives up its place to one more from this address, where all are taken. */
  givingWayTo({ address }: Pick<Client, 'address'>): Client | undefined {
    return this.#passing.givingWayTo(prefixOf(address));
  }

  /** Whether as many have shown to be in this network (hex) as it may have here. */
  isFull(network: string): boolean {
    return this.#clients.heldBy('network', network) >= this.#rules.limits.admissionsPerNetwork;
  }

  /** Whether it may have to make room: it has shown to be in no network, and is no relay the operator named. */
  passes({ proven, identity }: Client): boolean {
    return proven.size === 0 && !this.#rules.isPeer(identity);
  }

  /** Whether it passes may have changed. */
  sort(client: Client): void {
    const prefix = prefixOf(client.address);
    if (this.passes(client)) this.#passing.add(prefix, client);
    else this.#passing.delete(prefix, client);
  }

  /** Whether it may show to be in another network: each is told to others at once, so there are not many in its life. */
  mayProve({ proven }: Client): boolean {
    return proven.size < MAX_PROVEN;
  }

  /** It has shown to be in this network (hex): that pays for it, and it makes room for nobody. */
  prove(client: Client, network: string): void {
    client.proven.add(network);
    this.#passing.delete(prefixOf(client.address), client);
    this.pay(client);
  }

  move(client: Client, address: Client['address']): void {
    this.#passing.delete(prefixOf(client.address), client);
    client.address = address;
    this.sort(client);
    this.pay(client);
  }

  /** Others pay for it: its identity, its address or its networks have changed. */
  pay(client: Client): void {
    this.#clients.hand(client.key, clientOwners(client));
  }
}
