// Finds and loads the C++ addon: a build in this tree first, then a prebuilt one that came with the
// package (prebuilds/<platform>-<arch>/, the layout of node-gyp-build).

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { EngineError, type IoChoice } from '../../contract/engine.js';
import { packageRoot } from '../../host/version.js';

export interface NativePeerStatus {
  readonly publicKey: Uint8Array;
  readonly address?: Uint8Array;
  readonly leg?: number;
  readonly handshakeAgeMs?: number;
  readonly lastReceivedMs?: number;
  readonly suite?: 'ChaCha20-Poly1305' | 'AES-256-GCM';
  readonly replayWindow?: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

export interface NativeDescription {
  readonly workers: number;
  readonly indexSlots: number;
  readonly aead: string;
  readonly ipsecMb: boolean;
  readonly ipsecMbReason: string;
  /** `mmsg` or `io_uring`: the socket engine in use; empty while the port is closed. */
  readonly io: string;
  /** It was wanted, and the kernel, its settings or this build refuse it. */
  readonly ioRefused: boolean;
  readonly ioReason: string;
  /** Empty when nothing has to be typed. */
  readonly ioRemedy: string;
  readonly accelerators: readonly NativeAccelerator[];
  /** Of io-uring and ipsec-mb those given up while the engine ran. */
  readonly demoted: readonly NativeAccelerator[];
  readonly aes256Gcm: boolean;
  readonly aes256GcmReason: string;
  // Of the sockets: not there while the port is closed.
  readonly receiveBufferBytes?: number;
  readonly sendBufferBytes?: number;
  readonly steering?: boolean;
  readonly steeringReason?: string;
  readonly tun?: string;
}

export interface NativeAccelerator {
  readonly name: string;
  readonly state: 'on' | 'off' | 'unavailable' | 'demoted';
  readonly reason: string;
}

export interface NativeOptions {
  readonly privateKey: Uint8Array;
  readonly port: number;
  readonly bind: string;
  readonly workers: number;
  readonly maxLegs: number;
  readonly maxPeers: number;
  readonly wireguardSessions: number;
  readonly identities: number;
  readonly networks: number;
  readonly classes: number;
  readonly controlFramesPerSecond: number;
  readonly stunPerSecond: number;
  readonly ipsecMb: boolean;
  readonly io: IoChoice;
  readonly aes256Gcm: boolean;
  readonly wideWindow: boolean;
  readonly udpGro: boolean;
  readonly udpGso: boolean;
  readonly tunChecksumOffload: boolean;
  readonly tunTcpOffload: boolean;
  readonly tunUdpOffload: boolean;
  readonly steering: boolean;
  readonly keepSessionOnNewPresharedKey: boolean;
  readonly portFollowsInterface: boolean;
  readonly tun?:
    | {
        readonly name: string;
        readonly addresses: readonly string[];
        readonly mtu: number;
        readonly up: boolean;
      }
    | undefined;
}

/** native/addon/addon.cc; packed formats are described there. */
export interface NativeHandle {
  readonly port: number;
  eventMemory(): ArrayBuffer;
  counterMemory(): ArrayBuffer;
  instrumentMemory(): ArrayBuffer;
  queues(): Uint32Array;
  describe(): NativeDescription;
  setPeers(changes: Uint8Array, replace: boolean): boolean;
  hasRoom(changes: Uint8Array, replace: boolean): boolean;
  exportPeers(): Uint8Array;
  removePeers(keys: Uint8Array): void;
  handshake(peer: Uint8Array): boolean;
  sendControl(batch: Uint8Array): number;
  sendFrames(batch: Uint8Array): void;
  installLegs(legs: Uint8Array): boolean;
  removeLegs(ids: Uint32Array): void;
  setLimits(index: number, limits: Uint8Array): void;
  setRate(network: boolean, index: number, rate: Uint8Array): void;
  resetAccount(network: boolean, index: number): void;
  setHostRate(rate: Uint8Array): void;
  setPrefixRate(rate: Uint8Array, ipv4Bits: number, ipv6Bits: number): void;
  /** Packets, bytes and refused of each account, one after the other. */
  accounts(network: boolean): Float64Array;
  peers(): readonly NativePeerStatus[];
  legs(): readonly { id: number; packets: number; bytes: number; refused: number; idleMs?: number }[];
  mirrorIndices(file: number): void;
  mirrorExpected(file: number): void;
  shareAccounts(files: Int32Array): void;
  /** For each id: 1 or 0 (no such leg), packets, bytes, sent packets, sent bytes. */
  legCounters(ids: Uint32Array): Float64Array;
  setWireguardBindings(bindings: Uint8Array): void;
  /** Sessions, packets, bytes, number of each. */
  wireguardUsage(): Float64Array;
  /** Another number after every change of wireguardRoutes(). */
  wireguardChanges(): number;
  /** Packed routes (omerta/wireguard_relay.h), as XdpHandle takes and gives them. */
  wireguardRoutes(): Uint8Array;
  adoptWireguardRoutes(routes: Uint8Array): void;
  addWireguardCarried(ended: Uint8Array): void;
  rebind(port: number): void;
  openPort(): void;
  closePort(): void;
  putAddresses(): readonly string[];
  setInterfaceDown(): void;
  setFwmark(fwmark: number): void;
  setPrivateKey(key: Uint8Array | undefined): void;
  close(): void;
}

export interface NativeAddon {
  readonly NativeEngine: new (options: NativeOptions, drain: () => void) => NativeHandle;
  /** Runs the self-test of a TUN interface's offloads without one. */
  readonly testTunOffloads: () => readonly NativeAccelerator[];
  readonly counterNames: readonly string[];
  readonly counterRowBytes: number;
  readonly instrumentRowBytes: number;
  readonly latencyBuckets: number;
  /** The first bucket holds latencies up to 2 to this many ns. */
  readonly latencyFirstBits: number;
}

export const addonPaths: readonly string[] = [
  join(packageRoot(), 'build', 'native', 'omerta.node'),
  join(packageRoot(), 'prebuilds', `${process.platform}-${process.arch}`, 'omerta.node'),
];

let loaded: NativeAddon | undefined;

/** @throws EngineError ENGINE_UNAVAILABLE when there is none or it does not load. */
export function loadNativeAddon(): NativeAddon {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  const failures: string[] = [];
  for (const path of addonPaths.filter((candidate) => existsSync(candidate))) {
    try {
      loaded = require(path) as NativeAddon;
      return loaded;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  const why = failures.length === 0 ? 'the addon is not built' : failures.join('; ');
  throw new EngineError('ENGINE_UNAVAILABLE', `native engine: ${why}. Type: npm run build`);
}
