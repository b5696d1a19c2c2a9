// The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (whitepaper 5.4.1 – 5.4.3, 5.4.5). Pure:
// ephemeral keys, indices and timestamps are arguments; mac1 and mac2 are left zero (cookie.ts).

import { hash, kdf1, kdf2, kdf3, open, seal, x25519, x25519PublicKey } from './primitives.js';
import {
  INITIATION_SIZE,
  RESPONSE_SIZE,
  TYPE_INITIATION,
  TYPE_RESPONSE,
  readU32,
  writeU32,
} from './messages.js';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const EMPTY = new Uint8Array(0);

const INITIAL_CHAINING_KEY = hash(text('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s'));
const INITIAL_HASH = hash(INITIAL_CHAINING_KEY, text('WireGuard v1 zx2c4 Jason@zx2c4.com'));
const LABEL_MAC1 = text('mac1----');
const LABEL_COOKIE = text('cookie--');

/** What everybody who knows a static public key can derive from it. */
export interface PublicIdentity {
  readonly publicKey: Uint8Array;
  /** Hash of a handshake in which this key is the responder. */
  readonly responderHash: Uint8Array;
  readonly mac1Key: Uint8Array;
  readonly cookieKey: Uint8Array;
}

export interface LocalIdentity extends PublicIdentity {
  readonly privateKey: Uint8Array;
}

export interface RemoteIdentity extends PublicIdentity {
  /** X25519 of both static keys. */
  readonly staticShared: Uint8Array;
  readonly presharedKey: Uint8Array;
}

export interface TransportKeys {
  readonly sending: Uint8Array;
  readonly receiving: Uint8Array;
}

/** What an initiator keeps until the response comes. */
export interface InitiatorState {
  readonly index: number;
  readonly ephemeralPrivate: Uint8Array;
  readonly chainingKey: Uint8Array;
  readonly hash: Uint8Array;
}

/** What a responder has after a valid initiation. */
export interface ResponderState {
  readonly remoteIndex: number;
  readonly remoteEphemeral: Uint8Array;
  readonly timestamp: Uint8Array;
  readonly chainingKey: Uint8Array;
  readonly hash: Uint8Array;
}

export function publicIdentity(publicKey: Uint8Array): PublicIdentity {
  return {
    publicKey,
    responderHash: hash(INITIAL_HASH, publicKey),
    mac1Key: hash(LABEL_MAC1, publicKey),
    cookieKey: hash(LABEL_COOKIE, publicKey),
  };
}

export function localIdentity(privateKey: Uint8Array): LocalIdentity {
  return { ...publicIdentity(x25519PublicKey(privateKey)), privateKey: Uint8Array.from(privateKey) };
}

/** Undefined when the public key is a low-order point: no secret could be shared with it. */
export function remoteIdentity(
  local: LocalIdentity,
  publicKey: Uint8Array,
  presharedKey: Uint8Array | undefined,
): RemoteIdentity | undefined {
  const staticShared = x25519(local.privateKey, publicKey);
  if (staticShared === undefined) return undefined;
  return {
    ...publicIdentity(Uint8Array.from(publicKey)),
    staticShared,
    presharedKey: presharedKey === undefined ? new Uint8Array(32) : Uint8Array.from(presharedKey),
  };
}

/** The first message (whitepaper 5.4.2); undefined when a DH result would be zero. */
export function createInitiation(
  local: LocalIdentity,
  remote: RemoteIdentity,
  index: number,
  ephemeralPrivate: Uint8Array,
  timestamp: Uint8Array,
): { readonly message: Uint8Array; readonly state: InitiatorState } | undefined {
  const ephemeralShared = x25519(ephemeralPrivate, remote.publicKey);
  if (ephemeralShared === undefined) return undefined;
  const ephemeral = x25519PublicKey(ephemeralPrivate);
  const message = new Uint8Array(INITIATION_SIZE);
  writeU32(message, 0, TYPE_INITIATION);
  writeU32(message, 4, index);
  message.set(ephemeral, 8);

  const mixed = kdf1(INITIAL_CHAINING_KEY, ephemeral);
  let transcript = hash(remote.responderHash, ephemeral);
  const [afterEphemeral, staticKey] = kdf2(mixed, ephemeralShared);
  const sealedStatic = seal(staticKey, 0n, local.publicKey, transcript);
  message.set(sealedStatic, 40);
  transcript = hash(transcript, sealedStatic);
  const [chainingKey, timestampKey] = kdf2(afterEphemeral, remote.staticShared);
  const sealedTimestamp = seal(timestampKey, 0n, timestamp, transcript);
  message.set(sealedTimestamp, 88);
  transcript = hash(transcript, sealedTimestamp);
  return { message, state: { index, ephemeralPrivate, chainingKey, hash: transcript } };
}

