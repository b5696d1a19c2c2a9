// The cryptography policy and protocol are made of, as a table of functions: the core takes it as an
// argument, so that it imports no implementation.

/** Cryptography the core needs, given to it by the shell (node:crypto) or the simulator. All pure. */
export interface Primitives {
  /** Ed25519 (RFC 8032). Keys 32 bytes (seed), signatures 64. */
  ed25519PublicKey(seed: Uint8Array): Uint8Array;
  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array;
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  /** X25519 (RFC 7748). x25519 returns undefined for an all-zero result. */
  x25519PublicKey(privateKey: Uint8Array): Uint8Array;
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
  sha256(...parts: readonly Uint8Array[]): Uint8Array;
  hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array;
  /** HKDF-SHA256 (RFC 5869), empty salt. */
  hkdfSha256(key: Uint8Array, info: string, length: number): Uint8Array;
  /** ChaCha20-Poly1305 (RFC 8439), 12-byte nonce; open returns undefined when it does not verify. */
  aeadSeal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array;
  aeadOpen(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
    associated: Uint8Array,
  ): Uint8Array | undefined;
  /** Compares equal-length secrets in constant time; false when lengths differ. */
  equal(a: Uint8Array, b: Uint8Array): boolean;
}
