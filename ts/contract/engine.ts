// The engine interface: what TypeScript may ask of whoever moves the packets, and what it hears.
// Implementations: native-engine.ts (C++ addon), wasm-engine.ts (AssemblyScript over node:dgram).
// Nothing else in ts/ opens a mesh socket, and a data packet never crosses this interface.

import type { Leg, LegCharging } from '../wire/leg.js';
import type { AccountCapacity } from '../wire/limits.js';
import type { SocketAddress } from '../wire/socket-address.js';
import type { LimitControl } from './limit-control.js';
import type { GuestControl, GuestOptions } from './guest-control.js';
import type { ExitControl, Transit } from './exit-control.js';
import type { PathControl, PathEvent } from './path-control.js';
import type { ShapingControl } from './shaping-control.js';
import type { PrefixBatch } from '../wire/prefix-batch.js';

/** A peer's X25519 session public key, lower-case hex (64 digits): the key of every peer table. */
export type SessionKey = string;

/** Where a peer is reached: an address, or a local `deliver` leg by whose way back it is reached. */
export type PeerEndpoint = { readonly address: SocketAddress } | { readonly leg: number };

export interface PeerConfig {
  readonly sessionKey: SessionKey;
  /** 32 bytes; undefined = none (all zero on the wire). */
  readonly presharedKey: Uint8Array | undefined;
  /** CIDR prefixes (`100.64.1.2/32`, `fd00::1/128`) routed to and accepted from this peer. */
  readonly allowedIps: readonly string[];
  /**
   * Undefined leaves the present endpoint as it is. While a session runs, its packets go on to where it was
   * heard last: only handshakes go here, in turns with there, until one completes.
   */
  readonly endpoint: PeerEndpoint | undefined;
  /** Packets of a running session go to `endpoint` at once, too. Default false. */
  readonly redirect?: boolean | undefined;
  /** Seconds between persistent keepalives, 0 = off. */
  readonly persistentKeepalive: number;
  /** What its packets may be for; default `any`. */
  readonly transit?: Transit | undefined;
}

export interface TunOptions {
  /** Interface name, 1–15 characters. */
  readonly name: string;
  /** Addresses with prefix length, e.g. `100.64.1.2/10`. */
  readonly addresses: readonly string[];
  /** Inner MTU, 576–65535. */
  readonly mtu: number;
  /** Whether the engine brings the interface up (default); false leaves that to somebody else. */
  readonly up?: boolean | undefined;
  /**
   * Descriptor of a channel to the helper of a private network: the interface is made there, and is the way to
   * everywhere in it. Native engine only.
   */
  readonly channel?: number | undefined;
}

/** An inside without an interface: a TCP/IP stack of the engine's own, for guests of an exit alone. */
export interface StackOptions {
  /** This node's inner addresses; a prefix length counts for nothing. */
  readonly addresses: readonly string[];
  /** Inner MTU, 1280–65535. */
  readonly mtu: number;
}

/**
 * recvmmsg/sendmmsg, io_uring (mmsg where the kernel refuses it), or whichever of them a measurement of
 * 40 ms on loopback finds cheaper.
 */
export type IoChoice = 'auto' | 'mmsg' | 'io_uring';

export interface EngineOptions {
  /** X25519 private key, 32 bytes. The engine copies it; the caller wipes its own. */
  readonly privateKey: Uint8Array;
  /** UDP port; 0 lets the kernel choose. */
  readonly port: number;
  /** Address to bind, default all addresses of both families. */
  readonly bind?: string | undefined;
  /** Worker threads; default 1. Ignored by the wasm engine. */
  readonly workers?: number | undefined;
  /** How the native engine calls its sockets; default `mmsg`. */
  readonly io?: IoChoice | undefined;
  /** Most legs the forwarding table may hold. */
  readonly maxLegs: number;
  /** Accounts and classes of limits legs may name; default: number 0 of each alone. */
  readonly accounts?: AccountCapacity | undefined;
  /** Most peers the session table may hold. */
  readonly maxPeers: number;
  /** Most sessions of stock WireGuard clients relayed; default 0, none. Native engine only. */
  readonly wireguardSessions?: number | undefined;
  /** Control frames per second let through to TypeScript from all strangers together. */
  readonly controlFramesPerSecond: number;
  /**
   * STUN binding requests answered per second and source prefix (IPv4 /24, IPv6 /48), and as many at
   * once; 0 answers none. Default 20.
   */
  readonly stunPerSecond?: number | undefined;
  readonly tun?: TunOptions | undefined;
  /** In place of `tun`; with one worker. Native engine only. */
  readonly stack?: StackOptions | undefined;
  /** Likewise. */
  readonly guest?: GuestOptions | undefined;
  /**
   * A changed preshared key counts from the next handshake on, as in the kernel's WireGuard. Default:
   * it ends the running session. Native engine only.
   */
  readonly keepSessionOnNewPresharedKey?: boolean | undefined;
  /**
   * Binds the port as `tun` goes up, where what arrives waits for openPort(), and until closePort(): to be called
   * as `tun` goes up and down.
   * Native engine only.
   */
  readonly portFollowsInterface?: boolean | undefined;
  /** Accelerators to leave off, by the name `describe()` gives them. */
  readonly disable?: readonly string[] | undefined;
}

