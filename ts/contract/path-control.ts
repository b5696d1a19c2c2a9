// Several ways to one peer at once, as an engine keeps them: probes, the path set, what is told of both.
// Only peers that agreed on it inside a session have a path set; all others, stock WireGuard peers among
// them, are never probed and roam as WireGuard does.
//
//   core                          engine                                    the peer's engine
//   setPaths []       ───────►    answers the peer's probes
//   sendProbes        ───────►    sealed, sent by the ends named   ───────► answers by the ends it came by
//   probe-answer      ◄───────    round trip measured              ◄───────
//   setPaths [a, b]   ───────►    sends by a, listens on both
//   path-silent       ◄───────    a is silent: sends by a and b
//   setPaths [b]      ───────►    sends by b; the session goes on
//
// Frames: docs/protocol.md, "Paths". A path frame (probe, answer, report) never moves a peer's endpoint,
// starts no handshake, is never staged, and is no data: no keepalive is owed for it.

import { sameBytes } from '../wire/bytes.js';
import type { Prefix } from '../wire/prefix.js';
import type { SocketAddress } from '../wire/socket-address.js';
import type { PeerEndpoint, SessionKey } from './engine.js';

/** What a datagram is sent from, or came to. */
export interface LocalSource {
  /** 16 bytes. */
  readonly ip: Uint8Array;
  /** Index of the interface it leaves or came in by; 0 = whichever routing chooses, or not known. */
  readonly interface: number;
  /** One of those that setPorts opened; undefined: the engine's own. */
  readonly port?: number | undefined;
}

/** Whether two of them are one and the same, whichever interface it is at. */
export const sameSource = (a: LocalSource, b: LocalSource): boolean =>
  a.port === b.port && sameBytes(a.ip, b.ip);

/** The two ends of a path. */
export interface PathEnds {
  readonly remote: PeerEndpoint;
  /** Undefined: routing chooses, as it does for every leg. */
  readonly local: LocalSource | undefined;
}

/** A path in a path set. What comes in from its remote end, to its local address if it names one, came by it. */
export interface PeerPath extends PathEnds {
  /** 1–255, the caller's name for it, each once in a set. */
  readonly id: number;
  /**
   * Bytes of UDP payload a datagram by it may have (RFC 8899, PLPMTU), MIN_PLPMTU–65535; undefined: whatever is
   * sent. Of the active path it bounds inner packets: a TCP super-packet is split into segments that fit, an IPv4
   * packet that may be is fragmented, to all others the sender is answered "fragmentation needed" (ICMP) or "packet
   * too big" (ICMPv6), at most 1,000 a second of a worker. IPv6 packets of up to 1,280 bytes, which every link has to
   * carry (RFC 8200 5), are fragmented as the IPv4 ones are. What the engine and the control plane say inside the session
   * is not bounded.
   */
  readonly plpmtu?: number | undefined;
  /**
   * 1 to MAX_SHARE: while several paths of a set have one and the session's window is the wide one, data goes by each of
   * them in proportion to it, what is read from the inside together, up to 64 KiB, by one, and plpmtu of all of them bounds inner packets. Data
   * that waited for a ceiling goes by the active path alone. What the engine and the control plane say inside the session
   * is not split. Undefined: by the active path alone.
   */
  readonly share?: number | undefined;
}

export const MAX_SHARE = 1000;

/** What every host takes of IPv4, less the headers of IP, with all options, and UDP. */
export const MIN_PLPMTU = 508;

export const MAX_PATHS_PER_PEER = 8;

/** Each is a socket, and a descriptor of the process. */
export const MAX_EXTRA_PORTS = 1024;

/** When the active path counts as silent, and what the peer is told of what came by its paths. */
export interface PathTimes {
  /**
   * The active path is silent when data was sent by it and neither a report nor the answer to a probe, which could
   * be of that data, came by it for so many ms after: other packets of the peer do not show that ours arrive. Then,
   * until one of the two does, everything sent to the peer goes by the standby too, under one counter (the peer's
   * replay window takes the first copy). 0 = never.
   */
  readonly silentAfterMs: number;
  /** No report is of data sent less than so many ms before it came. 0 = any may be of all that was sent. */
  readonly leastRoundTripMs: number;
  /**
   * While data flows the active path is silent when so many ms have passed since the last report or answer,
   * however long a round trip takes. Data flows when some was sent that is the first the last report cannot be
   * of, or follows that within `reportEveryMs`: the peer, taken to report as often, has a report due then.
   * 0 = `silentAfterMs` alone counts.
   */
  readonly silentBetweenReportsMs: number;
  /**
   * When data (control frames included) came by a path, the peer is told so by the same path, at most so many
   * ms after the first of it that it was not told of, and not twice within that time. 0 = not told.
   */
  readonly reportEveryMs: number;
}

/** No path is silent, and the peer is told nothing. */
export const NO_PATH_TIMES: PathTimes = {
  silentAfterMs: 0,
  leastRoundTripMs: 0,
  silentBetweenReportsMs: 0,
  reportEveryMs: 0,
};

/** Probes that came straight from one of these addresses to that one of this host's, and what becomes of them. */
export interface ProbeRule {
  /** 16 bytes; undefined: whichever it came to. */
  readonly local: Uint8Array | undefined;
  /** Undefined: wherever it came from. */
  readonly from: Prefix | undefined;
  readonly answered: boolean;
}

export const MAX_PROBE_RULES = 2048;

