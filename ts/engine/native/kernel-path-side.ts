// What an engine with the kernel path in front (engine/xdp) asks of the native engine behind it: memory both write,
// given as file descriptors of the kernel path's addon (XdpHandle), and the routes of relayed WireGuard sessions.

import { EngineError } from '../../contract/engine.js';
import type { NativeHandle } from './native-addon.js';

export interface KernelPathSide {
  /** Slots of the look-up of receiver indices. */
  indexSlots(): number;
  /** Mirrors receiver indices into the file (a BPF array of indexSlots() 64-bit words). */
  mirrorIndices(file: number): void;
  /** Mirrors the indices of relayed sessions, those under way included. */
  mirrorExpected(file: number): void;
  /** Tells there whom this node knows, and its key for MAC1. */
  mirrorDoor(file: number): void;
  /** Judges repetition by windows the XDP relay judges by too. */
  shareWindows(files: Int32Array): void;
  /** Charges accounts in memory the XDP relay charges too. */
  shareAccounts(files: Int32Array): void;
  /** As installLegs of the engine; entries as packLegs() makes them. */
  installPackedLegs(packed: Uint8Array): void;
  /** Another number after every change of wireguardRoutes(). */
  wireguardChanges(): number;
  /** The routes of relayed WireGuard sessions, packed. */
  wireguardRoutes(): Uint8Array;
  /** Routes of an earlier daemon: their sessions go on when their servers are bound again. */
  adoptWireguardRoutes(routes: Uint8Array): void;
  /** Counts what the kernel forwarded by routes that ended. */
  addWireguardCarried(ended: Uint8Array): void;
}

/** `call`: as all calls of the addon are made. */
export function kernelPathSide(handle: () => NativeHandle, call: <T>(run: () => T) => T): KernelPathSide {
  return {
    indexSlots: () => handle().describe().indexSlots,
    mirrorIndices: (file) => call(() => handle().mirrorIndices(file)),
    mirrorExpected: (file) => call(() => handle().mirrorExpected(file)),
    mirrorDoor: (file) => call(() => handle().mirrorDoor(file)),
    shareWindows: (files) => call(() => handle().shareWindows(files)),
    shareAccounts: (files) => call(() => handle().shareAccounts(files)),
    installPackedLegs: (packed) => {
      if (!call(() => handle().installLegs(packed)))
        throw new EngineError('TABLE_FULL', 'legs: the forwarding table is full (maxLegs)');
    },
    wireguardChanges: () => call(() => handle().wireguardChanges()),
    wireguardRoutes: () => call(() => handle().wireguardRoutes()),
    adoptWireguardRoutes: (routes) => call(() => handle().adoptWireguardRoutes(routes)),
    addWireguardCarried: (ended) => call(() => handle().addWireguardCarried(ended)),
  };
}
