// What a running daemon tells the CLI, the status page and the metrics: plain JSON, no secrets.

import { fromHex } from '../../wire/bytes.js';
import type { PortMappingStatus } from '../../core/mapping/port-mapper.js';
import type { MeshStatus, WireguardBindingStatus } from '../../core/runtime/mesh-status.js';
import type {
  EngineDescription,
  PeerEndpoint,
  PeerStatus,
  WireguardUsage,
  WorkerStatus,
} from '../../contract/engine.js';
import type { Ceiling, CeilingCounts, ShapingCounts } from '../../contract/shaping-control.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import type { IndirectReason, WayStatus } from '../../core/runtime/way-status.js';
import type { GuestSocketCounts } from '../../contract/guest-control.js';
import type { ExitBackend } from './exit-report.js';
import { activeWay, standbyWay } from './path-wording.js';
import type { RelayAccountsStatus } from './relay-accounts.js';
import { formatWireguardKey } from '../../host/wireguard-key.js';

export type DaemonMode = 'relay' | 'up';

/** One entry of the engine's peer table. */
export interface SessionStatus {
  /** X25519 public key, lower-case hex. */
  readonly sessionKey: string;
  /** `ip:port`, or `leg N` when the peer is reached through a relay. */
  readonly endpoint: string | undefined;
  readonly handshakeAgeSeconds: number | undefined;
  readonly lastReceivedSeconds: number | undefined;
  /** The cipher packets to this peer are under. */
  readonly suite: string | undefined;
  /** Packets by which one of this peer's may be late. */
  readonly replayWindow: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
  /** What came of shaping what is sent to it; undefined = it is not shaped. */
  readonly shaping?: ShapingCounts | undefined;
}

/** A WireGuard server whose stock clients this relay relays, and what was relayed. */
export interface WireguardBindingUsage {
  /** The member that asked for it; undefined = named in the configuration. */
  readonly peerId: string | undefined;
  /** Base64, as wg(8) writes keys. */
  readonly publicKey: string;
  /** `ip:port`. */
  readonly address: string;
  readonly sessions: number;
  readonly packets: number;
  readonly bytes: number;
}

/** Where the interface of `omerta up --no-tun` is. */
export interface PrivateNetworkStatus {
  /** Process in its namespaces: /proc/PID/ns/user and /proc/PID/ns/net. */
  readonly pid: number;
  /** Inode of the network namespace: who enters by the process looks whether it is still that one. */
  readonly namespace: number;
  /** Why there is no such process at present. */
  readonly error: string | undefined;
}

/** Why a member has no private network though it was asked for, and the command that opens one. */
export interface NoPrivateNetwork {
  readonly reason: string;
  readonly remedy: string;
}

/** What goes by a port that leads into a private network or out of it. */
export interface PrivatePortCounts {
  /** Connections, or clients that send datagrams, now. */
  readonly open: number;
  /** Turned away at a bound since it was opened. */
  readonly refused: number;
}

/** A port of the sections [socks] and [[forward]]. */
export type PrivatePortStatus = PrivatePortCounts &
  (
    | { readonly kind: 'socks'; readonly listen: string; readonly hasPassword: boolean }
    | {
        readonly kind: 'forward';
        /** `local`: from this machine into the private network; `remote`: out of it. */
        readonly side: 'local' | 'remote';
        /** [ADDRESS:]PORT:HOST:PORT, as it is written. */
        readonly spec: string;
        readonly udp: boolean;
      }
  );

/** The member's interface as it is. */
export interface TunnelStatus {
  readonly name: string;
  /** Elsewhere: renamed, or in another network namespace. Unrouted: no route leads to a network by it. */
  readonly state: 'up' | 'down' | 'unrouted' | 'gone' | 'elsewhere';
  /** Addresses it should have and has not, with prefix length. */
  readonly missing: readonly string[];
  /** Addresses it has, to whose networks no route leads by it. */
  readonly unrouted: readonly string[];
  /** The private network it is in; undefined = it is one of the machine. */
  readonly private?: PrivateNetworkStatus | undefined;
}

/** What became of the lines of the log. */
export interface LogStatus {
  /** Lines that could not be written. */
  readonly lost: number;
  /** Why none can be written at present, as an errno name. */
  readonly error: string | undefined;
  /** Lines left out because there were too many of one event about one identity. */
  readonly heldBack: number;
}

/** A WorkerStatus as JSON. */
export interface WorkerReport extends Omit<WorkerStatus, 'counters'> {
  readonly counters: Readonly<Record<string, number>>;
}

/** The virtual machine at the inside of a member. */
export interface MachineStatus extends GuestSocketCounts {
  readonly path: string;
  readonly mac: string;
  /** Frames that were IP packets of its own; that the gateway answered; that an innocent system sends to its link. */
  readonly passed: number;
  readonly answered: number;
  readonly noise: number;
  /** Frames and packets that went nowhere, by kind; those there were none of left out. */
  readonly drops: Readonly<Record<string, number>>;
  /** Whether something became of each frame that the socket read. */
  readonly agrees: boolean;
}

