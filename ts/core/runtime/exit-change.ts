// What the core tells the host of exits: whom it forwards for, and by whom its own traffic leaves.

import type { SessionKey } from '../../contract/engine.js';
import type { Refusal } from '../protocol/control-message.js';

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

/** Each says all there is, whenever it changes. */
export type ExitEffect =
  | { readonly type: 'exit-guests'; readonly guests: readonly ExitGuest[] }
  | { readonly type: 'exit-in-use'; readonly use: ExitInUse | undefined };

/** How it stands with one of the exits this node was told to use. */
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
  readonly guests: readonly {
    readonly peerId: string;
    readonly addresses: readonly string[];
    readonly sinceMs: number;
    readonly expiresInMs: number;
  }[];
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