/** A STUN client sends a handful of requests when it starts. */
export const DEFAULT_STUN_PER_SECOND = 20;

/** What the engine tells the control plane, in order, in batches. */
export type EngineEvent =
  /** An authentic Omerta frame on a `control` leg (whole frame, header included). */
  | { readonly type: 'frame'; readonly from: SocketAddress; readonly leg: number; readonly frame: Uint8Array }
  /**
   * A control frame received inside a session (the transport payload, padding included). Pings are answered
   * by the engine and not told.
   */
  | { readonly type: 'control'; readonly peer: SessionKey; readonly payload: Uint8Array }
  /**
   * A handshake completed (either role); the session can carry data. `endpoint`: where the peer is reached;
   * of a peer with paths: where the handshake came by.
   */
  | { readonly type: 'session'; readonly peer: SessionKey; readonly endpoint: PeerEndpoint }
  /**
   * An authentic, unreplayed packet arrived from another address or leg: the peer roamed. Told of one peer at
   * most four times a second, with where it is by then.
   */
  | { readonly type: 'endpoint'; readonly peer: SessionKey; readonly endpoint: PeerEndpoint }
  /** A packet waits for this peer and no endpoint is known. Repeated at most once a second. */
  | { readonly type: 'path-needed'; readonly peer: SessionKey }
  /** Handshakes were given up (90 s without an answer). */
  | { readonly type: 'session-lost'; readonly peer: SessionKey }
  /** Somebody deleted the TUN interface; the engine goes on without one. */
  | { readonly type: 'interface-gone' }
  /** Somebody brought the TUN interface up, or down; told at start too. */
  | { readonly type: 'interface-up' }
  | { readonly type: 'interface-down' }
  /** Links, addresses or routes of this host have changed; at most four times a second. Native engine only. */
  | { readonly type: 'addresses-changed' }
  /** An accelerator was found to spoil packets and is not used, or not towards one peer: the reason says so. */
  | { readonly type: 'accelerator-demoted'; readonly name: string; readonly reason: string }
  /** After a pause it is tried again. */
  | { readonly type: 'accelerator-restored'; readonly name: string }
  /** The engine's own datagrams to this address are routed into its tunnel, and dropped there. Told once. */
  | { readonly type: 'routing-loop'; readonly to: SocketAddress }
  | PathEvent;

/** A change of one peer; what is undefined stays as it is. */
export interface PeerChange {
  readonly sessionKey: SessionKey;
  readonly remove: boolean;
  /** Change the peer if there is one, but do not make one. */
  readonly updateOnly: boolean;
  /** null removes it. */
  readonly presharedKey: Uint8Array | null | undefined;
  readonly endpoint: PeerEndpoint | undefined;
  /** As PeerConfig has it. */
  readonly redirect: boolean;
  /** Seconds, 0 = off. */
  readonly persistentKeepalive: number | undefined;
  readonly transit?: Transit | undefined;
  /** Forget all prefixes before `allowedIps`, which are in the order they were given in. */
  readonly replaceAllowedIps: boolean;
  readonly allowedIps: PrefixBatch;
}

/** A peer as it was configured and as it is. */
export interface PeerState {
  readonly sessionKey: SessionKey;
  readonly presharedKey: Uint8Array | undefined;
  readonly endpoint: PeerEndpoint | undefined;
  /** Nanoseconds since 1970 of the last confirmed session; 0 = never. */
  readonly lastHandshake: bigint;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly persistentKeepalive: number;
  readonly allowedIps: Iterable<string>;
}

export interface PeerStatus {
  readonly sessionKey: SessionKey;
  readonly endpoint: PeerEndpoint | undefined;
  /** Milliseconds since the last completed handshake; undefined = never. */
  readonly handshakeAgeMs: number | undefined;
  /** Milliseconds since the last authenticated packet; undefined = never. */
  readonly lastReceivedMs: number | undefined;
  /** The cipher packets to this peer are under; undefined = no session. */
  readonly suite: 'ChaCha20-Poly1305' | 'AES-256-GCM' | undefined;
  /** Packets by which one of this peer's may be late; undefined = no session. */
  readonly replayWindow: number | undefined;
  /** Bytes of UDP payload in authenticated WireGuard messages. */
  readonly rxBytes: number;
  readonly txBytes: number;
}

