// LZ4 as kernels are compressed with it: the "legacy frame" of lz4_Frame_format.md, of blocks of the format in
// lz4_Block_format.md, each of at most 8 MiB when it is unpacked.
//
//   0x184c2102 u32 | block …        block   length u32 | sequences (length bytes)
//   sequence   token u8 | [more of the literals' length u8 …] | literals | offset u16 | [more of the match's length u8 …]

const MAGIC = 0x184c2102;
const BLOCK_BYTES = 8 << 20;
const MIN_MATCH = 4;
/** A length in a token that goes on in the bytes after it. */
const CONTINUED = 15;

/** Whether it begins as a legacy frame does. */
export function isLz4Legacy(data: Uint8Array): boolean {
  return data.length > 8 && Buffer.from(data.buffer, data.byteOffset, 4).readUInt32LE() === MAGIC;
}

class Broken extends Error {
  constructor() {
    super('its LZ4 data is broken');
  }
}

/** Unpacks one block into `target` from `at` on. @returns where it ended */
function unpackBlock(block: Uint8Array, target: Uint8Array, start: number): number {
  let from = 0;
  let at = start;
  const next = (): number => {
    const byte = block[from++];
    if (byte === undefined) throw new Broken();
    return byte;
  };
  const length = (nibble: number): number => {
    let sum = nibble;
    if (nibble === CONTINUED) for (let more = 255; more === 255; sum += more) more = next();
    return sum;
  };
  while (from < block.length) {
    const token = next();
    const literals = length(token >> 4);
    if (from + literals > block.length || at + literals > target.length) throw new Broken();
    target.set(block.subarray(from, from + literals), at);
    from += literals;
    at += literals;
    if (from === block.length) break; // the last sequence has no match
    const offset = next() | (next() << 8);
    const match = length(token & CONTINUED) + MIN_MATCH;
    if (offset === 0 || offset > at - start || at + match > target.length) throw new Broken();
    // Byte by byte where it repeats what it is just writing.
    if (offset >= match) target.copyWithin(at, at - offset, at - offset + match);
    else for (let i = 0; i < match; i++) target[at + i] = target[at + i - offset] ?? 0;
    at += match;
  }
  return at;
}

/**
 * Unpacks a legacy frame; what follows its last whole block is left out, as the length a kernel's build appends is.
 * @param maxBytes what it may become
 * @throws Error when the data is broken, or would become more
 */
export function unpackLz4Legacy(data: Uint8Array, maxBytes: number): Buffer {
  const view = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const blocks: Buffer[] = [];
  let total = 0;
  for (let at = 4; at + 4 <= view.length;) {
    const length = view.readUInt32LE(at);
    if (at + 4 + length > view.length || length === 0) break;
    const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, maxBytes - total));
    const end = unpackBlock(view.subarray(at + 4, at + 4 + length), block, 0);
    blocks.push(block.subarray(0, end));
    total += end;
    at += 4 + length;
  }
  if (total === 0) throw new Broken();
  return Buffer.concat(blocks);
}
