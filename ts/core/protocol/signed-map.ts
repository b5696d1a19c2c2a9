// The envelope of what identities say in signed maps (peer records, usage receipts, standing policies):
//
//   [ body, signature ]      body: CBOR map with integer keys, as a byte string
//                            signature: Ed25519 over a label of the kind ‖ body

import { concat } from '../../wire/bytes.js';
import { decodeCbor, encodeCbor, isBytes } from './cbor.js';
import type { Primitives } from '../../contract/primitives.js';

export interface SignedMap {
  /** The value of a key; undefined when there is none. */
  readonly field: (key: number) => unknown;
  readonly isSignedBy: (primitives: Primitives, identity: Uint8Array) => boolean;
}

/** @param sign an Ed25519 signature of its argument. */
export function signMap(
  label: Uint8Array,
  fields: ReadonlyMap<number, unknown>,
  sign: (message: Uint8Array) => Uint8Array,
): Uint8Array {
  const body = encodeCbor(fields);
  return encodeCbor([body, sign(concat(label, body))]);
}

/** Undefined for what is no map of `size` entries in an envelope of at most `maxBytes`. */
export function readSignedMap(
  label: Uint8Array,
  bytes: Uint8Array,
  { maxBytes, size }: { readonly maxBytes: number; readonly size: number },
): SignedMap | undefined {
  const outer = decodeCbor(bytes, maxBytes);
  if (!Array.isArray(outer) || outer.length !== 2) return undefined;
  const [body, signature] = outer as unknown[];
  if (!(body instanceof Uint8Array) || !isBytes(signature, 64)) return undefined;
  const map = decodeCbor(body, maxBytes);
  if (!(map instanceof Map) || map.size !== size) return undefined;
  return {
    field: (key) => (map as Map<unknown, unknown>).get(key),
    isSignedBy: (primitives, identity) => primitives.ed25519Verify(identity, concat(label, body), signature),
  };
}
