// The edges of the sans-IO core: what goes in, what comes out. The daemon's shell and the simulator
// both speak exactly this. The core takes `now` and random bytes as arguments and returns effects
// as data; it never waits, reads a clock, or touches a socket, file or engine.

import type {
  EngineEvent,
  LegCounts,
  PeerConfig,
  SessionKey,
  WireguardBinding,
} from '../../contract/engine.js';
import type { Leg } from '../../wire/leg.js';
import type { LimitEffect } from '../../contract/limit-control.js';
import type { Step } from '../../contract/step.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { ReceiptReport } from './receipt-report.js';

/** What the core asks of the world, in order. */
export type Effect =
  | { readonly type: 'send-frame'; readonly to: SocketAddress; readonly frame: Uint8Array }
  | { readonly type: 'send-control'; readonly peer: SessionKey; readonly payload: Uint8Array }
  | { readonly type: 'set-peer'; readonly peer: PeerConfig }
  | { readonly type: 'remove-peer'; readonly peer: SessionKey }
  | { readonly type: 'handshake'; readonly peer: SessionKey }
  | { readonly type: 'install-leg'; readonly leg: Leg }
  | { readonly type: 'remove-leg'; readonly id: number }
  | LimitEffect
  /** A peer answered MeshNode.ping; `token` is the caller's 8 bytes. */
  | { readonly type: 'pong'; readonly identity: Uint8Array; readonly token: Uint8Array }
  /** The servers whose stock WireGuard clients are relayed, all of them. */
  | { readonly type: 'set-wireguard-bindings'; readonly bindings: readonly WireguardBinding[] }
  /** Wants the engine's counts of these legs at this moment; answered by handleLegCounts. */
  | { readonly type: 'count-legs'; readonly query: number; readonly legs: readonly number[] }
  /** What MeshNode.fetchReceipts came to; `token` is the caller's. */
  | { readonly type: 'receipts'; readonly token: Uint8Array; readonly reports: readonly ReceiptReport[] }
  /** What MeshNode.signReceipts came to: receipts as they are given to ends. */
  | { readonly type: 'signed-receipts'; readonly token: Uint8Array; readonly receipts: readonly Uint8Array[] }
  /** Keep this across a restart; undefined deletes it. Values are opaque to the shell. */
  | { readonly type: 'persist'; readonly key: string; readonly value: Uint8Array | undefined }
  | { readonly type: 'notify'; readonly notice: Notice };

const LIMIT_EFFECTS: ReadonlySet<string> = new Set<LimitEffect['type']>([
  'set-limits',
  'set-account-limit',
  'reset-account',
  'set-host-limit',
  'set-prefix-limit',
]);

export function isLimitEffect(effect: Effect): effect is LimitEffect {
  return LIMIT_EFFECTS.has(effect.type);
}

/** Things a person or a log may want to know. */
export interface Notice {
  readonly level: 'debug' | 'info' | 'warn';
  /** Stable, kebab-case: `bootstrap-registered`, `circuit-established`, … */
  readonly event: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
}

/** The verbs of every core component: input in, effects out, and when to be called again. */
export interface Component {
  handleEngineEvent(event: EngineEvent, step: Step): Effect[];
  /** The answer to a `count-legs` effect: counts in the order of its legs. */
  handleLegCounts(query: number, counts: readonly (LegCounts | undefined)[], step: Step): Effect[];
  /** Called when `deadline()` has passed. */
  handleTimeout(step: Step): Effect[];
  /** Monotonic ms at which handleTimeout wants to be called; undefined = no timer runs. */
  deadline(): number | undefined;
}
