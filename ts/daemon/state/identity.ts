// A node's two private keys and the files they are kept in. Each file holds one bech32m text, so
// that a key that was cut short or mistyped is noticed.

import { randomBytes } from 'node:crypto';
import { bech32m } from '@scure/base';
import { encodePeerId } from '../../core/protocol/peer-id.js';
import { nodePrimitives } from '../../engine/node-primitives.js';
import { ExitCode, OperatorError, systemErrorCode } from '../../host/operator-error.js';
import { readPrivate, writePrivate, type StateDirectory } from './state-directory.js';

const IDENTITY_PREFIX = 'omerta-identity-secret';
const SESSION_PREFIX = 'omerta-session-secret';

export interface Identity {
  /** Ed25519 seed, 32 bytes. */
  readonly seed: Uint8Array;
  /** X25519 private key, 32 bytes. */
  readonly sessionPrivateKey: Uint8Array;
  /** Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** X25519 public key, 32 bytes. */
  readonly sessionPublicKey: Uint8Array;
  readonly peerId: string;
}

function identityOf(seed: Uint8Array, sessionPrivateKey: Uint8Array): Identity {
  const publicKey = nodePrimitives.ed25519PublicKey(seed);
  return {
    seed,
    sessionPrivateKey,
    publicKey,
    sessionPublicKey: nodePrimitives.x25519PublicKey(sessionPrivateKey),
    peerId: encodePeerId(publicKey),
  };
}

function readKey(path: string, prefix: string): Uint8Array | undefined {
  const text = readPrivate('identity', path);
  if (text === undefined) return undefined;
  const decoded = bech32m.decodeUnsafe(text.trim());
  const key = decoded?.prefix === prefix ? bech32m.fromWordsUnsafe(decoded.words) : undefined;
  if (key?.length !== 32)
    throw new OperatorError(
      ExitCode.usage,
      'identity',
      `${path} does not hold one whole "${prefix}1…" key`,
      'Restore it from a backup; or move both .key files away and type: omerta keygen',
    );
  return key;
}

/**
 * The identity kept in a state directory; undefined when there is none.
 * @throws OperatorError when a file is damaged, missing its twin, or readable by others.
 */
export function loadIdentity(state: StateDirectory): Identity | undefined {
  const seed = readKey(state.identityKey, IDENTITY_PREFIX);
  const sessionPrivateKey = readKey(state.sessionKey, SESSION_PREFIX);
  if (seed === undefined && sessionPrivateKey === undefined) return undefined;
  if (seed === undefined || sessionPrivateKey === undefined)
    throw new OperatorError(
      ExitCode.usage,
      'identity',
      `${seed === undefined ? state.identityKey : state.sessionKey} is missing while the other key is there`,
      'Restore it from a backup; or move the other key away and type: omerta keygen',
    );
  return identityOf(seed, sessionPrivateKey);
}

/**
 * Makes a new identity and writes it.
 * @throws OperatorError when there is one already: an identity is never overwritten.
 */
export function createIdentity(state: StateDirectory): Identity {
  state.prepare();
  const identity = identityOf(new Uint8Array(randomBytes(32)), new Uint8Array(randomBytes(32)));
  const files: [string, string, Uint8Array][] = [
    [state.sessionKey, SESSION_PREFIX, identity.sessionPrivateKey],
    [state.identityKey, IDENTITY_PREFIX, identity.seed],
  ];
  for (const [path, prefix, key] of files)
    try {
      writePrivate('identity', path, `${bech32m.encodeFromBytes(prefix, key)}\n`, 'create');
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
      throw new OperatorError(
        ExitCode.usage,
        'identity',
        `${path} exists and is never overwritten`,
        'Choose another directory with --state DIR (or --out DIR), or move the .key files away',
      );
    }
  return identity;
}

/** The identity kept in a state directory, made on the first call. */
export function loadOrCreateIdentity(state: StateDirectory): { identity: Identity; created: boolean } {
  state.prepare();
  const identity = loadIdentity(state);
  return identity === undefined
    ? { identity: createIdentity(state), created: true }
    : { identity, created: false };
}