/** The ways to one peer, all of them proven by the caller. */
export interface PeerPaths extends PathTimes {
  readonly peer: SessionKey;
  /**
   * The first is active: what is sent to the peer goes by it. The second is the standby. The others are
   * listened to. At most MAX_PATHS_PER_PEER.
   *
   * While there is one, the peer does not roam: what comes from elsewhere is delivered, and answered there
   * if it is a handshake (a response is confirmed there too) or a probe, and moves nothing; an endpoint given
   * by `setPeers` is where the peer is reached once the set is empty. An empty set: probes are answered, and
   * the peer roams as any other. Undefined: path frames of the peer are dropped. A path that stays in the set
   * keeps its counts.
   */
  readonly paths: readonly PeerPath[] | undefined;
  /**
   * The id of one of them: messages of the control plane, pings and pongs go by it instead of the active one, and while
   * that is silent by the standby too, as all does. Undefined: by the active one.
   */
  readonly control?: number | undefined;
  /**
   * The first that is of a probe of the peer says whether it is answered; it is where none is, or it came by a leg.
   * One that is not answered is dropped, counted and not told of. Undefined: none, at most MAX_PROBE_RULES.
   */
  readonly probeRules?: readonly ProbeRule[] | undefined;
}

export const PROBE_TOKEN_SIZE = 8;

/** One probe to be sent. Dropped and counted where there is no session, no way, or none to keep it whole. */
export interface PathProbe {
  readonly peer: SessionKey;
  /** 8 bytes nobody can guess: an answer shows that the probe arrived where it was sent. */
  readonly token: Uint8Array;
  readonly to: PathEnds;
  /**
   * Bytes of UDP payload the datagram is to have, not to be fragmented on the way; 0 or too few for a probe = as
   * few as possible.
   */
  readonly size: number;
}

/** What went by a path while it has been in the set. */
export interface PathCounts {
  readonly id: number;
  /** Transport messages, keepalives and path frames included. */
  readonly sentPackets: number;
  readonly sentBytes: number;
  /** Those that passed the replay window: of a packet sent by two paths, the copy that came first. */
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  /** Milliseconds since something authentic came by it; undefined = never. */
  readonly lastReceivedMs: number | undefined;
}

/**
 * Of a peer with paths: its data comes by another path than was told last; undefined: by none of the set.
 * At most 10 a second of a peer.
 */
export interface PathArrivalEvent {
  readonly type: 'path-arrival';
  readonly peer: SessionKey;
  readonly path: number | undefined;
  readonly from: PathEnds;
}

export type PathEvent =
  /** A probe was answered. Told for every answer; whether somebody asked is the caller's to know. */
  | {
      readonly type: 'probe-answer';
      readonly peer: SessionKey;
      readonly token: Uint8Array;
      /** Where the answer came from and to. */
      readonly at: PathEnds;
      /**
       * From handing the probe to the socket to reading the answer, by the stamp that came back: a peer can
       * make it anything, below zero too.
       */
      readonly rttMs: number;
      /** Where the peer saw the probe come from; undefined: by a leg. */
      readonly observed: SocketAddress | undefined;
      /** UDP payload of the datagram that brought the probe, as it arrived. */
      readonly size: number;
    }
  /** A probe came by ends no path of the peer's set has; it was answered. At most 10 a second of a peer. */
  | { readonly type: 'probe-from'; readonly peer: SessionKey; readonly from: PathEnds }
  | PathArrivalEvent
  /** The active path has fallen silent; told once each time. */
  | { readonly type: 'path-silent'; readonly peer: SessionKey; readonly path: number }
  /** A report or an answer came by it again. */
  | { readonly type: 'path-heard'; readonly peer: SessionKey; readonly path: number }
  /** The peer's report on a path. At most one a second of a path, the newest. */
  | {
      readonly type: 'path-report';
      readonly peer: SessionKey;
      readonly path: number;
      /** Transport messages sent by it when the report came. */
      readonly sent: number;
      /** Those the peer had received when it sent the report. */
      readonly received: number;
    };

export type PathEffect =
  | { readonly type: 'set-paths'; readonly paths: PeerPaths }
  | { readonly type: 'set-ports'; readonly ports: readonly SocketAddress[] }
  | { readonly type: 'send-probe'; readonly probe: PathProbe };

/**
 * The part of an engine that keeps several ways to one peer. Path sets survive a session's renewal and its
 * end, not the peer's removal.
 */
export interface PathControl {
  /**
   * Replaces the path sets of these peers, without paths by a leg that is not there (any more).
   * @throws EngineError BAD_ARGUMENT; then nothing was changed.
   */
  setPaths(sets: readonly PeerPaths[]): void;
  /**
   * UDP ports beside the engine's own, each at an address of this host: all there are to be; those that are not named are
   * closed. Peers are heard by them, and sent to by what names them as its local end: a NAT that gives each inner port
   * another outer one gives as many as there are. A probe that names one that is not open (somebody else
   * may have the port) is dropped and counted; a path that does is as one from an address that this host has no more.
   * @throws EngineError BAD_ARGUMENT: more than MAX_EXTRA_PORTS, a port that is named twice, or 0
   */
  setPorts(ports: readonly SocketAddress[]): void;
  /** Whether a datagram can be kept from being fragmented: where it cannot, no probe with a size is sent. */
  readonly keepsWhole: boolean;
  /** @throws EngineError BAD_ARGUMENT */
  sendProbes(probes: readonly PathProbe[]): void;
  /** In the order of the set; empty for a peer without one. */
  pathCounts(peer: SessionKey): readonly PathCounts[];
}
