// The native engine with the relay's legs forwarded in the kernel before they reach its sockets.
// The native engine always holds the whole table, so whatever XDP passes, or all of it when XDP is not
// there, is forwarded by the socket: nothing has to be moved when one gives way to the other.

import {
  EngineError,
  type Accelerator,
  type Engine,
  type EngineDescription,
  type EngineEvent,
  type LegCounts,
  type LegStatus,
  type PeerConfig,
  type PeerStatus,
  type WorkerStatus,
  type SessionKey,
  type WireguardBinding,
  type WireguardUsage,
} from '../../contract/engine.js';
import { KernelRoutes } from './kernel-routes.js';
import { packLegs } from '../native/leg-batch.js';
import type { NativeEngine } from '../native/native-engine.js';
import {
  XdpError,
  callXdp,
  loadXdpAddon,
  type InterfaceFacts,
  type XdpHandle,
  type XdpInterfaceStatus,
  type XdpStatus,
} from './xdp-addon.js';
import { wordXdpReason, type XdpWords } from './xdp-wording.js';
import type { AccountStatus } from '../../contract/limit-control.js';
import type { ExitControl } from '../../contract/exit-control.js';
import type { ShapingControl } from '../../contract/shaping-control.js';
import type { PathControl } from '../../contract/path-control.js';
import type { Leg } from '../../wire/leg.js';
import type { AccountCapacity, AccountKind, LegLimits, PrefixLimit, RateLimit } from '../../wire/limits.js';
import type { SocketAddress } from '../../wire/socket-address.js';

export interface Acceleration {
  /** Whether it is an error when there is no XDP; otherwise the sockets do it all. */
  readonly required: boolean;
  /** Undefined: every Ethernet interface that is up, has an address and a driver with XDP. */
  readonly interfaces: readonly string[] | undefined;
  readonly mode: 'native' | 'generic';
  /** Leave the kernel path forwarding when the engine is closed. */
  readonly detach: boolean;
  readonly bind: string | undefined;
  readonly maxLegs: number;
  /** Stock WireGuard sessions that are relayed at most. */
  readonly wireguardSessions: number;
  readonly accounts: AccountCapacity;
  /** Names of this machine's interfaces that have an address. */
  readonly addressed: readonly string[];
}

/** Something an operator should see in the log. */
export interface AccelerationChange {
  readonly interface: string;
  readonly attached: boolean;
  readonly reason: string;
  readonly remedy: string | undefined;
}

const NANOSECONDS_PER_MS = 1e6;
const LEG_ROW = 40;
const NEVER = 0xffffffffffffffffn;

/** Interfaces that are taken when none are named. */
export function usableInterfaces(
  facts: readonly InterfaceFacts[],
  addressed: readonly string[],
  mode: Acceleration['mode'],
): string[] {
  return facts
    .filter(({ ethernet, up, nativeXdp }) => ethernet && up && (mode === 'generic' || nativeXdp !== false))
    .map(({ name }) => name)
    .filter((name) => addressed.includes(name));
}

/** Removes what an earlier daemon at this port left in the kernel. @returns whether there was anything. */
export function removeKernelPath(port: number): boolean {
  return callXdp(() => loadXdpAddon().unload(port));
}

export class KernelPathEngine implements Engine {
  readonly #native: NativeEngine;
  readonly #acceleration: Acceleration;
  #path: XdpHandle | undefined;
  #routes: KernelRoutes | undefined;
  /** Why there is no kernel path. */
  #off: XdpError | undefined;
  #seen: readonly XdpInterfaceStatus[] = [];

