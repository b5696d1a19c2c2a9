// The core's cryptography (ts/contract/primitives.ts) over node:crypto, that is OpenSSL.

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  sign,
  timingSafeEqual,
  verify,
  type KeyObject,
} from 'node:crypto';
import type { Primitives } from '../contract/primitives.js';

// RFC 8410: the fixed DER prefixes before the 32 bytes of a private key.
const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex');
const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const TAG_SIZE = 16;

/**
 * OpenSSL takes over a millisecond to read a private key, longer than to use it. The few a node has
 * are kept as long as the caller keeps the array; such an array must not be written to.
 */
const privateKeys = new WeakMap<Uint8Array, Map<Buffer, KeyObject>>();

function privateKey(prefix: Buffer, key: Uint8Array): KeyObject {
  let known = privateKeys.get(key);
  if (known === undefined) {
    known = new Map();
    privateKeys.set(key, known);
  }
  let object = known.get(prefix);
  if (object === undefined) {
    object = readPrivateKey(prefix, key);
    known.set(prefix, object);
  }
  return object;
}

function readPrivateKey(prefix: Buffer, key: Uint8Array): KeyObject {
  const der = Buffer.concat([prefix, key]);
  const object = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  der.fill(0);
  return object;
}

/** As JWK (RFC 8037): OpenSSL takes ten times as long to read the same 32 bytes out of DER. */
function publicKey(crv: 'Ed25519' | 'X25519', key: Uint8Array): KeyObject {
  const x = Buffer.from(key.buffer, key.byteOffset, key.length).toString('base64url');
  return createPublicKey({ key: { kty: 'OKP', crv, x }, format: 'jwk' });
}

/** The 32 raw bytes of the public half of a private key. */
function rawPublicKey(key: KeyObject): Uint8Array {
  return plain(Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url'));
}

/** A plain Uint8Array: a Buffer would reach the core with Buffer's own methods. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

export const nodePrimitives: Primitives = {
  ed25519PublicKey: (seed) => rawPublicKey(privateKey(PKCS8_ED25519, seed)),

  ed25519Sign: (seed, message) => plain(sign(null, message, privateKey(PKCS8_ED25519, seed))),

  ed25519Verify(key, message, signature) {
    if (key.length !== 32 || signature.length !== 64) return false;
    try {
      return verify(null, message, publicKey('Ed25519', key), signature);
    } catch {
      return false; // not a point of the curve
    }
  },

  x25519PublicKey: (key) => rawPublicKey(privateKey(PKCS8_X25519, key)),

  x25519(key, peer) {
    try {
      const shared = diffieHellman({
        privateKey: privateKey(PKCS8_X25519, key),
        publicKey: publicKey('X25519', peer),
      });
      return shared.every((byte) => byte === 0) ? undefined : plain(shared);
    } catch {
      return undefined; // OpenSSL refuses low-order points itself
    }
  },

  sha256(...parts) {
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    return plain(hash.digest());
  },

  hmacSha256(key, ...parts) {
    const hmac = createHmac('sha256', key);
    for (const part of parts) hmac.update(part);
    return plain(hmac.digest());
  },

  hkdfSha256: (key, info, length) => new Uint8Array(hkdfSync('sha256', key, new Uint8Array(0), info, length)),

  aeadSeal(key, nonce, plaintext, associated) {
    const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_SIZE });
    cipher.setAAD(associated, { plaintextLength: plaintext.length });
    return plain(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]));
  },

  aeadOpen(key, nonce, sealed, associated) {
    if (sealed.length < TAG_SIZE) return undefined;
    const length = sealed.length - TAG_SIZE;
    const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_SIZE });
    decipher.setAAD(associated, { plaintextLength: length });
    decipher.setAuthTag(sealed.subarray(length));
    try {
      return plain(Buffer.concat([decipher.update(sealed.subarray(0, length)), decipher.final()]));
    } catch {
      return undefined;
    }
  },

  equal: (a, b) => a.length === b.length && timingSafeEqual(a, b),
};
