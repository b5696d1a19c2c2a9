// The native engine behind the engine interface: C++ workers move the packets, this file moves
// events, table writes and counters across N-API, in batches over shared memory.

import {
  DEFAULT_STUN_PER_SECOND,
  EngineError,
  type Accelerator,
  type EngineDescription,
  type EngineEvent,
  type EngineOptions,
  type LegCounts,
  type LegStatus,
  type PeerChange,
  type PeerConfig,
  type PeerEndpoint,
  type PeerState,
  type PeerStatus,
  type ReconfigurableEngine,
  type WireguardBinding,
  type WireguardUsage,
  type SessionKey,
  type WorkerStatus,
} from '../../contract/engine.js';
import { EventRingReader } from './event-ring.js';
import { NATIVE_ACCELERATORS, acceleratorOf, acceleratorsOf } from './accelerators.js';
import { openFailure } from './open-failure.js';
import type { ExitControl } from '../../contract/exit-control.js';
import type { GuestControl } from '../../contract/guest-control.js';
import type { AccountStatus } from '../../contract/limit-control.js';
import { requirePaths, requirePorts, requireProbes } from '../../contract/path-arguments.js';
import type { PathControl } from '../../contract/path-control.js';
import { loadNativeAddon, type NativeAddon, type NativeHandle } from './native-addon.js';
import { packPaths, packPorts, packProbes, unpackPathCounts } from './path-batch.js';
import { exitControl } from './exit-batch.js';
import { guestControl, nativeGuest } from './guest-socket.js';
import { kernelPathSide } from './kernel-path-side.js';
import { packLegs } from './leg-batch.js';
import { packBindings, packControl, packFrames } from './message-batch.js';
import { keyBytes, packPeerChanges, unpackPeerStates } from './peer-batch.js';
import { shapingControl } from './shaping-batch.js';
import { WorkerRows } from './worker-rows.js';
import { PrefixBatch } from '../../wire/prefix-batch.js';
import type { Leg } from '../../wire/leg.js';
import { NO_ACCOUNTS } from '../../wire/forwarding-table.js';
import {
  encodeLimits,
  encodeRate,
  limitsOf,
  prefixRateOf,
  rateOf,
  type AccountKind,
  type LegLimits,
  type PrefixLimit,
  type RateLimit,
} from '../../wire/limits.js';
import { parsePrefix } from '../../wire/prefix.js';
import type { SocketAddress } from '../../wire/socket-address.js';

/** A whole configuration as a change. */
function changeOf(peer: PeerConfig): PeerChange {
  const allowedIps = new PrefixBatch();
  for (const text of peer.allowedIps) {
    const prefix = parsePrefix(text);
    if (prefix === undefined)
      throw new EngineError('BAD_ARGUMENT', `allowedIps: '${text}' is not a prefix such as 100.64.1.2/32`);
    allowedIps.add(prefix);
  }
  return {
    sessionKey: peer.sessionKey,
    remove: false,
    updateOnly: false,
    presharedKey: peer.presharedKey ?? null,
    endpoint: peer.endpoint,
    redirect: peer.redirect ?? false,
    persistentKeepalive: peer.persistentKeepalive,
    transit: peer.transit ?? 'any',
    replaceAllowedIps: true,
    allowedIps,
  };
}

/** What the offloads of a TUN interface would be like here; found out without making one that stays. */
export function testTunOffloads(): readonly Accelerator[] {
  return loadNativeAddon().testTunOffloads().map(acceleratorOf);
}

/** @throws EngineError; the code tells what to do about it. */
export function openNativeEngine(options: EngineOptions): NativeEngine {
  return new NativeEngine(loadNativeAddon(), options);
}

