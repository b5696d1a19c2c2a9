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
  /** Those of a TUN interface only where there is one, steering only while the port is open. */
  readonly accelerators: readonly NativeAccelerator[];
  /** Towards so many peers segmented messages are not used, though udp-gso is on. */
  readonly peersWithoutGso: number;
  // Of the sockets: not there while the port is closed.
  readonly receiveBufferBytes?: number;
  readonly sendBufferBytes?: number;
  readonly tun?: string;
}

/** What made an accelerator be demoted (native/engine/accelerators.h, Fault), for one peer only by `lost-to-peer`. */
export type NativeFault = 'refused' | 'lost' | 'lost-to-peer' | 'corrupted' | 'wrong-header' | 'broken';

/** Why an accelerator is on or not (native/common/reason.h); a demoted one has a NativeFault. */
export type NativeReason =
  | 'switched-off'
  | 'mmsg-asked-for'
  | 'one-worker'
  | 'steered'
  | 'self-test-passed' // detail: what does it; number: datagrams
  | 'self-test-failed' // detail: what was seen
  | 'untested' // detail: why it could not be
  | 'untested-without' // detail: the accelerator it takes
  | 'nothing-passes'
  | 'measured' // detail: ns a datagram of io_uring and mmsg; number: their ratio
  | 'needs' // detail: the accelerator it takes
  | 'needs-linux' // detail: a version
  | 'needs-cpu' // detail: instructions
  | 'not-installed' // detail: a library
  | 'not-built-in' // detail: a library
  | 'sysctl' // detail: its name; number: its value
  | 'forbidden'
  | 'locked-memory'
  | 'call-refused' // detail: a call; number: errno
  | 'failed'; // detail: what the kernel said

export interface NativeAccelerator {
  readonly name: string;
  readonly state: 'on' | 'off' | 'unavailable' | 'demoted';
  readonly reason: NativeReason | NativeFault;
  readonly detail: string;
  readonly number: number;
}

/** What failed (native/common/step_failed.h). */
export type NativeStep =
  | 'tun-device'
  | 'tun-create'
  | 'tun-offloads'
  | 'tun-mtu'
  | 'tun-flags'
  | 'tun-up'
  | 'tun-addresses'
  | 'tun-address'
  | 'tun-name'
  | 'tun-route'
  | 'socket'
  | 'bind'
  | 'fwmark'
  | 'guest-socket';

export interface NativeStepFailure extends Error {
  readonly code: 'STEP_FAILED';
  readonly step: NativeStep;
  readonly subject: string;
  readonly errno: number;
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
        readonly channel?: number | undefined;
      }
    | undefined;
  readonly stack?: { readonly addresses: readonly string[]; readonly mtu: number } | undefined;
  readonly guest?:
    | {
        readonly socket: NativeGuestSocket;
        readonly addresses: readonly string[];
        readonly mac: Uint8Array;
        readonly mtu: number;
      }
    | undefined;
}

/** native/addon/engine_calls.h; packed formats are described in the files of its groups. */
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
  setExitRules(rules: Uint8Array, lan: Uint8Array): void;
  setExitGuests(guests: Uint8Array): void;
  setExitNames(names: Uint8Array): void;
  /** Connections, ports for datagrams, refused, flows and datagrams too fast; empty without a stack. */
  exitCounts(): Float64Array;
  setGuestNames(names: Uint8Array): void;
  handshake(peer: Uint8Array): boolean;
  sendControl(batch: Uint8Array): number;
  sendFrames(batch: Uint8Array): void;
  setPaths(sets: Uint8Array): void;
  setPorts(ports: Uint8Array): void;
  sendProbes(probes: Uint8Array): void;
  pathCounts(peer: Uint8Array): Float64Array;
  setShaping(shaping: Uint8Array): void;
  /** Empty: nothing is said of the peer; else the ten numbers of native/addon/shaping_calls.cc. */
  shapingCounts(peer: Uint8Array): Float64Array;
  setCeilings(ceilings: Uint8Array): void;
  /** Bytes sent and waiting of each. */
  ceilingCounts(): Float64Array;
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
  mirrorDoor(file: number): void;
  shareWindows(files: Int32Array): void;
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
  unroutedAddresses(): readonly string[];
  setInterfaceDown(): void;
  setFwmark(fwmark: number): void;
  openSideSocket(address: Uint8Array): number;
  setPrivateKey(key: Uint8Array | undefined): void;
  close(): void;
}

