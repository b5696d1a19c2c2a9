// Deterministic CBOR (RFC 8949 section 4.2.1), the one encoding a value has. Decoding accepts
// nothing else, so that equal values are equal bytes and a signature covers one reading.
//
// Bytes are copied on the way in and out: under Node the codec makes Buffers, whose slices share
// memory with the datagram or pool they came from.

import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import { sameBytes } from '../../wire/bytes.js';

/** Encodes a value made of numbers, texts, booleans, byte strings, arrays and Maps. */
export function encodeCbor(value: unknown): Uint8Array {
  return new Uint8Array(encode(value, rfc8949EncodeOptions));
}

/** Decodes at most `maxBytes` of deterministic CBOR; undefined for anything else. Maps become Map. */
export function decodeCbor(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) return undefined;
  try {
    const value: unknown = decode(new Uint8Array(bytes), {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowInfinity: false,
      allowNaN: false,
      allowBigInt: false,
      useMaps: true,
      rejectDuplicateMapKeys: true,
    });
    return sameBytes(encodeCbor(value), bytes) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** A byte string of exactly `length` bytes. */
export function isBytes(value: unknown, length: number): value is Uint8Array {
  return value instanceof Uint8Array && value.length === length;
}

/** A whole number from `min` to `max`. */
export function isInteger(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max;
}

/** An array of at most `max` items, each of which `item` accepts. */
export function isArrayOf<T>(
  value: unknown,
  max: number,
  item: (value: unknown) => value is T,
): value is T[] {
  return Array.isArray(value) && value.length <= max && value.every(item);
}
