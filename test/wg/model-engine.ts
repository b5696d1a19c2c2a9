// An engine that keeps what it is told, for tests of the device in front of it.

import { EngineError, type PeerConfig, type PeerStatus, type SessionKey } from '../../ts/engine/engine.js';
import type { WgEngine } from '../../ts/wg/wg-device.js';

export class ModelEngine implements WgEngine {
  port = 40000;
  fwmark = 0;
  privateKey: Uint8Array = new Uint8Array(32);
  readonly configs = new Map<SessionKey, PeerConfig>();
  readonly statuses = new Map<SessionKey, Partial<PeerStatus>>();
  readonly takenPorts = new Set<number>();

  setPeers(peers: readonly PeerConfig[]): void {
    for (const peer of peers) this.configs.set(peer.sessionKey, peer);
  }
  removePeers(peers: readonly SessionKey[]): void {
    for (const peer of peers) {
      this.configs.delete(peer);
      this.statuses.delete(peer);
    }
  }
  peers(): readonly PeerStatus[] {
    return [...this.configs.values()].map(({ sessionKey, endpoint }) => ({
      sessionKey,
      endpoint,
      handshakeAgeMs: undefined,
      lastReceivedMs: undefined,
      suite: undefined,
      replayWindow: undefined,
      rxBytes: 0,
      txBytes: 0,
      ...this.statuses.get(sessionKey),
    }));
  }
  rebind(port: number): void {
    if (this.takenPorts.has(port)) throw new EngineError('PORT_IN_USE', 'port: taken');
    this.port = port === 0 ? 40001 : port;
  }
  setFwmark(fwmark: number): void {
    this.fwmark = fwmark;
  }
  setPrivateKey(privateKey: Uint8Array): void {
    this.privateKey = Uint8Array.from(privateKey);
    this.configs.clear();
    this.statuses.clear();
  }
}
