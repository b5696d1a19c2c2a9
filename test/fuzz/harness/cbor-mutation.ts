// Mutation of deterministic CBOR that stays deterministic CBOR: one node of the value is changed and the
// whole encoded anew. What is inside reaches further than any flipped bit of the encoding.

import { decodeCbor, encodeCbor } from '../../../ts/core/protocol/cbor.js';

const MAX_BYTES = 16_384;
const NUMBERS = [
  0,
  1,
  -1,
  23,
  24,
  255,
  256,
  65535,
  65536,
  2 ** 32 - 1,
  2 ** 32,
  Number.MAX_SAFE_INTEGER,
  0.5,
];
const TEXTS = ['', 'a', 'a-b', 'ü', 'x'.repeat(64), 'busy', 'toString', '__proto__'];

/** A deterministic encoding with one node changed; undefined when `bytes` is none. */
export function mutateCbor(bytes: Uint8Array, random: () => number): Uint8Array | undefined {
  const value = decodeCbor(bytes, MAX_BYTES);
  return value === undefined ? undefined : encodeCbor(mutateValue(value, random));
}

/** A copy of a decoded value in which one node is another. */
export function mutateValue(value: unknown, random: () => number): unknown {
  const below = (limit: number): number => Math.floor(random() * limit);
  const pick = <T>(from: readonly T[]): T | undefined => from[below(from.length)];
  if (Array.isArray(value) && value.length > 0 && random() < 0.9) {
    const items: unknown[] = [...(value as unknown[])];
    const at = below(items.length);
    const kind = below(12);
    if (kind === 0) items.splice(at, 1);
    else if (kind === 1) items.splice(at, 0, items[at]);
    else if (kind === 2) items.push(...items.slice(0, 8));
    else items[at] = mutateValue(items[at], random);
    return items;
  }
  if (value instanceof Map && value.size > 0 && random() < 0.95) {
    const entries = [...(value as Map<unknown, unknown>)];
    const at = below(entries.length);
    const [key, held] = entries[at] ?? [undefined, undefined];
    const kind = below(16);
    if (kind === 0) entries.splice(at, 1);
    else if (kind === 1) entries[at] = [mutateValue(key, random), held];
    else entries[at] = [key, mutateValue(held, random)];
    return new Map(entries);
  }
  if (value instanceof Uint8Array && random() < 0.8) {
    const inner = random() < 0.5 ? mutateCbor(value, random) : undefined;
    if (inner !== undefined) return inner;
    const kind = below(6);
    if (kind === 0) return value.slice(0, below(value.length + 1));
    if (kind === 1) return new Uint8Array(value.length + 1 + below(32));
    if (kind === 2) return new Uint8Array(value.length);
    const copy = value.slice();
    if (copy.length > 0) copy[below(copy.length)] = below(256);
    return copy;
  }
  if (typeof value === 'number' && random() < 0.8)
    return random() < 0.5 ? pick(NUMBERS) : Math.min(value + below(17) - 8, Number.MAX_SAFE_INTEGER);
  if (typeof value === 'boolean' && random() < 0.8) return !value;
  if (typeof value === 'string' && random() < 0.8) return pick(TEXTS);
  return pick<unknown>([0, '', false, new Uint8Array(), new Uint8Array(16), [], new Map(), 1, 'x', null]);
}
