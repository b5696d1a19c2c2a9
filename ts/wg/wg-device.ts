// A WireGuard device as `wg` sees it. The engine holds the peers and all that is known about them; here
// is what concerns the device as a whole, and in which order a change is carried out.

import { EngineError, type ReconfigurableEngine, type SessionKey } from '../contract/engine.js';
import { Errno, UapiError, type DeviceChange, type DeviceState } from './uapi.js';

/** What the device asks of its engine. */
export type WgEngine = Pick<
  ReconfigurableEngine,
  'port' | 'changePeers' | 'hasRoom' | 'removePeers' | 'peerStates' | 'rebind' | 'setFwmark' | 'setPrivateKey'
>;

export interface WgDeviceOptions {
  readonly engine: WgEngine;
  /** Shown in refusals. */
  readonly maxPeers: number;
  x25519PublicKey(privateKey: Uint8Array): Uint8Array;
}

/** X25519 keys have five fixed bits (RFC 7748, section 5); `wg` shows them fixed. */
function clamped(key: Uint8Array): Uint8Array {
  const out = Uint8Array.from(key);
  out[0] = (out[0] ?? 0) & 248;
  out[31] = ((out[31] ?? 0) & 127) | 64;
  return out;
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}

export class WgDevice {
  readonly #options: WgDeviceOptions;
  readonly #engine: WgEngine;
  #privateKey: Uint8Array | undefined;
  #publicKey: SessionKey | undefined;
  #fwmark = 0;

  /** The device has no private key, and so no handshakes, until `apply` gives it one. */
  constructor(options: WgDeviceOptions) {
    this.#options = options;
    this.#engine = options.engine;
    this.#engine.setPrivateKey(undefined);
  }

  /** Carries out a `set`. @throws UapiError; then nothing was changed. */
  apply(change: DeviceChange): void {
    const privateKey =
      change.privateKey === undefined
        ? this.#privateKey
        : change.privateKey === null
          ? undefined
          : clamped(change.privateKey);
    const ownKey = this.#publicKeyOf(privateKey);
    // A device does not talk to itself: WireGuard ignores a peer with its own public key.
    const peers = change.peers.filter(({ sessionKey, remove }) => remove || sessionKey !== ownKey);
    if (!this.#engine.hasRoom(peers, change.replacePeers))
      throw new UapiError(Errno.ENOSPC, `public_key: more than ${this.#options.maxPeers} peers`);
    this.#reopen(change);
    if (!sameBytes(privateKey, this.#privateKey)) {
      this.#engine.setPrivateKey(privateKey);
      this.#privateKey?.fill(0);
      this.#privateKey = privateKey;
      this.#publicKey = ownKey;
    }
    this.#engine.changePeers(peers, change.replacePeers);
    if (ownKey !== undefined) this.#engine.removePeers([ownKey]);
  }

  /** What a `get` shows. */
  state(): DeviceState {
    return {
      privateKey: this.#privateKey,
      listenPort: this.#engine.port,
      fwmark: this.#fwmark,
      peers: this.#engine.peerStates(),
    };
  }

  #publicKeyOf(privateKey: Uint8Array | undefined): SessionKey | undefined {
    if (privateKey === undefined) return undefined;
    if (privateKey === this.#privateKey) return this.#publicKey;
    return Buffer.from(this.#options.x25519PublicKey(privateKey)).toString('hex');
  }

  /** What can fail although the request is right comes first, and is taken back. */
  #reopen({ listenPort, fwmark }: DeviceChange): void {
    try {
      if (fwmark !== undefined && fwmark !== this.#fwmark) this.#engine.setFwmark(fwmark);
      try {
        if (listenPort !== undefined && listenPort !== this.#engine.port) this.#engine.rebind(listenPort);
      } catch (error) {
        this.#engine.setFwmark(this.#fwmark);
        throw error;
      }
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      throw new UapiError(error.code === 'PORT_IN_USE' ? Errno.EADDRINUSE : Errno.EIO, error.message);
    }
    this.#fwmark = fwmark ?? this.#fwmark;
  }
}
