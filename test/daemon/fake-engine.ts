// An engine that moves nothing and writes down what it was asked, for tests of the shell around it.

import type {
  Engine,
  EngineDescription,
  EngineEvent,
  LegCounts,
  LegStatus,
  PeerConfig,
  PeerStatus,
  SessionKey,
  WireguardBinding,
  WireguardUsage,
  WorkerStatus,
} from '../../ts/contract/engine.js';
import type { AccountStatus } from '../../ts/contract/limit-control.js';
import type { Leg } from '../../ts/wire/leg.js';
import type { AccountKind, PrefixLimit, RateLimit } from '../../ts/wire/limits.js';
import type { SocketAddress } from '../../ts/wire/socket-address.js';

export class FakeEngine implements Engine {
  readonly calls: string[] = [];
  /** Calls that throw this time. */
  readonly failing = new Set<string>();
  closed = false;
  #listener: (events: readonly EngineEvent[]) => void = () => undefined;

  constructor(readonly port = 51900) {}

  #note(name: string, what: readonly (string | number)[]): void {
    this.calls.push(`${name} ${what.join(',')}`);
    if (this.failing.has(name)) throw new Error(`${name} refused`);
  }

  describe(): EngineDescription {
    return {
      kind: 'wasm',
      summary: 'fake <engine>',
      aead: 'none',
      accelerators: [{ name: 'warp', state: 'unavailable', reason: 'no <drive>', remedy: 'wait' }],
      tun: undefined,
      wireguardRelay: false,
    };
  }
  onEvents(listener: (events: readonly EngineEvent[]) => void): void {
    this.#listener = listener;
  }
  emit(events: readonly EngineEvent[]): void {
    this.#listener(events);
  }
  setPeers(peers: readonly PeerConfig[]): void {
    this.#note(
      'setPeers',
      peers.map(({ sessionKey }) => sessionKey),
    );
  }
  removePeers(peers: readonly SessionKey[]): void {
    this.#note('removePeers', peers);
  }
  installLegs(legs: readonly Leg[]): void {
    this.#note(
      'installLegs',
      legs.map(({ id }) => id),
    );
  }
  removeLegs(ids: readonly number[]): void {
    this.#note('removeLegs', ids);
  }
  setLimits(index: number): void {
    this.#note('setLimits', [index]);
  }
  setAccountLimit(kind: AccountKind, index: number): void {
    this.#note('setAccountLimit', [kind, index]);
  }
  resetAccount(kind: AccountKind, index: number): void {
    this.#note('resetAccount', [kind, index]);
  }
  setHostLimit(limit: RateLimit | undefined): void {
    this.#note('setHostLimit', [limit?.bytesPerSecond ?? 'none']);
  }
  setPrefixLimit(limit: PrefixLimit | undefined): void {
    this.#note('setPrefixLimit', [limit?.bytesPerSecond ?? 'none']);
  }
  accounts(): readonly AccountStatus[] {
    return [];
  }
  sendFrames(frames: readonly { readonly to: SocketAddress; readonly frame: Uint8Array }[]): void {
    this.#note(
      'sendFrames',
      frames.map(({ to }) => to.port),
    );
  }
  sendControl(messages: readonly { readonly peer: SessionKey; readonly payload: Uint8Array }[]): void {
    this.#note(
      'sendControl',
      messages.map(({ peer }) => peer),
    );
  }
  handshake(peer: SessionKey): void {
    this.#note('handshake', [peer]);
  }
  peers(): readonly PeerStatus[] {
    return [];
  }
  legs(): readonly LegStatus[] {
    return [];
  }
  workers(): readonly WorkerStatus[] {
    return [{ name: '0', counters: this.counters(), queues: undefined, latency: undefined }];
  }
  legCounters(ids: readonly number[]): readonly (LegCounts | undefined)[] {
    this.#note('legCounters', ids);
    return ids.map(() => ({ packets: 1, bytes: 2, sentPackets: 3, sentBytes: 4 }));
  }
  setWireguardBindings(bindings: readonly WireguardBinding[]): void {
    this.#note(
      'setWireguardBindings',
      bindings.map(({ address }) => address.port),
    );
  }
  wireguardUsage(): readonly WireguardUsage[] {
    return [];
  }
  counters(): ReadonlyMap<string, number> {
    return new Map([
      ['rx_bytes', 7],
      ['drop_bad_tag', 3],
    ]);
  }
  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}
