// Peer id: bech32m (BIP 350) of an Ed25519 public key, human-readable part `omerta`. The checksum
// finds any four wrong characters.

import { bech32m } from '@scure/base';
import { CoreError } from './core-error.js';

const PREFIX = 'omerta';

/** The text form of a 32-byte identity. */
export function encodePeerId(identity: Uint8Array): string {
  if (identity.length !== 32) throw new RangeError(`identity: ${identity.length} bytes, 32 are needed`);
  return bech32m.encodeFromBytes(PREFIX, identity);
}

/**
 * The 32-byte identity a peer id names.
 * @throws CoreError
 */
export function decodePeerId(text: string): Uint8Array {
  const decoded = bech32m.decodeUnsafe(text.trim());
  if (decoded === undefined) throw new CoreError('peer-id-damaged');
  if (decoded.prefix !== PREFIX) throw new CoreError('peer-id-prefix');
  const identity = bech32m.fromWordsUnsafe(decoded.words);
  if (identity?.length !== 32) throw new CoreError('peer-id-length');
  return identity;
}
