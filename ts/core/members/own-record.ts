// The node's own record: made again when what it says has changed or half its validity is over.

import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import { toHex } from '../../wire/bytes.js';
import { decodeCbor, encodeCbor, isInteger } from '../protocol/cbor.js';
import type { Primitives } from '../../contract/primitives.js';
import {
  EndpointKind,
  MAX_RECORD_ENDPOINTS,
  MAX_RECORD_RELAYS,
  type NatBehaviour,
  recordSize,
  signPeerRecord,
  type PeerRecord,
  type RecordAddress,
  type RecordEndpoint,
  type RecordFields,
} from '../protocol/peer-record.js';
import type { Turn } from '../runtime/turn.js';

const SEQUENCE_KEY = 'node/sequence';
/** A day below what receivers accept, for clocks that differ. */
const VALIDITY_SECONDS = 6 * 24 * 3600;
const PRIORITY_CONFIGURED = 200;
const PRIORITY_OBSERVED = 100;

/** What the longest message that carries a caller's record has room for. */
const MAX_CARRIED_BYTES = 975;

/** What the record says, before it is signed. */
export interface RecordContent {
  readonly networks: readonly Uint8Array[];
  /** One for each of the networks, in their order. */
  readonly addresses: readonly RecordAddress[];
  readonly configured: readonly SocketAddress[];
  /** Own address as each bootstrap within reach sees it, with that bootstrap's identity. */
  readonly observed: readonly { readonly relay: Uint8Array; readonly address: SocketAddress }[];
  /** Mapping of the NAT in between. */
  readonly nat: NatBehaviour;
  readonly capabilities: readonly string[];
}

export class OwnRecord {
  readonly #primitives: Primitives;
  readonly #identitySeed: Uint8Array;
  readonly #identity: Uint8Array;
  readonly #sessionKey: Uint8Array;
  readonly #name: string;
  #sequence = 0;
  #present: { readonly record: PeerRecord; readonly content: string } | undefined;

  constructor(
    primitives: Primitives,
    self: {
      readonly identitySeed: Uint8Array;
      readonly identity: Uint8Array;
      readonly sessionKey: Uint8Array;
    },
    name: string,
  ) {
    this.#primitives = primitives;
    this.#identitySeed = self.identitySeed;
    this.#identity = self.identity;
    this.#sessionKey = self.sessionKey;
    this.#name = name;
  }

  restore(restored: ReadonlyMap<string, Uint8Array>): void {
    const sequence = decodeCbor(restored.get(SEQUENCE_KEY) ?? new Uint8Array(0), 16);
    if (isInteger(sequence, 0, Number.MAX_SAFE_INTEGER - 1)) this.#sequence = sequence;
  }

  /** The record that says this; the one before is returned while it still does and is fresh. */
  sign(content: RecordContent, turn: Turn): PeerRecord {
    const nowSeconds = Math.floor(turn.step.wallClock / 1000);
    const endpoints = endpointsOf(content);
    const relays = content.observed.map(({ relay }) => relay).slice(0, MAX_RECORD_RELAYS);
    const { nat, capabilities } = content;
    const said = toHex(
      encodeCbor([
        content.networks,
        endpoints.map((e) => [e.kind, e.address.ip, e.address.port]),
        relays,
        nat,
        capabilities,
        content.addresses.map(({ round, tenures }) => [round, tenures.map(({ signature }) => signature)]),
      ]),
    );
    const present = this.#present;
    if (present?.content === said && present.record.notAfter - nowSeconds > VALIDITY_SECONDS / 2)
      return present.record;
    // Wall-clock milliseconds, so that a node whose store was lost still counts upwards.
    this.#sequence = Math.max(this.#sequence + 1, turn.step.wallClock);
    turn.emit({ type: 'persist', key: SEQUENCE_KEY, value: encodeCbor(this.#sequence) });
    const fields = {
      identity: this.#identity,
      sessionKey: this.#sessionKey,
      networks: content.networks,
      endpoints,
      relays,
      nat,
      capabilities,
      sequence: this.#sequence,
      notAfter: nowSeconds + VALIDITY_SECONDS,
      name: this.#name,
    };
    const carried = { ...fields, addresses: fitting(content.addresses, fields) };
    const record = signPeerRecord(this.#primitives, this.#identitySeed, carried);
    this.#present = { record, content: said };
    return record;
  }
}

/** As many tenures in each network as a record has room for, the oldest first. */
function fitting(
  addresses: readonly RecordAddress[],
  fields: Omit<RecordFields, 'addresses'>,
): readonly RecordAddress[] {
  let most = Math.max(0, ...addresses.map(({ tenures }) => tenures.length));
  for (; ; most--) {
    const fewer = addresses.map(({ round, tenures }) => ({ round, tenures: tenures.slice(0, most) }));
    if (most === 0 || recordSize({ ...fields, addresses: fewer }) <= MAX_CARRIED_BYTES) return fewer;
  }
}

function endpointsOf({ configured, observed }: RecordContent): RecordEndpoint[] {
  const endpoints: RecordEndpoint[] = configured.map((address) => ({
    kind: EndpointKind.configured,
    priority: PRIORITY_CONFIGURED,
    address,
  }));
  for (const { address } of observed)
    if (!endpoints.some((known) => sameSocketAddress(known.address, address)))
      endpoints.push({ kind: EndpointKind.observed, priority: PRIORITY_OBSERVED, address });
  return endpoints.slice(0, MAX_RECORD_ENDPOINTS);
}
