// Finds and loads the module that talks to libbpf. It is apart from the engine's addon so that a host
// without libbpf runs the native engine all the same.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { addonPaths } from '../native/native-addon.js';
import { wordXdpReason } from './xdp-wording.js';

export interface XdpOptions {
  readonly port: number;
  /** Empty: every address of this machine. */
  readonly bind: string;
  readonly interfaces: readonly string[];
  /** After the socket buffer is made, for drivers without native XDP; slow. */
  readonly generic: boolean;
  readonly maxLegs: number;
  /** Routes of relayed WireGuard sessions. */
  readonly maxRoutes: number;
  readonly indexSlots: number;
  readonly identities: number;
  readonly networks: number;
  readonly classes: number;
}

export interface XdpInterfaceStatus {
  readonly name: string;
  readonly attached: boolean;
  /** The link was an earlier daemon's: no packet saw the interface without a program. */
  readonly adopted: boolean;
  /** How often it was attached. */
  readonly times: number;
  /** Of the interface; empty where the kernel does not say. */
  readonly driver: string;
  /** Whether its driver sends frames that came in by another interface, as far as the kernel tells. */
  readonly takesRedirected: boolean;
  /** Why it is not attached; empty while it is. */
  readonly code: string;
  readonly detail: string;
  readonly number: number;
}

export interface XdpStatus {
  readonly interfaces: readonly XdpInterfaceStatus[];
  readonly programId: number;
  readonly verifiedInstructions: number;
  /** Legs found in the kernel at start, and how many of them the store did not know any more. */
  readonly adoptedLegs: number;
  readonly removedLegs: number;
  /** Legs the map had no room for: the socket engine forwards them. */
  readonly missingLegs: number;
  readonly forwardingEnabled: boolean;
  readonly selfTestPackets: number;
  /** Folder of the pinned program, links and maps. */
  readonly pins: string;
}

/** native/addon/xdp_relay_handle.cc describes the packed formats. Its errors are an XdpReason. */
export interface XdpHandle {
  installLegs(legs: Uint8Array): void;
  removeLegs(ids: Uint32Array): void;
  activate(): void;
  check(): void;
  status(): XdpStatus;
  legs(): Uint8Array;
  /** For each id: packets, bytes; 0 for a leg that is not there. */
  legCounters(ids: Uint32Array): Float64Array;
  counters(): Float64Array;
  /** File descriptor of the memory for NativeHandle.mirrorIndices. */
  indices(): number;
  /** File descriptor of the memory for NativeHandle.mirrorExpected. */
  expected(): number;
  /** File descriptor of the memory for NativeHandle.mirrorDoor. */
  door(): number;
  /** File descriptors, and a number of entries, for NativeHandle.shareWindows. */
  windows(): Int32Array;
  /** Both are copied into the kernel, which drops a WireGuard message with any other receiver index. */
  setIndicesKnown(): void;
  /** Routes of relayed WireGuard sessions (NativeHandle.wireguardRoutes), as they have counted. */
  routes(): Uint8Array;
  /** Gives the kernel these and no others; returns those that ended. */
  replaceRoutes(routes: Uint8Array): Uint8Array;
  /** File descriptors for NativeHandle.shareAccounts. */
  accounts(): Int32Array;
  close(unload: boolean): void;
}

/** What the kernel and the driver tell of an interface; 0 and '' where they do not. */
export interface InterfaceFacts {
  readonly name: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly ethernet: boolean;
  readonly driver: string;
  readonly receiveQueues: number;
  readonly transmitQueues: number;
  readonly receiveRing: number;
  readonly transmitRing: number;
  /** Undefined before Linux 6.3. */
  readonly nativeXdp?: boolean;
  readonly redirectXdp?: boolean;
  /** The program attached now; 0 = none. */
  readonly programId: number;
  readonly generic: boolean;
}

export interface XdpAddon {
  readonly XdpRelay: new (options: XdpOptions) => XdpHandle;
  /** What XdpHandle.counters() gives, in order. */
  readonly counterNames: readonly string[];
  interfaces(): readonly InterfaceFacts[];
  /** Runs the self-test; the number of packets. */
  selfTest(): number;
  /** Whether bpf_fib_lookup may answer: forwarding is on at `lo`. */
  forwardingEnabled(): boolean;
  /** Removes what a relay at this port left in the kernel; false when there was nothing. */
  unload(port: number): boolean;
  isLoaded(port: number): boolean;
}

/** Why the kernel path is not there, and what to type. */
export class XdpError extends Error {
  constructor(
    /** Of an XdpReason; or NOT_BUILT, or LIBBPF. */
    readonly code: string,
    message: string,
    readonly remedy: string | undefined,
  ) {
    super(message);
    this.name = 'XdpError';
  }

  /** Whether somebody with more privileges could have it. */
  get isRefused(): boolean {
    return this.code.endsWith('_REFUSED');
  }
}

/** An error of the addon as an XdpError; anything else as it is. */
export function xdpError(error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error && 'detail' in error && 'number' in error)) return error;
  const { code, detail, number } = error;
  if (typeof code !== 'string' || typeof detail !== 'string' || typeof number !== 'number') return error;
  const { reason, remedy } = wordXdpReason({ code, detail, number });
  return new XdpError(code, reason, remedy);
}

/** Runs a call into the addon. @throws XdpError */
export function callXdp<Result>(run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    throw xdpError(error);
  }
}

let loaded: XdpAddon | undefined;

/** @throws XdpError NOT_BUILT or LIBBPF when there is none or it does not load. */
export function loadXdpAddon(): XdpAddon {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  const paths = addonPaths.map((path) => join(dirname(path), 'omerta_xdp.node')).filter(existsSync);
  let failure: string | undefined;
  for (const path of paths) {
    try {
      loaded = require(path) as XdpAddon;
      return loaded;
    } catch (error) {
      failure ??= error instanceof Error ? error.message : String(error);
    }
  }
  if (failure === undefined)
    throw new XdpError(
      'NOT_BUILT',
      'the XDP module is not built: clang, bpftool, libbpf or the kernel\u2019s type information was missing',
      'sudo apt-get install clang bpftool libbpf-dev && npm run build',
    );
  throw new XdpError(
    'LIBBPF',
    `the XDP module does not load: ${failure}`,
    failure.includes('libbpf') ? 'sudo apt-get install libbpf1' : 'npm run build',
  );
}
