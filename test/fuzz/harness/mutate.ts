// Mutation of bytes, as blind as a broken line and as spiteful as a stranger.

import { concat } from '../../../ts/wire/bytes.js';

const INTERESTING = [
  0, 1, 2, 4, 0x0a, 0x10, 0x20, 0x22, 0x3d, 0x40, 0x7f, 0x80, 0x9f, 0xc0, 0xf6, 0xfe, 0xff,
];
const MAX_INPUT = 16_384;

export class Mutator {
  readonly #random: () => number;
  readonly #words: readonly Uint8Array[];

  constructor(random: () => number, words: readonly Uint8Array[]) {
    this.#random = random;
    this.#words = words;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  pick<T>(from: readonly T[]): T {
    const one = from[this.#below(from.length)];
    if (one === undefined) throw new RangeError('nothing to choose from');
    return one;
  }

  /** One to eight changes to a copy of `input`; `other` is a second input to take pieces of. */
  change(input: Uint8Array, other: Uint8Array): Uint8Array {
    let bytes: Uint8Array = input.slice();
    for (let left = 1 + this.#below(this.#below(8) + 1); left > 0; left--) bytes = this.#once(bytes, other);
    return bytes.length > MAX_INPUT ? bytes.slice(0, MAX_INPUT) : bytes;
  }

  #once(bytes: Uint8Array, other: Uint8Array): Uint8Array {
    const at = this.#below(bytes.length + 1);
    const length = 1 + this.#below(Math.min(64, bytes.length + 1));
    const rest = bytes.subarray(Math.min(at + length, bytes.length));
    const before = bytes.subarray(0, at);
    switch (this.#below(this.#words.length > 0 ? 11 : 9)) {
      case 0:
        return this.#set(bytes, at, (byte) => byte ^ (1 << this.#below(8)));
      case 1:
        return this.#set(bytes, at, () => this.pick(INTERESTING));
      case 2:
        return this.#set(bytes, at, (byte) => byte + this.#below(17) - 8);
      case 3:
        return concat(before, Uint8Array.of(this.#below(256)), bytes.subarray(at));
      case 4:
        return concat(before, rest);
      case 5:
        return concat(bytes.subarray(0, Math.min(at + length, bytes.length)), bytes.subarray(at));
      case 6: {
        const from = this.#below(other.length + 1);
        return concat(before, other.subarray(from, from + length), bytes.subarray(at));
      }
      case 7: {
        const from = this.#below(other.length + 1);
        return concat(before, other.subarray(from, from + length), rest);
      }
      case 8:
        return this.#below(4) === 0
          ? before.slice()
          : concat(before, other.subarray(this.#below(other.length + 1)));
      case 9:
        return concat(before, this.pick(this.#words), bytes.subarray(at));
      default:
        return concat(before, this.pick(this.#words), rest);
    }
  }

  #set(bytes: Uint8Array, at: number, change: (byte: number) => number): Uint8Array {
    if (bytes.length === 0) return bytes;
    const index = Math.min(at, bytes.length - 1);
    bytes[index] = change(bytes[index] ?? 0) & 0xff;
    return bytes;
  }
}
