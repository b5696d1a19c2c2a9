// Many prefixes without an object for each, as native/addon/peer_calls.cc reads and writes them:
//
//   family u8 | length u8 | remove u8 | zero u8 | address 16, of family 4 in its first 4 bytes

import { formatPrefix, type Prefix } from './prefix.js';

export const PREFIX_BYTES = 20;
const V4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

export class PrefixBatch {
  #memory = new Uint8Array(0);
  #length = 0;

  get count(): number {
    return this.#length / PREFIX_BYTES;
  }

  get bytes(): Uint8Array {
    return this.#memory.subarray(0, this.#length);
  }

  /** @param remove the prefix is to be taken away, where that has a meaning */
  add({ family, length, ip }: Prefix, remove = false): void {
    if (this.#length === this.#memory.length) {
      const grown = new Uint8Array(Math.max(this.#length * 2, PREFIX_BYTES));
      grown.set(this.#memory);
      this.#memory = grown;
    }
    this.#memory.set([family, length, remove ? 1 : 0], this.#length);
    this.#memory.set(family === 4 ? ip.subarray(12) : ip, this.#length + 4);
    this.#length += PREFIX_BYTES;
  }

  clear(): void {
    this.#length = 0;
  }
}

/** The text of each prefix in packed bytes, in order. */
export function* prefixTexts(packed: Uint8Array): Generator<string> {
  for (let at = 0; at < packed.length; at += PREFIX_BYTES) {
    const family = packed[at] === 4 ? 4 : 6;
    const address = packed.subarray(at + 4, at + PREFIX_BYTES);
    const ip = family === 4 ? Uint8Array.from([...V4_MAPPED, ...address.subarray(0, 4)]) : address;
    yield formatPrefix({ family, length: packed[at + 1] ?? 0, ip });
  }
}