/** Where QEMU connects a virtual machine (native/guest/guest_socket.h). */
export interface NativeGuestSocket {
  /** Connected, connections, refused, bad lengths, bytes read and written, frames read and written. */
  readonly counts: () => Float64Array;
  readonly close: () => void;
}

/** Joined TCP connections (native/exit/stream_relay.h). */
export interface NativeStreamRelay {
  /**
   * Joins the sockets of two descriptors, of which it opens descriptors of its own: nobody reads or writes by them here any more.
   * @returns what the pair is called, or below 0 the errno
   */
  readonly join: (a: number, b: number) => number;
  /** Cuts a pair off, without a word; nothing happens when it has ended. */
  readonly cut: (pair: number) => void;
}

export interface NativeAddon {
  /**
   * @param ended a pair is no more. `isCut`: it was cut off in one of its connections
   * @param idleMs a pair by which nothing came for so long is cut off
   */
  readonly StreamRelay: new (
    ended: (pair: number, isCut: boolean) => void,
    idleMs: number,
  ) => NativeStreamRelay;
  /** @param uid who alone may connect; below 0: whom the file's mode permits */
  readonly GuestSocket: new (path: string, uid: number) => NativeGuestSocket;
  readonly NativeEngine: new (options: NativeOptions, drain: () => void) => NativeHandle;
  /** Runs the self-test of a TUN interface's offloads without one. */
  readonly testTunOffloads: () => readonly NativeAccelerator[];
  /** 16 bytes each of the addresses of all interfaces, those without a carrier too. */
  readonly localAddresses: () => readonly Uint8Array[];
  /** Sends a datagram to a service manager's socket, as $NOTIFY_SOCKET names it. @returns 0, or the errno */
  readonly notifyService: (socket: string, text: string) => number;
  /** Both ends of a channel to a helper (native/exit/channel.h), or an errno alone. */
  readonly openChannel: () => readonly number[];
  /** How the helper at the other end began. Waits for it. */
  readonly helperBeginning: (channel: number) => {
    readonly error: number;
    readonly step: string;
    readonly descriptors: readonly number[];
  };
  /**
   * A socket of the helper's namespace, as socket(2) has it, bound when there is an address (4 or 16 bytes), listening
   * then when it is one of streams; below 0: the errno.
   */
  readonly openSocket: (
    channel: number,
    family: number,
    type: number,
    protocol: number,
    ...bound: [] | [address: Uint8Array, port: number, transparent: boolean]
  ) => number;
  /**
   * The next datagram or ping of up to four transparent sockets, in turns: whom it is of and whom it was for (ip 16 | port u16
   * little-endian each, together a flow), then its data. Of a ping that is the ICMP message, the identifier is the first port,
   * and the other is 0. Waits for one; undefined after so many ms without.
   */
  readonly receiveDatagram: (sockets: readonly number[], timeoutMs: number) => Uint8Array | undefined;
  /** A raw socket of ICMP gives echo requests alone from now on. @returns 0, or the errno */
  readonly takeEchoRequests: (socket: number, ipv6: boolean) => number;
  /** A socket of the machine for datagrams, or for pings (icmp(7)); below 0: the errno. */
  readonly openMachineSocket: (ipv6: boolean, ping: boolean) => number;
  /**
   * Sends by such a socket, to ip 16 | port u16 little-endian. @returns 0; 1 where the network has said something of an earlier
   * one, which is to be read; below 0 the errno
   */
  readonly sendByMachineSocket: (socket: number, to: Uint8Array, data: Uint8Array) => number;
  /**
   * What the network says of a datagram that was sent by such a socket: ip 16 | port u16 little-endian | why u8 (UNREACHABLE, or
   * 255: it may have arrived) | what is known of its data; undefined = nothing more.
   */
  readonly nextSocketError: (socket: number) => Uint8Array | undefined;
  /** What a socket for pings gave, by a raw socket to the guest whose flow it is of. @returns 0, or the errno */
  readonly sendEchoReply: (raw: number, flow: Uint8Array, reply: Uint8Array) => number;
  /**
   * By a raw socket, that a guest's datagram, or ping where the flow leads to port 0, went no further: with its data, or what is
   * known of it, and why (UNREACHABLE). @returns 0, or the errno
   */
  readonly sendUnreachable: (raw: number, flow: Uint8Array, data: Uint8Array, why: number) => number;
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
