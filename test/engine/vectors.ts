// Known-answer vectors, read from the source tree (the compiler copies no data files).

import { readFileSync } from 'node:fs';

const read = (file: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../../test/engine/vectors/${file}`, import.meta.url), 'utf8'));

const vectors = read('wireguard.json') as Record<string, string | number>;

/** Frames of docs/protocol.md, "Suites". */
export const suiteFrames = read('suites.json') as {
  readonly initiatorsOffer: string;
  readonly proofs: readonly string[];
};

export function vectorBytes(name: string): Uint8Array {
  const value = vectors[name];
  if (typeof value !== 'string') throw new Error(`no vector ${name}`);
  return fromHex(value);
}

export function vectorNumber(name: string): number {
  const value = vectors[name];
  if (typeof value !== 'number') throw new Error(`no vector ${name}`);
  return value;
}

export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