  /**
   * Takes the engine over and makes its kernel path ready; it is attached by activate().
   * @throws XdpError when it is required and cannot be had. The engine is the caller's again then.
   */
  constructor(native: NativeEngine, acceleration: Acceleration) {
    this.#native = native;
    this.#acceleration = acceleration;
    try {
      this.#path = this.#open();
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #open(): XdpHandle {
    const { interfaces, mode, bind, maxLegs, wireguardSessions, accounts, addressed } = this.#acceleration;
    const native = this.#native;
    return callXdp(() => {
      const addon = loadXdpAddon();
      const names = interfaces ?? usableInterfaces(addon.interfaces(), addressed, mode);
      if (names.length === 0)
        throw new XdpError(
          'NO_INTERFACE',
          `no interface that is up and has an address has a driver with ${mode} XDP`,
          'omerta doctor',
        );
      const path = new addon.XdpRelay({
        port: native.port,
        bind: bind ?? '',
        interfaces: names,
        generic: mode === 'generic',
        maxLegs,
        maxRoutes: Math.max(1, 2 * wireguardSessions),
        indexSlots: native.kernelPath.indexSlots(),
        ...accounts,
      });
      try {
        native.kernelPath.shareAccounts(path.accounts());
        native.kernelPath.mirrorIndices(path.indices());
        native.kernelPath.mirrorExpected(path.expected());
        native.kernelPath.mirrorDoor(path.door());
        native.kernelPath.shareWindows(path.windows());
        path.setIndicesKnown();
        this.#routes = new KernelRoutes(native.kernelPath, path);
      } catch (error) {
        path.close(true);
        throw error;
      }
      return path;
    });
  }

  /** Goes on without a kernel path, or not at all where it is required. */
  #giveUp(error: unknown): void {
    this.#path?.close(true);
    this.#path = undefined;
    this.#routes = undefined;
    if (!(error instanceof XdpError) || this.#acceleration.required) throw error;
    this.#off = error;
    try {
      removeKernelPath(this.port);
    } catch {
      // What kept us from loading one keeps us from removing one; `off` says what that is.
    }
  }

  /** Why legs are not forwarded in the kernel; undefined when they are. */
  get off(): XdpError | undefined {
    return this.#off;
  }

  /**
   * The table holds what the store held: legs in the kernel that are not in it are removed, and the
   * program takes the place of an earlier daemon's, without a packet seeing neither.
   * @throws XdpError when it is required and an interface that was named, or every one, refuses it.
   */
  activate(): void {
    const path = this.#path;
    if (path === undefined) return;
    try {
      this.#routes?.update();
      callXdp(() => path.activate());
      const { interfaces } = path.status();
      const refused = interfaces.filter(({ attached }) => !attached);
      const named = this.#acceleration.interfaces !== undefined && this.#acceleration.required;
      if (refused.length > 0 && (named || refused.length === interfaces.length)) throw refusal(refused);
      // Those that refused are told by the first check().
      this.#seen = interfaces.filter(({ attached }) => attached);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** To be called every second; what has changed since. */
  check(): AccelerationChange[] {
    const path = this.#path;
    if (path === undefined) return [];
    callXdp(() => path.check());
    this.#routes?.update();
    const before = new Map(this.#seen.map((each) => [each.name, each]));
    this.#seen = path.status().interfaces;
    return this.#seen
      .filter(({ name, times, code, detail, number }) => {
        const was = before.get(name);
        const isSame = was?.code === code && was.detail === detail && was.number === number;
        return was?.times !== times || !isSame;
      })
      .map((each) => ({ interface: each.name, attached: each.attached, ...whyNot(each) }));
  }

  get port(): number {
    return this.#native.port;
  }

  get exit(): ExitControl {
    return this.#native.exit;
  }

  /** Of sessions, which the kernel path hands up as they come. */
  get paths(): PathControl {
    return this.#native.paths;
  }

  get shaping(): ShapingControl {
    return this.#native.shaping;
  }

  describe(): EngineDescription {
    const native = this.#native.describe();
    const status = this.#path?.status();
    const on = status?.interfaces.filter(({ attached }) => attached).map(({ name }) => name) ?? [];
    return {
      ...native,
      summary: on.length === 0 ? native.summary : `${native.summary}, XDP on ${on.join(', ')}`,
      accelerators: [...native.accelerators, ...this.#accelerators(status)],
    };
  }

  #accelerators(status: XdpStatus | undefined): Accelerator[] {
    if (status === undefined)
      return [
        {
          name: 'xdp',
          state: 'unavailable',
          reason: this.#off?.message ?? 'closed',
          remedy: this.#off?.remedy,
        },
      ];
    const problems = [
      ...(status.missingLegs > 0 ? [`${status.missingLegs} legs found no room and go by the socket`] : []),
      ...(status.forwardingEnabled ? [] : ['the kernel refuses route look-ups, so all goes by the socket']),
    ];
    return [
      {
        name: 'xdp',
        state: status.interfaces.some(({ attached }) => attached) ? 'on' : 'unavailable',
        reason: [
          `program ${status.programId}, self-test of ${status.selfTestPackets} packets passed`,
          ...(status.adoptedLegs > 0 ? [`${status.adoptedLegs} legs adopted`] : []),
          ...problems,
        ].join('; '),
        remedy: status.forwardingEnabled ? undefined : FORWARDING_REMEDY,
      },
      ...status.interfaces.map((each): Accelerator => {
        const { reason, remedy } = each.attached ? whatLacks(each, status.interfaces) : whyNot(each);
        return {
          name: `xdp ${each.name}`,
          state: each.attached ? 'on' : 'unavailable',
          reason: each.attached
            ? `${this.#acceleration.mode} mode${each.adopted ? ', taken over' : ''}${reason}`
            : reason,
          remedy,
        };
      }),
    ];
  }

  onEvents(listener: (events: readonly EngineEvent[]) => void): void {
    this.#native.onEvents(listener);
  }

  // Limits and accounts lie in memory both engines share.

  setLimits(index: number, limits: LegLimits): void {
    this.#native.setLimits(index, limits);
  }

  setAccountLimit(kind: AccountKind, index: number, limit: RateLimit | undefined): void {
    this.#native.setAccountLimit(kind, index, limit);
  }

  resetAccount(kind: AccountKind, index: number): void {
    this.#native.resetAccount(kind, index);
  }

  setHostLimit(limit: RateLimit | undefined): void {
    this.#native.setHostLimit(limit);
  }

  setPrefixLimit(limit: PrefixLimit | undefined): void {
    this.#native.setPrefixLimit(limit);
  }

  /** What live legs carried in the kernel is not in the native engine's sum yet. */
  accounts(kind: AccountKind): readonly AccountStatus[] {
    const all = new Map(this.#native.accounts(kind).map((account) => [account.index, account]));
    for (const { packets, bytes, ...leg } of [...this.#kernelLegs(), ...(this.#routes?.counts() ?? [])]) {
      if (packets === 0) continue;
      const index = leg[kind];
      const before = all.get(index) ?? { index, packets: 0, bytes: 0, refused: 0 };
      all.set(index, { ...before, packets: before.packets + packets, bytes: before.bytes + bytes });
    }
    return [...all.values()];
  }

  setPeers(peers: readonly PeerConfig[]): void {
    this.#native.setPeers(peers);
  }

  removePeers(peers: readonly SessionKey[]): void {
    this.#native.removePeers(peers);
  }

  installLegs(legs: readonly Leg[]): void {
    const packed = packLegs(legs);
    this.#native.kernelPath.installPackedLegs(packed);
    this.#path?.installLegs(packed);
  }

  removeLegs(ids: readonly number[]): void {
    // The kernel first: if the rest fails, no leg is left in the kernel that the daemon does not know.
    this.#path?.removeLegs(Uint32Array.from(ids));
    this.#native.removeLegs(ids);
  }

  sendFrames(frames: readonly { readonly to: SocketAddress; readonly frame: Uint8Array }[]): void {
    this.#native.sendFrames(frames);
  }

  sendControl(messages: readonly { readonly peer: SessionKey; readonly payload: Uint8Array }[]): void {
    this.#native.sendControl(messages);
  }

  handshake(peer: SessionKey): void {
    this.#native.handshake(peer);
  }

  peers(): readonly PeerStatus[] {
    return this.#native.peers();
  }

  /** What a leg carried in the kernel and through the socket, together. */
  legs(): readonly LegStatus[] {
    const inKernel = new Map(this.#kernelLegs().map((leg) => [leg.id, leg]));
    return this.#native.legs().map((leg) => {
      const more = inKernel.get(leg.id);
      if (more === undefined) return leg;
      return {
        id: leg.id,
        packets: leg.packets + more.packets,
        bytes: leg.bytes + more.bytes,
        refused: leg.refused,
        idleMs:
          leg.idleMs === undefined || more.idleMs === undefined
            ? (leg.idleMs ?? more.idleMs)
            : Math.min(leg.idleMs, more.idleMs),
      };
    });
  }

  legCounters(ids: readonly number[]): readonly (LegCounts | undefined)[] {
    const counts = this.#native.legCounters(ids);
    const path = this.#path;
    if (path === undefined) return counts;
    const inKernel = callXdp(() => path.legCounters(Uint32Array.from(ids)));
    return counts.map(
      (count, index) =>
        count && {
          ...count,
          packets: count.packets + (inKernel[2 * index] ?? 0),
          bytes: count.bytes + (inKernel[2 * index + 1] ?? 0),
        },
    );
  }

  #kernelLegs(): KernelLeg[] {
    const path = this.#path;
    return path === undefined ? [] : readLegs(callXdp(() => path.legs()));
  }

  /** Handshakes are relayed in user space, and the sessions they lead to in the kernel. */
  setWireguardBindings(bindings: readonly WireguardBinding[]): void {
    this.#native.setWireguardBindings(bindings);
    this.#routes?.update();
  }

  wireguardUsage(): readonly WireguardUsage[] {
    const inKernel = this.#routes?.counts() ?? [];
    return this.#native.wireguardUsage().map(({ number, sessions, ...carried }) => ({
      sessions,
      ...inKernel
        .filter(({ binding }) => binding === number)
        .reduce(
          (sum, { packets, bytes }) => ({ packets: sum.packets + packets, bytes: sum.bytes + bytes }),
          carried,
        ),
    }));
  }

  /**
   * The native engine's counters, with those of the kernel path added to the ones of the same name.
   * `xdp_forwarded_packets`, `xdp_forwarded_bytes` are its own share, `xdp_passed_…` what it left to the socket.
   */
  counters(): ReadonlyMap<string, number> {
    const totals = new Map(this.#native.counters());
    const path = this.#path;
    if (path === undefined) return totals;
    const values = callXdp(() => path.counters());
    const add = (name: string, value: number): void => void totals.set(name, (totals.get(name) ?? 0) + value);
    loadXdpAddon().counterNames.forEach((name, index) => {
      const value = values[index] ?? 0;
      if (!name.startsWith('drop_')) add(`xdp_${name}`, value);
      const sent = /^(?:forwarded|wireguard_relayed)_(packets|bytes)$/.exec(name)?.[1];
      if (name.startsWith('drop_') || sent !== undefined) add(name, value);
      const unit = sent === 'packets' ? 'datagrams' : sent;
      if (unit !== undefined) for (const direction of ['rx', 'tx']) add(`${direction}_${unit}`, value);
    });
    return totals;
  }

  /** The native engine's threads; what the kernel forwards is not in their counters. */
  workers(): readonly WorkerStatus[] {
    return this.#native.workers();
  }

  /** Whether the kernel goes on forwarding when this ends. */
  get staysBehind(): boolean {
    return this.#path !== undefined && this.#acceleration.detach;
  }

  /** @param unload whether the kernel path is removed; default: unless `detach` was asked for. */
  close(unload = !this.#acceleration.detach): Promise<void> {
    this.#path?.close(unload);
    this.#path = undefined;
    this.#routes = undefined;
    return this.#native.close();
  }
}

export const FORWARDING_REMEDY = 'sudo sysctl -w net.ipv4.conf.lo.forwarding=1 net.ipv6.conf.lo.forwarding=1';

/** Why an interface is not attached; no reason while it is. */
function whyNot(status: XdpInterfaceStatus): XdpWords {
  return status.code === '' ? { reason: '', remedy: undefined } : wordXdpReason(status, status);
}

/** Of an interface the program runs on: what goes by the socket all the same. */
function whatLacks(status: XdpInterfaceStatus, all: readonly XdpInterfaceStatus[]): XdpWords {
  const others = all.filter(({ name, attached }) => attached && name !== status.name);
  return status.takesRedirected || others.length === 0
    ? { reason: '', remedy: undefined }
    : wordXdpReason({ code: 'TAKES_NOTHING_REDIRECTED', detail: '', number: 0 }, status);
}

function refusal(refused: readonly XdpInterfaceStatus[]): XdpError {
  const [first] = refused;
  return new XdpError(
    first?.code ?? 'FAILED',
    refused.map((each) => `${each.name}: ${whyNot(each).reason}`).join('; '),
    first === undefined ? undefined : whyNot(first).remedy,
  );
}

/** The kernel path counts what it refuses by reason, not by leg. */
interface KernelLeg extends Omit<LegStatus, 'refused'> {
  readonly identity: number;
  readonly network: number;
}

/** native/addon/xdp_relay_handle.cc, XdpRelayHandle::legs */
function readLegs(packed: Uint8Array): KernelLeg[] {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  const legs: KernelLeg[] = [];
  for (let at = 0; at < packed.length; at += LEG_ROW) {
    const idle = view.getBigUint64(at + 32, true);
    legs.push({
      id: view.getUint32(at, true),
      identity: view.getUint32(at + 4, true),
      network: view.getUint16(at + 8, true),
      packets: Number(view.getBigUint64(at + 16, true)),
      bytes: Number(view.getBigUint64(at + 24, true)),
      idleMs: idle === NEVER ? undefined : Number(idle) / NANOSECONDS_PER_MS,
    });
  }
  return legs;
}

/** What a missing kernel path means where it was required. */
export function accelerationError(error: unknown): unknown {
  if (!(error instanceof XdpError)) return error;
  return new EngineError(
    error.isRefused ? 'XDP_PERMISSION' : 'XDP_UNAVAILABLE',
    `${error.message}${error.remedy === undefined ? '' : `. Type: ${error.remedy}`}`,
  );
}
