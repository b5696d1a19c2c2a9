// A seeded source of random bytes: xoshiro128** (Blackman & Vigna, "Scrambled linear pseudorandom
// number generators", 2021), seeded by splitmix32. For simulations only: it is not secret.

export class Prng {
  readonly #state: Uint32Array;

  constructor(seed: number) {
    this.#state = new Uint32Array(4);
    let x = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0;
      let z = x;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      this.#state[i] = z ^ (z >>> 15);
    }
  }

  /** A uniform unsigned 32-bit number. */
  u32(): number {
    const s = this.#state;
    const [a = 0, b = 0, c = 0, d = 0] = s;
    const scrambled = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    const c1 = c ^ a;
    const d1 = d ^ b;
    s[1] = b ^ c1;
    s[0] = a ^ d1;
    s[2] = c1 ^ t;
    s[3] = rotate(d1, 11);
    return scrambled;
  }

  /** A uniform number in [0, 1). */
  fraction(): number {
    return this.u32() / 2 ** 32;
  }

  /** A uniform whole number in [min, max]. */
  integer(min: number, max: number): number {
    return min + Math.floor(this.fraction() * (max - min + 1));
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const view = new DataView(bytes.buffer);
    let at = 0;
    for (; at + 4 <= length; at += 4) view.setUint32(at, this.u32(), true);
    for (; at < length; at++) bytes[at] = this.u32() & 0xff;
    return bytes;
  }
}

function rotate(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}
