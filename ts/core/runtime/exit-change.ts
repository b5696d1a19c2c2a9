// What the core tells the host of exits: whom it forwards for, and by whom its own traffic leaves.

import type { SessionKey } from '../../contract/engine.js';
import type { Refusal } from '../protocol/refusal.js';

/** A member whose packets this node forwards. */
export interface ExitGuest {
  readonly sessionKey: SessionKey;
  readonly identity: Uint8Array;
  /** Its inner addresses: what it sends from. */
  readonly addresses: readonly string[];
  /** How long it may from now on, if nothing else is said; milliseconds. */
  readonly lifetimeMs: number;
}

/** By whom this node's traffic leaves. */
export interface ExitInUse {
  readonly identity: Uint8Array;
  /** Own inner addresses the exit knows this node by: what is sent is sent from them. Undefined = not that family. */
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  /** Where it resolves names, addresses of its own; empty = it does not. */
  readonly resolvers: readonly string[];
  /** CIDR prefixes behind it that it forwards to although they are private. */
  readonly lan: readonly string[];
}

/** A prefix of a LAN that is reached by way of a member. */
export interface RouteInUse {
  /** CIDR. */
  readonly prefix: string;
  readonly identity: Uint8Array;
  /** Own inner address of the prefix's family, by which that member knows this node; undefined = there is none. */
  readonly source: string | undefined;
}

/** Each says all there is, whenever it changes. */
export type ExitEffect =
  | { readonly type: 'exit-guests'; readonly guests: readonly ExitGuest[] }
  | { readonly type: 'route-guests'; readonly guests: readonly ExitGuest[] }
  | { readonly type: 'routes-in-use'; readonly routes: readonly RouteInUse[] }
  | { readonly type: 'exit-in-use'; readonly use: ExitInUse | undefined };

/** How it stands with one of the exits this node was told to use, or a member whose LAN it is to reach. */
export type ExitState =
  /** Not asked: one before it is used. */
  | 'standby'
  /** No member by this identity, or no proof of membership yet. */
  | 'unknown'
  /** Its record does not say that it serves an exit. */
  | 'not-offered'
  | 'asking'
  | 'granted'
  | 'unanswered'
  | Refusal;

export interface GuestStatus {
  readonly peerId: string;
  readonly addresses: readonly string[];
  readonly sinceMs: number;
  readonly expiresInMs: number;
}

export interface RouteStatus {
  /** Prefixes behind this node; empty = none. */
  readonly advertised: readonly string[];
  readonly guests: readonly GuestStatus[];
  /** What this node accepts, in the order it was told to. */
  readonly accepted: readonly {
    readonly prefix: string;
    readonly peerId: string;
    readonly state: ExitState;
    /**
     * Whether packets go there by this member. Of one prefix accepted of several, the first that grants it has it; of
     * prefixes within each other, the longest.
     */
    readonly isActive: boolean;
  }[];
  /** Members whose records say that a LAN is behind them; undefined = not asked which, or no answer. */
  readonly offers: readonly { readonly peerId: string; readonly answer: RouteAnswer | undefined }[];
}

/** What a member said of the LANs behind it: their prefixes, or why none are for this node. */
export type RouteAnswer =
  { readonly prefixes: readonly string[] } | { readonly refused: Refusal | 'unanswered' };

export interface ExitStatus {
  /** Undefined = this node serves none. */
  readonly service:
    | {
        readonly ipv4: boolean;
        readonly ipv6: boolean;
        readonly dns: boolean;
        readonly lan: readonly string[];
        readonly chain: boolean;
      }
    | undefined;
  readonly guests: readonly GuestStatus[];
  /** In the order they are tried; empty = this node uses none. */
  readonly choice: readonly {
    readonly peerId: string;
    readonly state: ExitState;
    /** By whom what it forwards leaves, peer ids; empty = by itself. */
    readonly via: readonly string[];
    readonly isActive: boolean;
    readonly lan: readonly string[];
    readonly ipv4: boolean;
    readonly ipv6: boolean;
    readonly dns: boolean;
    readonly expiresInMs: number | undefined;
  }[];
  /** Peer ids of members whose records say that they serve one. */
  readonly offers: readonly string[];
}