export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  readonly mode: DaemonMode;
  readonly stateDirectory: string;
  readonly uptimeSeconds: number;
  readonly engine: EngineDescription;
  /** Why the native engine is not in use although it was not ruled out. */
  readonly engineFallback: string | undefined;
  readonly port: number;
  /** Addresses others are told, `ip:port`. */
  readonly addresses: readonly string[];
  /** URL of the status page; undefined = off. */
  readonly statusPage: string | undefined;
  readonly mesh: MeshStatus;
  readonly sessions: readonly SessionStatus[];
  /** What each identity and network uses of this relay; undefined when this node is not a relay. */
  readonly accounts: RelayAccountsStatus | undefined;
  /** Entries of the forwarding table. */
  readonly legs: number;
  /** Bytes forwarded in each circuit, by circuit id. */
  readonly circuitBytes: Readonly<Record<string, number>>;
  readonly wireguard: {
    /** What stock WireGuard clients know this node by: base64. */
    readonly publicKey: string;
    readonly bindings: readonly WireguardBindingUsage[];
  };
  readonly counters: Readonly<Record<string, number>>;
  /** Thread by thread: the same counters, queues and latency. */
  readonly workers: readonly WorkerReport[];
  /** Steps of the control plane that failed; each one is in the log. */
  readonly failures: number;
  /** Undefined for a relay, and for a member without an interface, whose engine has a stack of its own. */
  readonly tunnel: TunnelStatus | undefined;
  readonly noPrivateNetwork?: NoPrivateNetwork | undefined;
  /** Undefined where the member is none of a virtual machine. */
  readonly guest?: MachineStatus | undefined;
  /** Those of the configuration that are open; undefined where there is no private network. */
  readonly privatePorts?: readonly PrivatePortStatus[] | undefined;
  /** What the gateway was asked for; undefined until the daemon has begun to. */
  readonly portMapping: PortMappingStatus | undefined;
  /** The same of IPv6: a hole in the firewall, by which the own address is reached. */
  readonly pinhole: PortMappingStatus | undefined;
  /** What leaves by an interface at most, and what has left; undefined for an engine without ceilings. */
  readonly ceilings?: readonly (Ceiling & CeilingCounts)[] | undefined;
  /** What the daemon knows of exits beside the node: undefined for a relay. */
  readonly exit:
    | {
        /** Why the host is not as it should be; undefined = it is. */
        readonly error: string | undefined;
        readonly paranoid: boolean;
        /** What forwards for guests. */
        readonly backend: ExitBackend;
        /** What alone leaves by the exit; empty = everything. */
        readonly include: readonly string[];
      }
    | undefined;
  readonly log: LogStatus;
  readonly store: {
    /** Why what was learnt last is not on the disk, as an errno name. */
    readonly error: string | undefined;
    /** A damaged store was found at the start and put here. */
    readonly damaged: string | undefined;
  };
}

/** One row of `omerta peers`: a member of a network or a bootstrap, with its session. */
export interface PeerRow {
  readonly kind: 'member' | 'bootstrap';
  readonly network: string | undefined;
  readonly name: string;
  readonly peerId: string;
  readonly addresses: readonly string[];
  /** `direct`, `relay`, `none`, or the state of a bootstrap. */
  readonly path: string;
  /** The way in use of a member, and the one that takes over. */
  readonly active: WayStatus | undefined;
  readonly standby: WayStatus | undefined;
  /** Why a member is not reached directly. */
  readonly indirect: IndirectReason | undefined;
  /** Nothing is sent to it: no way that works may carry data. */
  readonly barred: boolean;
  readonly session: SessionStatus | undefined;
}

function formatEndpoint(endpoint: PeerEndpoint): string {
  return 'leg' in endpoint ? `leg ${endpoint.leg}` : formatSocketAddress(endpoint.address);
}

/** The engine's peer table as it is shown. */
export function sessionStatus(peer: PeerStatus, shaping?: ShapingCounts): SessionStatus {
  const seconds = (ms: number | undefined): number | undefined =>
    ms === undefined ? undefined : Math.round(ms / 100) / 10;
  return {
    sessionKey: peer.sessionKey,
    endpoint: peer.endpoint === undefined ? undefined : formatEndpoint(peer.endpoint),
    handshakeAgeSeconds: seconds(peer.handshakeAgeMs),
    lastReceivedSeconds: seconds(peer.lastReceivedMs),
    suite: peer.suite,
    replayWindow: peer.replayWindow,
    rxBytes: peer.rxBytes,
    txBytes: peer.txBytes,
    shaping,
  };
}

/** What the relay binds and what the engine has relayed, which are in the same order. */
export function wireguardBindings(
  bindings: readonly WireguardBindingStatus[],
  usage: readonly WireguardUsage[],
): WireguardBindingUsage[] {
  return bindings.map(({ peerId, publicKey, address }, index) => ({
    peerId,
    publicKey: formatWireguardKey(fromHex(publicKey) ?? new Uint8Array(32)),
    address: formatSocketAddress(address),
    ...(usage[index] ?? { sessions: 0, packets: 0, bytes: 0 }),
  }));
}

/** Every member and bootstrap this node knows. */
export function peerRows(status: DaemonStatus): PeerRow[] {
  const sessions = new Map(status.sessions.map((session) => [session.sessionKey, session]));
  const members = status.mesh.networks.flatMap((network) =>
    network.members.map((member): PeerRow => ({
      kind: 'member',
      network: network.name,
      name: member.name,
      peerId: member.peerId,
      addresses: [...(member.ipv4 === undefined ? [] : [member.ipv4]), member.ipv6],
      path: member.path,
      active: activeWay(member.ways),
      standby: standbyWay(member.ways),
      indirect: member.indirect,
      barred: member.barred,
      session: sessions.get(member.sessionKey),
    })),
  );
  const bootstraps = status.mesh.bootstraps.map((bootstrap): PeerRow => ({
    kind: 'bootstrap',
    network: undefined,
    name: '',
    peerId: bootstrap.peerId,
    addresses: [bootstrap.address],
    path: bootstrap.state,
    active: undefined,
    standby: undefined,
    indirect: undefined,
    barred: false,
    session: undefined,
  }));
  return [...members, ...bootstraps];
}