/**
 * Opens an initiation. `lookup` is asked for the peer once the sender's key is known.
 * @returns the state for a response, or why there is none
 */
export function consumeInitiation<Peer extends { readonly remote: RemoteIdentity }>(
  local: LocalIdentity,
  message: Uint8Array,
  lookup: (publicKey: Uint8Array) => Peer | undefined,
): { readonly peer: Peer; readonly state: ResponderState } | 'invalid' | 'unknown-peer' {
  const ephemeral = message.slice(8, 40);
  const sealedStatic = message.subarray(40, 88);
  const sealedTimestamp = message.subarray(88, 116);

  const mixed = kdf1(INITIAL_CHAINING_KEY, ephemeral);
  let transcript = hash(local.responderHash, ephemeral);
  const ephemeralShared = x25519(local.privateKey, ephemeral);
  if (ephemeralShared === undefined) return 'invalid';
  const [afterEphemeral, staticKey] = kdf2(mixed, ephemeralShared);
  const remoteStatic = open(staticKey, 0n, sealedStatic, transcript);
  if (remoteStatic === undefined) return 'invalid';
  const peer = lookup(remoteStatic);
  if (peer === undefined) return 'unknown-peer';
  transcript = hash(transcript, sealedStatic);
  const [chainingKey, timestampKey] = kdf2(afterEphemeral, peer.remote.staticShared);
  const timestamp = open(timestampKey, 0n, sealedTimestamp, transcript);
  if (timestamp === undefined) return 'invalid';
  transcript = hash(transcript, sealedTimestamp);
  return {
    peer,
    state: {
      remoteIndex: readU32(message, 4),
      remoteEphemeral: ephemeral,
      timestamp,
      chainingKey,
      hash: transcript,
    },
  };
}

/** The second message (whitepaper 5.4.3); undefined when a DH result would be zero. */
export function createResponse(
  remote: RemoteIdentity,
  initiation: ResponderState,
  index: number,
  ephemeralPrivate: Uint8Array,
): { readonly message: Uint8Array; readonly keys: TransportKeys } | undefined {
  const ephemeral = x25519PublicKey(ephemeralPrivate);
  const ephemeralShared = x25519(ephemeralPrivate, initiation.remoteEphemeral);
  const staticShared = x25519(ephemeralPrivate, remote.publicKey);
  if (ephemeralShared === undefined || staticShared === undefined) return undefined;
  const message = new Uint8Array(RESPONSE_SIZE);
  writeU32(message, 0, TYPE_RESPONSE);
  writeU32(message, 4, index);
  writeU32(message, 8, initiation.remoteIndex);
  message.set(ephemeral, 12);
  const mixed = mixResponse(initiation, ephemeral, ephemeralShared, staticShared, remote.presharedKey);
  message.set(seal(mixed.key, 0n, EMPTY, mixed.hash), 44);
  const [receiving, sending] = kdf2(mixed.chainingKey, EMPTY);
  return { message, keys: { sending, receiving } };
}

/** Opens the response to `initiation`; undefined when it is not authentic. */
export function consumeResponse(
  local: LocalIdentity,
  remote: RemoteIdentity,
  initiation: InitiatorState,
  message: Uint8Array,
): TransportKeys | undefined {
  const ephemeral = message.slice(12, 44);
  const ephemeralShared = x25519(initiation.ephemeralPrivate, ephemeral);
  const staticShared = x25519(local.privateKey, ephemeral);
  if (ephemeralShared === undefined || staticShared === undefined) return undefined;
  const mixed = mixResponse(initiation, ephemeral, ephemeralShared, staticShared, remote.presharedKey);
  if (open(mixed.key, 0n, message.subarray(44, 60), mixed.hash) === undefined) return undefined;
  const [sending, receiving] = kdf2(mixed.chainingKey, EMPTY);
  return { sending, receiving };
}

/** The second message's mixing, the same on both sides: e, ee, se, psk. */
function mixResponse(
  initiation: { readonly chainingKey: Uint8Array; readonly hash: Uint8Array },
  ephemeral: Uint8Array,
  ephemeralShared: Uint8Array,
  staticShared: Uint8Array,
  presharedKey: Uint8Array,
): { readonly chainingKey: Uint8Array; readonly key: Uint8Array; readonly hash: Uint8Array } {
  const afterEphemeral = kdf1(initiation.chainingKey, ephemeral);
  const afterShared = kdf1(afterEphemeral, ephemeralShared);
  const afterStatic = kdf1(afterShared, staticShared);
  const [chainingKey, temporary, key] = kdf3(afterStatic, presharedKey);
  return { chainingKey, key, hash: hash(hash(initiation.hash, ephemeral), temporary) };
}
