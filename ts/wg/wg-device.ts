// A WireGuard device as `wg` sees it: what was configured, merged with what the engine knows. The
// engine holds the peers only while there is a private key; without one nobody can be talked to.

import {
  EngineError,
  type PeerConfig,
  type ReconfigurableEngine,
  type SessionKey,
} from '../engine/engine.js';
import type { SocketAddress } from '../wire/socket-address.js';
import {
  Errno,
  UapiError,
  type DeviceChange,
  type DeviceState,
  type PeerChange,
  type PeerState,
} from './uapi.js';

/** What the device asks of its engine. */
export type WgEngine = Pick<
  ReconfigurableEngine,
  'port' | 'setPeers' | 'removePeers' | 'peers' | 'rebind' | 'setFwmark' | 'setPrivateKey'
>;

export interface WgDeviceOptions {
  /** Opened with a private key nobody knows and without peers. */
  readonly engine: WgEngine;
  readonly maxPeers: number;
  x25519PublicKey(privateKey: Uint8Array): Uint8Array;
  random(length: number): Uint8Array;
  /** Milliseconds since 1970. */
  wallClock(): number;
}

/** A clock that is read twice does not make one handshake two. */
const SAME_HANDSHAKE_MS = 250;

interface Peer {
  readonly publicKey: SessionKey;
  presharedKey: Uint8Array | undefined;
  persistentKeepalive: number;
  readonly allowedIps: Set<string>;
  /** To be told to the engine, which then knows better: the peer may roam. */
  endpoint: SocketAddress | undefined;
  lastHandshake: number | undefined;
  /** Counted before the engine forgot the peer, with its last private key. */
  rxBytes: number;
  txBytes: number;
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
  readonly #peers = new Map<SessionKey, Peer>();
  /** Which peer a prefix was given to last. */
  readonly #owners = new Map<string, Peer>();
  #privateKey: Uint8Array | undefined;
  #publicKey: SessionKey | undefined;
  #fwmark = 0;

  constructor(options: WgDeviceOptions) {
    this.#options = options;
    this.#engine = options.engine;
  }

