// Known-answer vectors, read from the source tree (the compiler copies no data files).

import { readFileSync } from 'node:fs';

const path = new URL('../../../test/engine/vectors/wireguard.json', import.meta.url);
const vectors = JSON.parse(readFileSync(path, 'utf8')) as Record<string, string | number>;

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