export interface LegStatus {
  readonly id: number;
  readonly packets: number;
  readonly bytes: number;
  /** Frames dropped on it, whatever the reason; 0 also when too many legs lose frames to count each. */
  readonly refused: number;
  /** Milliseconds since the last accepted frame; undefined = never. */
  readonly idleMs: number | undefined;
}

/** Samples by their length; the last bucket holds what is longer than the last bound. */
export interface LatencyHistogram {
  readonly boundsNs: readonly number[];
  readonly counts: readonly number[];
  readonly sumNs: number;
}

/** What waits in a worker's socket, in bytes of kernel memory. */
export interface QueueStatus {
  readonly receiveBytes: number;
  readonly receiveLimitBytes: number;
  /** The most the worker found waiting; looked at in one receive of 64. */
  readonly receivePeakBytes: number;
  readonly sendBytes: number;
  readonly sendLimitBytes: number;
}

/** One thread that moves packets, or, as `control`, the one that decides. */
export interface WorkerStatus {
  readonly name: string;
  readonly counters: ReadonlyMap<string, number>;
  readonly queues: QueueStatus | undefined;
  /** Forwarded frames from the kernel's receipt to the send's return; sampled 10 ms each second. */
  readonly latency: LatencyHistogram | undefined;
}

/** What went by a leg since it was installed: whole frames, headers included. */
export interface LegCounts {
  /** Accepted on it. */
  readonly packets: number;
  readonly bytes: number;
  /** Sent on its way back; only of a `deliver` leg. */
  readonly sentPackets: number;
  readonly sentBytes: number;
}

/** A WireGuard server whose stock clients are relayed on the engine's port. */
export interface WireguardBinding {
  /** Its X25519 public key, 32 bytes: handshakes are told by it. */
  readonly publicKey: Uint8Array;
  /** Where it is; proven, or configured by the operator. */
  readonly address: SocketAddress;
  /** Who pays for what is relayed. */
  readonly charging: LegCharging;
}

export interface WireguardUsage {
  /** Sessions that stand: one for each handshake of the last three minutes. */
  readonly sessions: number;
  readonly packets: number;
  readonly bytes: number;
}

/** An optional way of being faster, with what became of it on this machine. */
export interface Accelerator {
  readonly name: string;
  /** Demoted: it was on, and given up while the engine ran because it spoiled packets. */
  readonly state: 'on' | 'off' | 'unavailable' | 'demoted';
  /** Why it is not on, or what the self-test found. */
  readonly reason: string;
  /** The command that would make it available, if there is one. */
  readonly remedy: string | undefined;
}

export interface EngineDescription {
  readonly kind: 'native' | 'wasm';
  /** e.g. `native (C++20, 1 worker)`. */
  readonly summary: string;
  /** The ciphers this node can do, with what does each. */
  readonly aead: string;
  readonly accelerators: readonly Accelerator[];
  /** Name of the TUN interface in use; undefined too once somebody deleted it. */
  readonly tun: string | undefined;
  /** Whether its inside is a stack of its own (StackOptions). */
  readonly stack?: boolean | undefined;
  /** Whether its inside is a virtual machine's (GuestOptions). */
  readonly guest?: boolean | undefined;
  /** Whether stock WireGuard clients can be relayed: not by the wasm engine. */
  readonly wireguardRelay: boolean;
}

/** Errors an engine throws; `code` is one of these, `message` names the field and the remedy. */
export type EngineErrorCode =
  | 'ENGINE_UNAVAILABLE' // the addon could not be loaded
  | 'PORT_IN_USE'
  | 'BIND_FAILED'
  | 'TUN_PERMISSION' // CAP_NET_ADMIN or /dev/net/tun missing
  | 'TUN_FAILED'
  | 'GUEST_SOCKET' // nothing can listen at the path
  | 'XDP_PERMISSION' // CAP_BPF, CAP_NET_ADMIN or the bpf file system
  | 'XDP_UNAVAILABLE'
  | 'TABLE_FULL'
  | 'BAD_ARGUMENT'
  | 'CLOSED';

export class EngineError extends Error {
  constructor(
    readonly code: EngineErrorCode,
    message: string,
  ) {
    super(message);
    this.name = 'EngineError';
  }
}

