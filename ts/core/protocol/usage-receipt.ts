// Usage receipt (docs/protocol.md, "Usage receipts"): what a relay says it carried in one circuit,
// signed, so that either end can hold it against its own counts and show it to others.
//
// A signed map (signed-map.ts) of the keys below, labelled "omerta usage receipt v1".

import { utf8 } from '../../wire/bytes.js';
import { isBytes, isInteger } from './cbor.js';
import type { Primitives } from '../../contract/primitives.js';
import { readSignedMap, signMap, type SignedMap } from './signed-map.js';

export const MAX_RECEIPT_BYTES = 512;
const VERSION = 1;
const SIGNATURE_LABEL = utf8('omerta usage receipt v1');

const Key = {
  version: 0,
  relay: 1,
  circuit: 2,
  network: 3,
  caller: 4,
  callee: 5,
  issued: 6,
  seconds: 7,
  toCallee: 8,
  toCaller: 9,
} as const;
const KEY_COUNT = Object.keys(Key).length;

/** Frames carried in one direction, and their bytes, headers included. */
export interface Usage {
  readonly packets: number;
  readonly bytes: number;
}

export interface UsageReceipt {
  /** Identity of the relay that counted and signed. */
  readonly relay: Uint8Array;
  readonly circuit: Uint8Array;
  /** Blinded id. */
  readonly network: Uint8Array;
  /** Identities of the circuit's two ends. */
  readonly caller: Uint8Array;
  readonly callee: Uint8Array;
  /** Seconds since 1970 by the relay's clock. */
  readonly issued: number;
  /** Seconds before that in which this was counted: since the circuit stands, or the relay restarted. */
  readonly seconds: number;
  readonly toCallee: Usage;
  readonly toCaller: Usage;
}

/** Encodes a receipt and signs it with `sign`, an Ed25519 signature by the relay's identity. */
export function signReceipt(receipt: UsageReceipt, sign: (message: Uint8Array) => Uint8Array): Uint8Array {
  const usage = ({ packets, bytes }: Usage): number[] => [packets, bytes];
  return signMap(
    SIGNATURE_LABEL,
    new Map<number, unknown>([
      [Key.version, VERSION],
      [Key.relay, receipt.relay],
      [Key.circuit, receipt.circuit],
      [Key.network, receipt.network],
      [Key.caller, receipt.caller],
      [Key.callee, receipt.callee],
      [Key.issued, receipt.issued],
      [Key.seconds, receipt.seconds],
      [Key.toCallee, usage(receipt.toCallee)],
      [Key.toCaller, usage(receipt.toCaller)],
    ]),
    sign,
  );
}

/** Reads a receipt; the caller has to compare `relay` with the relay that was used. */
export function openReceipt(
  primitives: Primitives,
  bytes: Uint8Array,
): UsageReceipt | 'malformed' | 'bad-signature' {
  const signed = readSignedMap(SIGNATURE_LABEL, bytes, { maxBytes: MAX_RECEIPT_BYTES, size: KEY_COUNT });
  const receipt = signed && parse(signed);
  if (signed === undefined || receipt === undefined) return 'malformed';
  return signed.isSignedBy(primitives, receipt.relay) ? receipt : 'bad-signature';
}

function parse({ field }: SignedMap): UsageReceipt | undefined {
  const relay = field(Key.relay);
  const circuit = field(Key.circuit);
  const network = field(Key.network);
  const caller = field(Key.caller);
  const callee = field(Key.callee);
  const issued = field(Key.issued);
  const seconds = field(Key.seconds);
  const toCallee = usageOf(field(Key.toCallee));
  const toCaller = usageOf(field(Key.toCaller));
  if (
    field(Key.version) !== VERSION ||
    !isBytes(relay, 32) ||
    !isBytes(circuit, 16) ||
    !isBytes(network, 16) ||
    !isBytes(caller, 32) ||
    !isBytes(callee, 32) ||
    !isCount(issued) ||
    !isCount(seconds) ||
    toCallee === undefined ||
    toCaller === undefined
  )
    return undefined;
  return { relay, circuit, network, caller, callee, issued, seconds, toCallee, toCaller };
}

const isCount = (value: unknown): value is number => isInteger(value, 0, Number.MAX_SAFE_INTEGER);

function usageOf(value: unknown): Usage | undefined {
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [packets, bytes] = value as unknown[];
  return isCount(packets) && isCount(bytes) ? { packets, bytes } : undefined;
}
