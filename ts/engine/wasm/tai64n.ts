// TAI64N timestamps (https://cr.yp.to/libtai/tai64.html): big-endian u64 seconds, u32 nanoseconds.

/** 2^62, and the 10 s by which TAI led UTC in 1970. */
const TAI_EPOCH = 2n ** 62n + 10n;
/** Low bits of the nanoseconds left zero (steps of 16.8 ms), so that a stranger does not read the clock's fine drift. */
const WHITENED_BITS = 24n;

/** 12 bytes. */
export type Tai64n = Uint8Array;

/**
 * The 12-byte timestamp of a wall clock in ms since 1970, whitened. It is strictly greater than
 * `after` even when the clock has not moved a step or was set back.
 */
export function tai64n(wallClock: number, after: Tai64n | undefined): Tai64n {
  let nanoseconds = BigInt(Math.floor(wallClock)) * 1_000_000n;
  let stamp = encode(nanoseconds);
  if (after !== undefined && !isLater(stamp, after)) {
    nanoseconds = decode(after) + 2n ** WHITENED_BITS;
    stamp = encode(nanoseconds);
  }
  return stamp;
}

function encode(nanosecondsSince1970: bigint): Tai64n {
  const stamp = new Uint8Array(12);
  const view = new DataView(stamp.buffer);
  view.setBigUint64(0, TAI_EPOCH + nanosecondsSince1970 / 1_000_000_000n);
  const fraction = nanosecondsSince1970 % 1_000_000_000n;
  view.setUint32(8, Number((fraction >> WHITENED_BITS) << WHITENED_BITS));
  return stamp;
}

function decode(stamp: Tai64n): bigint {
  const view = new DataView(stamp.buffer, stamp.byteOffset);
  return (view.getBigUint64(0) - TAI_EPOCH) * 1_000_000_000n + BigInt(view.getUint32(8));
}

/** Whether `a` is strictly later than `b`: the bytes are ordered as the times are. */
export function isLater(a: Tai64n, b: Tai64n): boolean {
  for (let i = 0; i < 12; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