  /** Carries out a `set`. @throws UapiError; then nothing was changed. */
  apply(change: DeviceChange): void {
    const privateKey =
      change.privateKey === undefined ? this.#privateKey : change.privateKey && clamped(change.privateKey);
    const ownKey = this.#publicKeyOf(privateKey ?? undefined);
    this.#requireRoom(change, ownKey);
    this.#reopen(change);
    const removed = new Set<SessionKey>();
    const changed = new Set<Peer>();
    if (!sameBytes(privateKey ?? undefined, this.#privateKey)) {
      this.#changeIdentity(privateKey ?? undefined, ownKey);
      for (const peer of this.#peers.values()) changed.add(peer);
    }
    const remove = (peer: Peer): void => {
      this.#forget(peer);
      changed.delete(peer);
      removed.add(peer.publicKey);
    };
    if (change.replacePeers) for (const peer of [...this.#peers.values()]) remove(peer);
    const self = ownKey === undefined ? undefined : this.#peers.get(ownKey);
    if (self !== undefined) remove(self);
    for (const entry of change.peers) {
      const known = this.#peers.get(entry.publicKey);
      if (entry.remove) {
        if (known !== undefined) remove(known);
      } else if (entry.publicKey !== ownKey && (known !== undefined || !entry.updateOnly)) {
        this.#changePeer(known ?? this.#addPeer(entry.publicKey), entry, changed);
      }
    }
    this.#engine.removePeers([...removed]);
    if (this.#privateKey !== undefined) this.#tellEngine(changed);
  }

  /** What a `get` shows. */
  state(): DeviceState {
    const known = new Map(this.#engine.peers().map((status) => [status.sessionKey, status]));
    const now = this.#options.wallClock();
    const peers = [...this.#peers.values()].map((peer): PeerState => {
      const status = known.get(peer.publicKey);
      if (status?.handshakeAgeMs !== undefined) {
        const at = now - status.handshakeAgeMs;
        if (Math.abs(at - (peer.lastHandshake ?? 0)) > SAME_HANDSHAKE_MS) peer.lastHandshake = at;
      }
      const endpoint = status?.endpoint;
      return {
        publicKey: peer.publicKey,
        presharedKey: peer.presharedKey,
        endpoint: endpoint !== undefined && 'address' in endpoint ? endpoint.address : peer.endpoint,
        lastHandshake: peer.lastHandshake,
        rxBytes: peer.rxBytes + (status?.rxBytes ?? 0),
        txBytes: peer.txBytes + (status?.txBytes ?? 0),
        persistentKeepalive: peer.persistentKeepalive,
        allowedIps: peer.allowedIps,
      };
    });
    return { privateKey: this.#privateKey, listenPort: this.#engine.port, fwmark: this.#fwmark, peers };
  }

  #publicKeyOf(privateKey: Uint8Array | undefined): SessionKey | undefined {
    if (privateKey === undefined) return undefined;
    if (privateKey === this.#privateKey) return this.#publicKey;
    return Buffer.from(this.#options.x25519PublicKey(privateKey)).toString('hex');
  }

  #requireRoom(change: DeviceChange, ownKey: SessionKey | undefined): void {
    const keys = new Set(change.replacePeers ? [] : this.#peers.keys());
    for (const { publicKey, remove, updateOnly } of change.peers) {
      if (remove) keys.delete(publicKey);
      else if (!updateOnly && publicKey !== ownKey) keys.add(publicKey);
    }
    if (keys.size > this.#options.maxPeers)
      throw new UapiError(Errno.ENOSPC, `public_key: more than ${this.#options.maxPeers} peers`);
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

  /** The engine forgets its peers with the old key: what it knew is kept here. */
  #changeIdentity(privateKey: Uint8Array | undefined, publicKey: SessionKey | undefined): void {
    for (const state of this.state().peers) {
      const peer = this.#peers.get(state.publicKey);
      if (peer !== undefined)
        Object.assign(peer, { endpoint: state.endpoint, rxBytes: state.rxBytes, txBytes: state.txBytes });
    }
    this.#engine.setPrivateKey(privateKey ?? this.#options.random(32));
    this.#privateKey?.fill(0);
    this.#privateKey = privateKey;
    this.#publicKey = publicKey;
  }

  #addPeer(publicKey: SessionKey): Peer {
    const peer: Peer = {
      publicKey,
      presharedKey: undefined,
      persistentKeepalive: 0,
      allowedIps: new Set(),
      endpoint: undefined,
      lastHandshake: undefined,
      rxBytes: 0,
      txBytes: 0,
    };
    this.#peers.set(publicKey, peer);
    return peer;
  }

  #forget(peer: Peer): void {
    for (const prefix of peer.allowedIps) this.#owners.delete(prefix);
    peer.presharedKey?.fill(0);
    this.#peers.delete(peer.publicKey);
  }

  #changePeer(peer: Peer, change: PeerChange, changed: Set<Peer>): void {
    changed.add(peer);
    if (change.presharedKey !== undefined) peer.presharedKey = change.presharedKey ?? undefined;
    peer.endpoint = change.endpoint ?? peer.endpoint;
    peer.persistentKeepalive = change.persistentKeepalive ?? peer.persistentKeepalive;
    if (change.replaceAllowedIps) {
      for (const prefix of peer.allowedIps) this.#owners.delete(prefix);
      peer.allowedIps.clear();
    }
    for (const { prefix, remove } of change.allowedIps) {
      const owner = this.#owners.get(prefix);
      if (remove) {
        if (owner !== peer) continue;
        this.#owners.delete(prefix);
        peer.allowedIps.delete(prefix);
      } else if (owner !== peer) {
        owner?.allowedIps.delete(prefix);
        if (owner !== undefined) changed.add(owner);
        this.#owners.set(prefix, peer);
        peer.allowedIps.add(prefix);
      }
    }
  }

  #tellEngine(changed: ReadonlySet<Peer>): void {
    const configs = [...changed].map((peer): PeerConfig => ({
      sessionKey: peer.publicKey,
      presharedKey: peer.presharedKey,
      allowedIps: [...peer.allowedIps],
      endpoint: peer.endpoint && { address: peer.endpoint },
      persistentKeepalive: peer.persistentKeepalive,
    }));
    // Those who give prefixes away first: that is quicker than having them taken one by one.
    configs.sort((a, b) => a.allowedIps.length - b.allowedIps.length);
    this.#engine.setPeers(configs);
    for (const peer of changed) peer.endpoint = undefined;
  }
}