export class NativeEngine implements ReconfigurableEngine {
  readonly #handle: NativeHandle;
  readonly #disabled: ReadonlySet<string>;
  readonly #rows: WorkerRows;
  readonly exit: ExitControl;
  readonly guest: GuestControl | undefined;
  readonly paths: PathControl = {
    keepsWhole: true,
    setPaths: (sets) => {
      requirePaths(sets);
      this.#call(() => this.#handle.setPaths(packPaths(sets)));
    },
    setPorts: (ports) => {
      requirePorts(ports);
      this.#call(() => this.#handle.setPorts(packPorts(ports)));
    },
    sendProbes: (probes) => {
      requireProbes(probes);
      this.#call(() => this.#handle.sendProbes(packProbes(probes)));
    },
    pathCounts: (peer) => unpackPathCounts(this.#call(() => this.#handle.pathCounts(keyBytes(peer)))),
  };
  readonly shaping = shapingControl(
    () => this.#handle,
    (run) => this.#call(run),
  );
  /** For an engine that has the kernel path in front of this one. */
  readonly kernelPath = kernelPathSide(
    () => this.#handle,
    (run) => this.#call(run),
  );
  #description: EngineDescription;
  #closed = false;
  #listener: ((events: readonly EngineEvent[]) => void) | undefined;

  constructor(addon: NativeAddon, options: EngineOptions) {
    this.exit = exitControl(
      () => this.#handle,
      (run) => this.#call(run),
      options.stack !== undefined,
    );
    this.guest =
      options.guest &&
      guestControl(
        () => this.#handle,
        (run) => this.#call(run),
      );
    this.#disabled = new Set(options.disable ?? []);
    for (const name of this.#disabled) {
      if (!(NATIVE_ACCELERATORS as readonly string[]).includes(name)) {
        throw new EngineError(
          'BAD_ARGUMENT',
          `disable: '${name}' is not an accelerator. Known: ${NATIVE_ACCELERATORS.join(', ')}`,
        );
      }
    }
    const guest = options.guest && nativeGuest(options.guest);
    const ring: { reader?: EventRingReader } = {};
    try {
      this.#handle = new addon.NativeEngine(
        {
          privateKey: options.privateKey,
          port: options.port,
          bind: options.bind ?? '',
          workers: options.workers ?? 1,
          maxLegs: options.maxLegs,
          maxPeers: options.maxPeers,
          wireguardSessions: options.wireguardSessions ?? 0,
          ...(options.accounts ?? NO_ACCOUNTS),
          controlFramesPerSecond: options.controlFramesPerSecond,
          stunPerSecond: options.stunPerSecond ?? DEFAULT_STUN_PER_SECOND,
          ipsecMb: !this.#disabled.has('ipsec-mb'),
          io: this.#disabled.has('io-uring') ? 'mmsg' : (options.io ?? 'mmsg'),
          aes256Gcm: !this.#disabled.has('aes-256-gcm'),
          wideWindow: !this.#disabled.has('wide-window'),
          udpGro: !this.#disabled.has('udp-gro'),
          udpGso: !this.#disabled.has('udp-gso'),
          tunChecksumOffload: !this.#disabled.has('tun-checksum-offload'),
          tunTcpOffload: !this.#disabled.has('tun-tcp-offload'),
          tunUdpOffload: !this.#disabled.has('tun-udp-offload'),
          steering: !this.#disabled.has('steering'),
          keepSessionOnNewPresharedKey: options.keepSessionOnNewPresharedKey ?? false,
          portFollowsInterface: options.portFollowsInterface ?? false,
          tun: options.tun && { ...options.tun, up: options.tun.up ?? true },
          stack: options.stack,
          guest,
        },
        () => {
          const events = ring.reader?.drain() ?? [];
          if (events.length > 0) this.#listener?.(events);
        },
      );
    } catch (error) {
      throw openFailure(error, options.port);
    }
    try {
      ring.reader = new EventRingReader(this.#handle.eventMemory());
      this.#rows = new WorkerRows(addon, this.#handle.counterMemory(), this.#handle.instrumentMemory());
      this.#description = this.#describe();
    } catch (error) {
      this.#handle.close(); // an addon of another version: do not leave its workers running
      throw error;
    }
  }

  get port(): number {
    return this.#handle.port;
  }

  describe(): EngineDescription {
    if (!this.#closed) this.#description = this.#describe();
    return this.#description;
  }

  #describe(): EngineDescription {
    const native = this.#handle.describe();
    return {
      kind: 'native',
      summary: `native (C++20, ${native.workers} worker${native.workers === 1 ? '' : 's'})`,
      aead: native.aead,
      accelerators: acceleratorsOf(native, this.#disabled),
      tun: native.tun,
      stack: this.exit.stack !== undefined,
      guest: this.guest !== undefined,
      wireguardRelay: true,
    };
  }

  onEvents(listener: (events: readonly EngineEvent[]) => void): void {
    this.#listener = listener;
  }

  setPeers(peers: readonly PeerConfig[]): void {
    this.changePeers(peers.map(changeOf), false);
  }

  changePeers(changes: readonly PeerChange[], replace: boolean): void {
    const packed = packPeerChanges(changes);
    const fitted = this.#call(() => this.#handle.setPeers(packed, replace));
    packed.fill(0);
    if (!fitted) throw new EngineError('TABLE_FULL', 'peers: the session table is full (maxPeers)');
  }

  hasRoom(changes: readonly PeerChange[], replace: boolean): boolean {
    return this.#call(() => this.#handle.hasRoom(packPeerChanges(changes), replace));
  }

  peerStates(): Iterable<PeerState> {
    return unpackPeerStates(this.#call(() => this.#handle.exportPeers()));
  }

  removePeers(peers: readonly SessionKey[]): void {
    this.#call(() => this.#handle.removePeers(Buffer.concat(peers.map(keyBytes))));
  }

  installLegs(legs: readonly Leg[]): void {
    this.kernelPath.installPackedLegs(packLegs(legs));
  }

  removeLegs(ids: readonly number[]): void {
    this.#call(() => this.#handle.removeLegs(Uint32Array.from(ids)));
  }

  setLimits(index: number, limits: LegLimits): void {
    this.#call(() => this.#handle.setLimits(index, encodeLimits(limitsOf(limits))));
  }

  setAccountLimit(kind: AccountKind, index: number, limit: RateLimit | undefined): void {
    this.#call(() => this.#handle.setRate(kind === 'network', index, encodeRate(rateOf(limit, kind))));
  }

  resetAccount(kind: AccountKind, index: number): void {
    this.#call(() => this.#handle.resetAccount(kind === 'network', index));
  }

  setHostLimit(limit: RateLimit | undefined): void {
    this.#call(() => this.#handle.setHostRate(encodeRate(rateOf(limit, 'host'))));
  }

  setPrefixLimit(limit: PrefixLimit | undefined): void {
    this.#call(() => {
      const { rate, ipv4Bits, ipv6Bits } = prefixRateOf(limit);
      this.#handle.setPrefixRate(encodeRate(rate), ipv4Bits, ipv6Bits);
    });
  }

  accounts(kind: AccountKind): readonly AccountStatus[] {
    const counts = this.#call(() => this.#handle.accounts(kind === 'network'));
    const used: AccountStatus[] = [];
    for (let index = 0; index * 3 < counts.length; index++) {
      const [packets = 0, bytes = 0, refused = 0] = counts.subarray(index * 3, index * 3 + 3);
      if (packets > 0 || refused > 0) used.push({ index, packets, bytes, refused });
    }
    return used;
  }

  sendFrames(frames: readonly { readonly to: SocketAddress; readonly frame: Uint8Array }[]): void {
    this.#call(() => this.#handle.sendFrames(packFrames(frames)));
  }

  sendControl(messages: readonly { readonly peer: SessionKey; readonly payload: Uint8Array }[]): void {
    this.#call(() => this.#handle.sendControl(packControl(messages)));
  }

  handshake(peer: SessionKey): void {
    this.#call(() => this.#handle.handshake(keyBytes(peer)));
  }

  peers(): readonly PeerStatus[] {
    return this.#call(() => this.#handle.peers()).map((peer) => ({
      sessionKey: Buffer.from(peer.publicKey).toString('hex'),
      endpoint: endpointOf(peer.address, peer.leg),
      handshakeAgeMs: peer.handshakeAgeMs,
      lastReceivedMs: peer.lastReceivedMs,
      suite: peer.suite,
      replayWindow: peer.replayWindow,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
    }));
  }

  legs(): readonly LegStatus[] {
    return this.#call(() => this.#handle.legs()).map((leg) => ({
      id: leg.id,
      packets: leg.packets,
      bytes: leg.bytes,
      refused: leg.refused,
      idleMs: leg.idleMs,
    }));
  }

  legCounters(ids: readonly number[]): readonly (LegCounts | undefined)[] {
    const values = this.#call(() => this.#handle.legCounters(Uint32Array.from(ids)));
    return ids.map((_, index) => {
      const [present, packets = 0, bytes = 0, sentPackets = 0, sentBytes = 0] = values.subarray(index * 5);
      return present === 1 ? { packets, bytes, sentPackets, sentBytes } : undefined;
    });
  }

  setWireguardBindings(bindings: readonly WireguardBinding[]): void {
    this.#call(() => this.#handle.setWireguardBindings(packBindings(bindings)));
  }

  wireguardUsage(): readonly (WireguardUsage & { readonly number: number })[] {
    const values = this.#call(() => this.#handle.wireguardUsage());
    return Array.from({ length: values.length / 4 }, (_, index) => {
      const [sessions = 0, packets = 0, bytes = 0, number = 0] = values.subarray(index * 4);
      return { sessions, packets, bytes, number };
    });
  }

  counters(): ReadonlyMap<string, number> {
    return this.#rows.counters();
  }

  workers(): readonly WorkerStatus[] {
    return this.#rows.workers(this.#call(() => this.#handle.queues()));
  }

  rebind(port: number): void {
    this.#change(port, () => this.#handle.rebind(port));
  }

  openPort(): void {
    this.#change(this.port, () => this.#handle.openPort());
  }

  closePort(): void {
    this.#call(() => this.#handle.closePort());
  }

  putAddresses(): readonly string[] {
    return this.#call(() => this.#handle.putAddresses());
  }

  unroutedAddresses(): readonly string[] {
    return this.#call(() => this.#handle.unroutedAddresses());
  }

  setInterfaceDown(): void {
    this.#change(this.port, () => this.#handle.setInterfaceDown());
  }

  setFwmark(fwmark: number): void {
    this.#change(this.port, () => this.#handle.setFwmark(fwmark));
  }

  openSideSocket(ip: Uint8Array): number {
    return this.#call(() => this.#handle.openSideSocket(ip.subarray(12)));
  }

  setPrivateKey(privateKey: Uint8Array | undefined): void {
    this.#call(() => this.#handle.setPrivateKey(privateKey));
  }

  close(): Promise<void> {
    this.#listener = undefined;
    this.#closed = true;
    this.#handle.close();
    return Promise.resolve();
  }

  #change(port: number, run: () => void): void {
    try {
      this.#call(run);
    } catch (error) {
      throw error instanceof EngineError ? error : openFailure(error, port);
    }
  }

  #call<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (code === 'BAD_ARGUMENT' || code === 'CLOSED') throw new EngineError(code, (error as Error).message);
      if (error instanceof RangeError) throw new EngineError('BAD_ARGUMENT', error.message);
      throw error;
    }
  }
}

function endpointOf(address: Uint8Array | undefined, leg: number | undefined): PeerEndpoint | undefined {
  if (leg !== undefined && leg !== 0) return { leg };
  if (address === undefined) return undefined;
  return { address: { ip: address.slice(0, 16), port: (address[16] ?? 0) | ((address[17] ?? 0) << 8) } };
}
