// SipHash-2-4 with a 64-bit result (Aumasson & Bernstein, "SipHash: a fast short-input PRF", 2012).
// 64-bit words are held as pairs of 32-bit halves: BigInt arithmetic allocates on every operation.

export const SIPHASH_KEY_SIZE = 16;

/** The 64-bit result as two unsigned 32-bit halves. */
export interface SipHashWords {
  readonly low: number;
  readonly high: number;
}

/**
 * SipHash-2-4 of `message` under a 16-byte key, as two halves (no BigInt is made).
 * @throws RangeError when the key is not 16 bytes.
 */
export function siphash24Words(key: Uint8Array, message: Uint8Array): SipHashWords {
  if (key.length !== SIPHASH_KEY_SIZE)
    throw new RangeError(`key: ${key.length} bytes given, SipHash takes 16`);
  const keys = new DataView(key.buffer, key.byteOffset, key.length);
  const k0l = keys.getUint32(0, true);
  const k0h = keys.getUint32(4, true);
  const k1l = keys.getUint32(8, true);
  const k1h = keys.getUint32(12, true);
  let v0l = k0l ^ 0x70736575;
  let v0h = k0h ^ 0x736f6d65;
  let v1l = k1l ^ 0x6e646f6d;
  let v1h = k1h ^ 0x646f7261;
  let v2l = k0l ^ 0x6e657261;
  let v2h = k0h ^ 0x6c796765;
  let v3l = k1l ^ 0x79746573;
  let v3h = k1h ^ 0x74656462;

  const rounds = (count: number): void => {
    for (let i = 0; i < count; i++) {
      let sum = (v0l >>> 0) + (v1l >>> 0);
      v0h = (v0h + v1h + (sum > 0xffffffff ? 1 : 0)) | 0;
      v0l = sum | 0;
      let low = (v1l << 13) | (v1h >>> 19);
      v1h = ((v1h << 13) | (v1l >>> 19)) ^ v0h;
      v1l = low ^ v0l;
      low = v0h; // rotation by 32 swaps the halves
      v0h = v0l;
      v0l = low;
      sum = (v2l >>> 0) + (v3l >>> 0);
      v2h = (v2h + v3h + (sum > 0xffffffff ? 1 : 0)) | 0;
      v2l = sum | 0;
      low = (v3l << 16) | (v3h >>> 16);
      v3h = ((v3h << 16) | (v3l >>> 16)) ^ v2h;
      v3l = low ^ v2l;
      sum = (v0l >>> 0) + (v3l >>> 0);
      v0h = (v0h + v3h + (sum > 0xffffffff ? 1 : 0)) | 0;
      v0l = sum | 0;
      low = (v3l << 21) | (v3h >>> 11);
      v3h = ((v3h << 21) | (v3l >>> 11)) ^ v0h;
      v3l = low ^ v0l;
      sum = (v2l >>> 0) + (v1l >>> 0);
      v2h = (v2h + v1h + (sum > 0xffffffff ? 1 : 0)) | 0;
      v2l = sum | 0;
      low = (v1l << 17) | (v1h >>> 15);
      v1h = ((v1h << 17) | (v1l >>> 15)) ^ v2h;
      v1l = low ^ v2l;
      low = v2h;
      v2h = v2l;
      v2l = low;
    }
  };
  const absorb = (low: number, high: number): void => {
    v3l ^= low;
    v3h ^= high;
    rounds(2);
    v0l ^= low;
    v0h ^= high;
  };

  const words = new DataView(message.buffer, message.byteOffset, message.length);
  const whole = message.length & ~7;
  for (let at = 0; at < whole; at += 8) absorb(words.getUint32(at, true), words.getUint32(at + 4, true));
  // The last word: what is left of the message, and its length modulo 256 in the top byte.
  const last = new Uint8Array(8);
  last.set(message.subarray(whole));
  last[7] = message.length & 0xff;
  const tail = new DataView(last.buffer);
  absorb(tail.getUint32(0, true), tail.getUint32(4, true));
  v2l ^= 0xff;
  rounds(4);
  return { low: (v0l ^ v1l ^ v2l ^ v3l) >>> 0, high: (v0h ^ v1h ^ v2h ^ v3h) >>> 0 };
}

/**
 * SipHash-2-4 of `message` under a 16-byte key.
 * @throws RangeError when the key is not 16 bytes.
 */
export function siphash24(key: Uint8Array, message: Uint8Array): bigint {
  const { low, high } = siphash24Words(key, message);
  return (BigInt(high) << 32n) | BigInt(low);
}
