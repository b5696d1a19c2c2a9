// Peer id: bech32m (BIP 350) of an Ed25519 public key, human-readable part `omerta`. The checksum
// finds any four wrong characters.

import { bech32m } from '@scure/base';

const PREFIX = 'omerta';

/** The text form of a 32-byte identity. */
export function encodePeerId(identity: Uint8Array): string {
  if (identity.length !== 32) throw new RangeError(`identity: ${identity.length} bytes, 32 are needed`);
  return bech32m.encodeFromBytes(PREFIX, identity);
}

/**
 * The 32-byte identity a peer id names.
 * @throws Error that says what is wrong with the text and how to put it right.
 */
export function decodePeerId(text: string): Uint8Array {
  const decoded = bech32m.decodeUnsafe(text.trim());
  if (decoded === undefined)
    throw new Error(`peer id: "${text}" is not one or holds a typing error; copy it again from "omerta id"`);
  if (decoded.prefix !== PREFIX)
    throw new Error(`peer id: starts with "${decoded.prefix}1", a peer id starts with "${PREFIX}1"`);
  const identity = bech32m.fromWordsUnsafe(decoded.words);
  if (identity?.length !== 32)
    throw new Error(`peer id: "${text}" does not hold 32 bytes; copy it again from "omerta id"`);
  return identity;
}
