// What the core asks of the world, as data, in the order it came to be. How it is carried out is the
// effect plan's.

import type { PeerConfig, SessionKey, WireguardBinding } from '../../contract/engine.js';
import type { Leg } from '../../wire/leg.js';
import type { LimitEffect } from '../../contract/limit-control.js';
import type { PathEffect } from '../../contract/path-control.js';
import type { ShapingEffect } from '../../contract/shaping-control.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { ExitEffect } from './exit-change.js';
import type { Notice } from './notice.js';
import type { ReceiptReport } from './receipt-report.js';

/** Keep this across a restart; undefined deletes it. Values are opaque to who keeps them. */
export interface PersistEffect {
  readonly type: 'persist';
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** The outcome of a command; `token` is the caller's. */
export type Answer =
  /** A peer answered MeshNode.ping. */
  | { readonly type: 'pong'; readonly identity: Uint8Array; readonly token: Uint8Array }
  /** What MeshNode.fetchReceipts came to. */
  | { readonly type: 'receipts'; readonly token: Uint8Array; readonly reports: readonly ReceiptReport[] }
  /** What MeshNode.signReceipts came to: receipts as they are given to ends. */
  | {
      readonly type: 'signed-receipts';
      readonly token: Uint8Array;
      readonly receipts: readonly Uint8Array[];
    };

/** Wants the engine's counts of these legs at this moment; answered by handleLegCounts. */
export interface LegCountQuery {
  readonly type: 'count-legs';
  readonly query: number;
  readonly legs: readonly number[];
}

/** Wants the engine's counts of the paths to this peer at this moment; answered by handlePathCounts. */
export interface PathCountQuery {
  readonly type: 'count-paths';
  readonly peer: SessionKey;
}

export type Effect =
  | { readonly type: 'send-frame'; readonly to: SocketAddress; readonly frame: Uint8Array }
  | { readonly type: 'send-control'; readonly peer: SessionKey; readonly payload: Uint8Array }
  | { readonly type: 'set-peer'; readonly peer: PeerConfig }
  | { readonly type: 'remove-peer'; readonly peer: SessionKey }
  | { readonly type: 'handshake'; readonly peer: SessionKey }
  | { readonly type: 'install-leg'; readonly leg: Leg }
  | { readonly type: 'remove-leg'; readonly id: number }
  | LimitEffect
  | PathEffect
  | ShapingEffect
  /** The servers whose stock WireGuard clients are relayed, all of them. */
  | { readonly type: 'set-wireguard-bindings'; readonly bindings: readonly WireguardBinding[] }
  | LegCountQuery
  | PathCountQuery
  | ExitEffect
  | Answer
  | PersistEffect
  | { readonly type: 'notify'; readonly notice: Notice };