export interface Engine extends LimitControl {
  /** The bound UDP port. */
  readonly port: number;
  /** Undefined: this engine keeps one way to each peer, and ignores path frames. */
  readonly paths?: PathControl | undefined;
  /** Undefined: nothing can leave by this engine, which has no inside. */
  readonly exit?: ExitControl | undefined;
  /** Undefined: no virtual machine is at its inside. */
  readonly guest?: GuestControl | undefined;
  /** Undefined: nothing is shaped by this engine, which has no inside. */
  readonly shaping?: ShapingControl | undefined;
  describe(): EngineDescription;
  /** Called with every batch of events, on the JavaScript thread. Set once, before traffic matters. */
  onEvents(listener: (events: readonly EngineEvent[]) => void): void;
  /**
   * Adds peers or updates those that exist; a changed preshared key ends the running session, but for
   * `keepSessionOnNewPresharedKey`.
   */
  setPeers(peers: readonly PeerConfig[]): void;
  removePeers(peers: readonly SessionKey[]): void;
  /**
   * Adds legs or replaces those with the same id; peers reached by one go on by its new way back. @throws
   * EngineError TABLE_FULL, or BAD_ARGUMENT for what a leg cannot be; then none was added.
   */
  installLegs(legs: readonly Leg[]): void;
  /** A peer that was reached by one of them has no endpoint then, or the one it was given meanwhile. */
  removeLegs(ids: readonly number[]): void;
  /** Sends finished Omerta frames outside any session. */
  sendFrames(frames: readonly { readonly to: SocketAddress; readonly frame: Uint8Array }[]): void;
  /** Sends control payloads inside sessions; staged (up to 128 a peer) while a handshake runs. */
  sendControl(messages: readonly { readonly peer: SessionKey; readonly payload: Uint8Array }[]): void;
  /** Starts a new handshake now, keeping the present session until it completes. */
  handshake(peer: SessionKey): void;
  peers(): readonly PeerStatus[];
  legs(): readonly LegStatus[];
  /** Counts of these legs, in their order; undefined where there is no such leg. */
  legCounters(ids: readonly number[]): readonly (LegCounts | undefined)[];
  /**
   * The servers whose stock WireGuard clients are relayed, all of them: those left out are no longer.
   * @throws EngineError BAD_ARGUMENT for more than 64, or any where the engine relays none.
   */
  setWireguardBindings(bindings: readonly WireguardBinding[]): void;
  /** What was relayed for each binding, in the order they were set. */
  wireguardUsage(): readonly WireguardUsage[];
  /**
   * Gives the TUN interface its addresses and their routes, in case it lost them; only where there can be one.
   * @returns those it cannot have: IPv6 is switched off.
   * @throws Error when it is in another network namespace.
   */
  putAddresses?(): readonly string[];
  /** Its addresses to whose networks no route leads by it; only where there can be an interface. */
  unroutedAddresses?(): readonly string[];
  /**
   * Marks what is sent with SO_MARK, 0 = not; undefined: this engine cannot.
   * @throws EngineError BAD_ARGUMENT when not permitted.
   */
  setFwmark?(fwmark: number): void;
  /**
   * Descriptor of a UDP socket for what the node says to its gateway: bound to this IPv4 address of the host (16 bytes) and
   * marked as the engine's own are. It is the caller's; undefined: this engine has none.
   * @throws EngineError
   */
  openSideSocket?(ip: Uint8Array): number;
  /** Every counter the engine has, zero ones included; drops are named `drop_<reason>`. */
  counters(): ReadonlyMap<string, number>;
  /** The same and more, thread by thread. */
  workers(): readonly WorkerStatus[];
  /** Stops workers, closes sockets, removes the TUN interface. Idempotent. */
  close(): Promise<void>;
}

/**
 * An engine whose every part can be changed while it runs, its TUN interface kept, and that tells what it
 * was told: nobody else needs to remember the configuration.
 */
export interface ReconfigurableEngine extends Engine {
  setFwmark(fwmark: number): void;
  /**
   * Adds, updates and removes peers in order; with `replace`, removes every peer first.
   * @throws EngineError TABLE_FULL; then nothing was changed.
   */
  changePeers(changes: readonly PeerChange[], replace: boolean): void;
  /** Whether changePeers would find room. */
  hasRoom(changes: readonly PeerChange[], replace: boolean): boolean;
  /** All peers in the order they were added. */
  peerStates(): Iterable<PeerState>;
  /**
   * Listens on another UDP port, 0 = one the kernel chooses, in the network namespace the process is in;
   * while the port is closed, it is only remembered.
   * @throws EngineError PORT_IN_USE, BIND_FAILED; the old port stays then.
   */
  rebind(port: number): void;
  /** Binds the port. @throws EngineError PORT_IN_USE, BIND_FAILED */
  openPort(): void;
  /** Closes the sockets; sessions end, peers stay. The port is remembered. */
  closePort(): void;
  /** Brings the TUN interface down. @throws Error */
  setInterfaceDown(): void;
  /**
   * Becomes another identity; undefined: nobody, who talks to nobody. Sessions end, peers stay.
   */
  setPrivateKey(privateKey: Uint8Array | undefined): void;
}
