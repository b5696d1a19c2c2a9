// Known answers: RFC 7693, RFC 7748, draft-irtf-cfrg-xchacha-03, and Node's own OpenSSL.

import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { test } from 'node:test';
import {
  equal,
  hash,
  kdf3,
  mac,
  open,
  seal,
  x25519,
  x25519PublicKey,
  xopen,
  xseal,
} from '../../ts/engine/wasm/primitives.js';
import { fromHex, toHex } from './vectors.js';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

test('BLAKE2s of "abc" is the digest of RFC 7693 appendix B', () => {
  assert.equal(toHex(hash(text('abc'))), '508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982');
});

test('BLAKE2s over parts equals OpenSSL over the whole', () => {
  for (const size of [0, 1, 63, 64, 65, 148, 1000]) {
    const input = new Uint8Array(size).fill(size & 0xff);
    const expected = createHash('blake2s256').update(input).digest();
    assert.equal(toHex(hash(input.subarray(0, size >> 1), input.subarray(size >> 1))), toHex(expected));
  }
});

test('keyed BLAKE2s with 16 bytes of output matches hashlib.blake2s(key, digest_size=16)', () => {
  const key = Uint8Array.from({ length: 32 }, (_, index) => index);
  assert.equal(toHex(mac(key, new Uint8Array(0))), '9536f9b267655743dee97b8a670f9f53');
  assert.equal(toHex(mac(key.subarray(0, 16), text('abc'))), '75296c2d2c0f51210b383f386bc8b1ff');
});

test('the KDF is HKDF over HMAC-BLAKE2s, computed here with OpenSSL', () => {
  const key = new Uint8Array(32).fill(7);
  const input = text('input');
  const hmac = (k: Uint8Array, ...parts: Uint8Array[]): Buffer =>
    createHmac('blake2s256', k).update(Buffer.concat(parts)).digest();
  const secret = hmac(key, input);
  const first = hmac(secret, Uint8Array.of(1));
  const second = hmac(secret, first, Uint8Array.of(2));
  const third = hmac(secret, second, Uint8Array.of(3));
  assert.deepEqual(kdf3(key, input).map(toHex), [first, second, third].map(toHex));
});

test('X25519 gives the keys and the shared secret of RFC 7748 section 6.1', () => {
  const alice = fromHex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a');
  const bob = fromHex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb');
  assert.equal(
    toHex(x25519PublicKey(alice)),
    '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a',
  );
  const bobPublic = x25519PublicKey(bob);
  assert.equal(toHex(bobPublic), 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
  const shared = x25519(alice, bobPublic);
  assert.ok(shared !== undefined);
  assert.equal(toHex(shared), '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742');
});

test('every low-order point is refused instead of giving a zero secret', () => {
  const lowOrder = [
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  ];
  const privateKey = new Uint8Array(32).fill(0x42);
  for (const point of lowOrder) assert.equal(x25519(privateKey, fromHex(point)), undefined, point);
});

test('XChaCha20-Poly1305 matches draft-irtf-cfrg-xchacha-03 appendix A.3.1', () => {
  const key = Uint8Array.from({ length: 32 }, (_, index) => 0x80 + index);
  const nonce = Uint8Array.from({ length: 24 }, (_, index) => 0x40 + index);
  const associated = fromHex('50515253c0c1c2c3c4c5c6c7');
  const plain = text(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const sealed = xseal(key, nonce, plain, associated);
  assert.equal(
    toHex(sealed),
    'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb' +
      '731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452' +
      '2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9' +
      '21f9664c97637da9768812f615c68b13b52e' +
      'c0875924c1c7987947deafd8780acf49',
  );
  assert.deepEqual(xopen(key, nonce, sealed, associated), plain);
  assert.equal(xopen(key, nonce, sealed, associated.subarray(1)), undefined);
});

test('opening fails for another counter, another key or a changed byte', () => {
  const key = new Uint8Array(32).fill(1);
  const sealed = seal(key, 5n, text('payload'));
  assert.deepEqual(open(key, 5n, sealed), text('payload'));
  assert.equal(open(key, 6n, sealed), undefined);
  assert.equal(open(key, 5n + 2n ** 32n, sealed), undefined, 'the counter is 64 bit');
  assert.equal(open(new Uint8Array(32).fill(2), 5n, sealed), undefined);
  sealed[0] = (sealed[0] ?? 0) ^ 1;
  assert.equal(open(key, 5n, sealed), undefined);
});

test('comparison of macs is false for different lengths and does not throw', () => {
  assert.equal(equal(new Uint8Array(16), new Uint8Array(15)), false);
  assert.equal(equal(new Uint8Array(16), new Uint8Array(16)), true);
});
