import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isLz4Legacy, unpackLz4Legacy } from '../../ts/provider/image/lz4-legacy.js';

/** What a block says: bytes as they are, and then some of what was just written once more. */
interface Sequence {
  readonly literals: Uint8Array;
  readonly back: number;
  readonly match: number;
}

/** The bytes of a length beyond what its half of the token holds. */
function more(length: number): number[] {
  if (length < 15) return [];
  const rest = length - 15;
  return [...new Array<number>(Math.floor(rest / 255)).fill(255), rest % 255];
}

function token(literals: number, match: number): number {
  return (Math.min(literals, 15) << 4) | Math.min(match, 15);
}

/** A block of these sequences, written by the format's words, and what it stands for. */
function block(sequences: readonly Sequence[], last: Uint8Array): { packed: Buffer; plain: Buffer } {
  const packed: number[] = [];
  const plain: number[] = [];
  for (const { literals, back, match } of sequences) {
    plain.push(...literals);
    packed.push(token(literals.length, match), ...more(literals.length), ...literals);
    const offset = 1 + (back % Math.min(plain.length, 0xffff));
    packed.push(offset & 0xff, offset >> 8, ...more(match));
    for (let i = 0; i < match + 4; i++) plain.push(plain[plain.length - offset] ?? 0);
  }
  plain.push(...last);
  packed.push(token(last.length, 0), ...more(last.length), ...last);
  return { packed: Buffer.from(packed), plain: Buffer.from(plain) };
}

function framed(blocks: readonly Buffer[]): Buffer {
  const length = (of: Buffer): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(of.length);
    return bytes;
  };
  return Buffer.concat([
    Buffer.from([0x02, 0x21, 0x4c, 0x18]),
    ...blocks.flatMap((each) => [length(each), each]),
  ]);
}

const bytes = (minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength });
const sequence = fc.record({ literals: bytes(1, 600), back: fc.nat(2000), match: fc.nat(600) });
const blocks = fc.array(fc.tuple(fc.array(sequence, { maxLength: 8 }), bytes(5, 300)), {
  minLength: 1,
  maxLength: 4,
});

describe('LZ4 as kernels are compressed with it', () => {
  it('unpacks every block to what it stands for, and leaves out what is behind them', () => {
    fc.assert(
      fc.property(blocks, bytes(0, 3), (each, behind) => {
        const made = each.map(([sequences, last]) => block(sequences, last));
        const data = Buffer.concat([framed(made.map(({ packed }) => packed)), behind]);
        assert.ok(isLz4Legacy(data));
        assert.deepEqual(unpackLz4Legacy(data, 1 << 20), Buffer.concat(made.map(({ plain }) => plain)));
      }),
    );
  });

  it('takes no more than it may become', () => {
    const { packed, plain } = block(
      [{ literals: Uint8Array.of(1, 2, 3), back: 0, match: 4000 }],
      Buffer.alloc(8),
    );
    assert.equal(unpackLz4Legacy(framed([packed]), plain.length).length, plain.length);
    assert.throws(() => unpackLz4Legacy(framed([packed]), plain.length - 1), /broken/);
  });

  it('refuses what is no LZ4, whatever it is, without reading or writing beside it', () => {
    fc.assert(
      fc.property(bytes(0, 400), (data) => {
        const all = Buffer.concat([framed([]), data]);
        try {
          unpackLz4Legacy(all, 1 << 16);
        } catch (error) {
          assert.match(String(error), /broken/);
        }
      }),
    );
    assert.throws(() => unpackLz4Legacy(framed([Buffer.from([0x10, 1, 0, 0])]), 100), /broken/, 'offset 0');
    assert.throws(
      () => unpackLz4Legacy(framed([Buffer.from([0x10, 1, 9, 0])]), 100),
      /broken/,
      'before its begin',
    );
    assert.throws(() => unpackLz4Legacy(framed([Buffer.from([0xf0])]), 100), /broken/, 'cut off');
    assert.throws(() => unpackLz4Legacy(framed([]), 100), /broken/, 'empty');
  });
});
