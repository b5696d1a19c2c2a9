// Since when identities have had their overlay addresses in the networks this relay is a bootstrap of. A relay
// knows a network by its blinded id alone, so it does not know the addresses, nor whether two are the same: it
// says who has had which round for how long, and members compare.
//
// What it remembers is what it has signed, as long as that lasts. Whoever has had another round meanwhile begins
// anew with it, and of one identity in a network few rounds are vouched for: what was signed once cannot be
// taken back, and nobody is to have tenures of many addresses in stock. His prefix pays for more identities.

import type { SocketAddress } from '../../wire/socket-address.js';
import { toHex } from '../../wire/bytes.js';
import { isTenureBy, signTenure, TENURE_SECONDS } from '../protocol/address-tenure.js';
import { decodeCbor, encodeCbor, isInteger } from '../protocol/cbor.js';
import type { TenureGrant } from '../protocol/control-message.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import { BoundedTable, type Bounds, type Owners } from '../runtime/bounded-table.js';
import type { Turn } from '../runtime/turn.js';
import { addressOwners } from './relay-client.js';
import type { RelayHost } from './relay-host.js';
import type { RelayLimits } from './relay-limits.js';

const TENURE_PREFIX = 'relay/tenure/';
const MAX_STORED_BYTES = 256;
/** Signed anew when this part of it is over. */
const RENEWED_AFTER = 1 / 3;

/** Rounds of one identity in a network that are vouched for, as long as it is remembered. */
const MOST_ROUNDS = 4;

/** Who pays for what is remembered of an identity in a network. */
export type TenureOwner = 'network' | 'prefix' | 'site';

interface Held {
  readonly round: number;
  readonly since: number;
  readonly until: number;
  /** How many rounds it has had. */
  readonly rounds: number;
  readonly owners: Owners<TenureOwner>;
}

/** Those who are away count too, so there is room for twice as many as can be there. */
export function tenureBounds(limits: RelayLimits): Bounds<TenureOwner> {
  return {
    total: 2 * limits.registrations,
    shares: {
      network: 2 * limits.admissionsPerNetwork,
      prefix: 2 * limits.admissionsPerPrefix,
      site: 2 * limits.admissionsPerSite,
    },
  };
}

export class RelayTenures {
  readonly #host: RelayHost;
  /** By `keyOf`. */
  readonly #held: BoundedTable<string, Held, TenureOwner>;

  constructor(host: RelayHost, limits: () => RelayLimits) {
    this.#host = host;
    this.#held = new BoundedTable(() => tenureBounds(limits()), {
      within: ['network'],
      payer: ({ site }) => site,
    });
  }

  /** Takes up what the store holds. */
  restore(restored: ReadonlyMap<string, Uint8Array>, turn: Turn): void {
    for (const [key, value] of restored) {
      if (!key.startsWith(TENURE_PREFIX)) continue;
      const held = decodeHeld(value, key.slice(TENURE_PREFIX.length));
      const kept =
        held !== undefined &&
        held.until * 1000 > turn.step.wallClock &&
        this.#held.set(key.slice(TENURE_PREFIX.length), held, held.owners) === undefined;
      if (!kept) turn.emit({ type: 'persist', key, value: undefined });
    }
  }

  get size(): number {
    return this.#held.size;
  }

  /**
   * What to tell who registers with this record from this address: nothing of a network whose tenure is in the
   * record and lasts, or which there is no room for.
   * @param networks (hex) of the record that are served.
   */
  grant(record: PeerRecord, networks: readonly string[], from: SocketAddress, turn: Turn): TenureGrant[] {
    return record.networks.flatMap((network, index): TenureGrant[] => {
      const address = record.addresses[index];
      const id = toHex(network);
      if (address === undefined || !networks.includes(id)) return [];
      const key = keyOf(id, record.identity);
      const now = Math.floor(turn.step.wallClock / 1000);
      const subject = { identity: record.identity, network, round: address.round };
      const shown = address.tenures.find(
        (tenure) =>
          tenure.until > now && isTenureBy(this.#host.primitives, this.#host.identity, subject, tenure),
      );
      const before = this.#held.get(key);
      // Without memory of him what was signed counts; with it, only for the round he has had since.
      const since =
        before === undefined ? (shown?.since ?? now) : before.round === address.round ? before.since : now;
      const rounds = before === undefined ? 1 : before.rounds + (before.round === address.round ? 0 : 1);
      if (rounds > MOST_ROUNDS) return [];
      const lasts = shown?.since === since && shown.until - now > TENURE_SECONDS * (1 - RENEWED_AFTER);
      const until = lasts ? shown.until : now + TENURE_SECONDS;
      const owners = { network: id, ...addressOwners(from) };
      const held = { round: address.round, since, until, rounds, owners: before?.owners ?? owners };
      if (!this.#keep(key, held, turn)) return [];
      if (before?.round !== held.round || before.since !== since || before.until !== until)
        turn.emit({ type: 'persist', key: TENURE_PREFIX + key, value: encodeHeld(held) });
      if (lasts) return [];
      const tenure = signTenure(this.#host.identity, subject, { since, until }, (message) =>
        this.#host.sign(message),
      );
      return [{ network, round: address.round, tenure }];
    });
  }

  /**
   * As the newest. Where every place is taken, the site that has most of them loses its oldest one to a site that
   * has fewer: so a few sites cannot hold all places for as long as a tenure lasts. A site makes no room for itself
   * like that, or it would be vouched for under one identity after the other.
   */
  #keep(key: string, held: Held, turn: Turn): boolean {
    this.#held.delete(key);
    for (;;) {
      const crowded = this.#held.set(key, held, held.owners);
      const displaced = crowded && this.#held.displaced(held.owners, crowded);
      if (displaced === undefined) return crowded === undefined;
      this.#held.delete(displaced);
      turn.emit({ type: 'persist', key: TENURE_PREFIX + displaced, value: undefined });
    }
  }

  /** Forgets what has run out. */
  expire(turn: Turn): void {
    for (const [key, { until }] of this.#held)
      if (until * 1000 <= turn.step.wallClock) {
        this.#held.delete(key);
        turn.emit({ type: 'persist', key: TENURE_PREFIX + key, value: undefined });
      }
  }
}

/** @param network hex */
function keyOf(network: string, identity: Uint8Array): string {
  return `${network}/${toHex(identity)}`;
}

/** The network (hex) in what `keyOf` made. */
function networkOf(key: string): string {
  return key.slice(0, key.indexOf('/'));
}

function encodeHeld({ round, since, until, rounds, owners }: Held): Uint8Array {
  return encodeCbor([round, since, until, rounds, owners.prefix ?? '', owners.site ?? '']);
}

function decodeHeld(bytes: Uint8Array, key: string): Held | undefined {
  const stored = decodeCbor(bytes, MAX_STORED_BYTES);
  if (!Array.isArray(stored) || stored.length !== 6) return undefined;
  const [round, since, until, rounds, prefix, site] = stored as unknown[];
  if (!isInteger(round, 0, 255) || typeof prefix !== 'string' || typeof site !== 'string') return undefined;
  if (!isInteger(since, 0, Number.MAX_SAFE_INTEGER) || !isInteger(until, 0, Number.MAX_SAFE_INTEGER))
    return undefined;
  if (!isInteger(rounds, 1, MOST_ROUNDS)) return undefined;
  return { round, since, until, rounds, owners: { network: networkOf(key), prefix, site } };
}
