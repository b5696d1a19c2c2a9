// Real cryptography, of which nothing is done twice: OpenSSL takes a millisecond to read a key, the nodes of a world
// check each other's signatures, and worlds of one seed have the same keys. All of it is pure, so no run is another.

import type { Primitives } from '../../contract/primitives.js';
import { nodePrimitives } from '../../engine/node-primitives.js';
import { toHex } from '../../wire/bytes.js';

/** Results of each function that are kept; when there are as many, all are forgotten. */
const MOST_KEPT = 65_536;

/** `work`, done once for the same arguments. */
function memoised<A extends readonly Uint8Array[], R>(work: (...given: A) => R): (...given: A) => R {
  const kept = new Map<string, R>();
  return (...given) => {
    // All arguments but the last have one length each.
    const key = toHex(nodePrimitives.sha256(...given));
    const known = kept.get(key);
    if (known !== undefined) return copied(known);
    const result = work(...given);
    if (kept.size >= MOST_KEPT) kept.clear();
    kept.set(key, result);
    return copied(result);
  };
}

/** Whoever gets a key may erase it. */
function copied<R>(result: R): R {
  return result instanceof Uint8Array ? (new Uint8Array(result) as R & Uint8Array) : result;
}

const verified = memoised((publicKey: Uint8Array, signature: Uint8Array, message: Uint8Array) =>
  nodePrimitives.ed25519Verify(publicKey, message, signature),
);

export const memoisedPrimitives: Primitives = {
  ...nodePrimitives,
  ed25519PublicKey: memoised((seed: Uint8Array) => nodePrimitives.ed25519PublicKey(seed)),
  ed25519Sign: memoised((seed: Uint8Array, message: Uint8Array) => nodePrimitives.ed25519Sign(seed, message)),
  ed25519Verify: (publicKey, message, signature) =>
    publicKey.length === 32 && signature.length === 64 && verified(publicKey, signature, message),
  x25519PublicKey: memoised((key: Uint8Array) => nodePrimitives.x25519PublicKey(key)),
  x25519: memoised((key: Uint8Array, peer: Uint8Array) => nodePrimitives.x25519(key, peer)),
};
