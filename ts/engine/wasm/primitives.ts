// The cryptography WireGuard is made of (whitepaper 5.4), from libsodium and noble. Importing this
// module waits for libsodium's own WebAssembly to be compiled.

import { timingSafeEqual } from 'node:crypto';
import { blake2s } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import sodium from 'libsodium-wrappers';

await sodium.ready;

const EMPTY: Uint8Array = new Uint8Array(0);

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** BLAKE2s-256 (RFC 7693) of the joined parts. */
export function hash(...parts: readonly Uint8Array[]): Uint8Array {
  return blake2s(concat(...parts));
}

/** Keyed BLAKE2s with 16 bytes of output; key up to 32 bytes. */
export function mac(key: Uint8Array, input: Uint8Array): Uint8Array {
  return blake2s(input, { key, dkLen: 16 });
}

function extend(secret: Uint8Array, previous: Uint8Array, step: number): Uint8Array {
  return hmac(blake2s, secret, concat(previous, Uint8Array.of(step)));
}

/** HKDF over HMAC-BLAKE2s with one 32-byte key of output (whitepaper 5.4: KDF_1). */
export function kdf1(key: Uint8Array, input: Uint8Array): Uint8Array {
  return extend(hmac(blake2s, key, input), EMPTY, 1);
}

/** KDF_2. */
export function kdf2(key: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array] {
  const secret = hmac(blake2s, key, input);
  const first = extend(secret, EMPTY, 1);
  return [first, extend(secret, first, 2)];
}

/** KDF_3. */
export function kdf3(key: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  const secret = hmac(blake2s, key, input);
  const first = extend(secret, EMPTY, 1);
  const second = extend(secret, first, 2);
  return [first, second, extend(secret, second, 3)];
}

/** Compares in constant time; false when the lengths differ. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** X25519 (RFC 7748) of the base point. */
export function x25519PublicKey(privateKey: Uint8Array): Uint8Array {
  return sodium.crypto_scalarmult_base(privateKey);
}

/** X25519; undefined when the result is all zero (a low-order public key). */
export function x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  try {
    return sodium.crypto_scalarmult(privateKey, publicKey);
  } catch {
    return undefined; // libsodium refuses low-order points itself
  }
}

/** The 12-byte nonce of a counter: four zero bytes, then little-endian u64 (whitepaper 5.4). */
function counterNonce(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter, true);
  return nonce;
}

/** ChaCha20-Poly1305 (RFC 8439). */
export function seal(key: Uint8Array, counter: bigint, plain: Uint8Array, associated = EMPTY): Uint8Array {
  return sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
    plain,
    associated,
    null,
    counterNonce(counter),
    key,
  );
}

/** Undefined when the tag does not verify. */
export function open(
  key: Uint8Array,
  counter: bigint,
  sealed: Uint8Array,
  associated = EMPTY,
): Uint8Array | undefined {
  try {
    return sodium.crypto_aead_chacha20poly1305_ietf_decrypt(
      null,
      sealed,
      associated,
      counterNonce(counter),
      key,
    );
  } catch {
    return undefined;
  }
}

/** XChaCha20-Poly1305, 24-byte nonce. */
export function xseal(
  key: Uint8Array,
  nonce: Uint8Array,
  plain: Uint8Array,
  associated: Uint8Array,
): Uint8Array {
  return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, associated, null, nonce, key);
}

/** Undefined when the tag does not verify. */
export function xopen(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  try {
    return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealed, associated, nonce, key);
  } catch {
    return undefined;
  }
}
