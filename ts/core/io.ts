// The edges of the sans-IO core: what goes in, what comes out. The daemon's shell and the simulator
// both speak exactly this. The core takes `now` and random bytes as arguments and returns effects
// as data; it never waits, reads a clock, or touches a socket, file or engine.

import type { EngineEvent, LegCounts, PeerConfig, SessionKey, WireguardBinding } from '../engine/engine.js';
import type { Leg } from '../wire/leg.js';
import type { AccountKind, LegLimits, PrefixLimit, RateLimit } from '../wire/limits.js';
import type { SocketAddress } from '../wire/socket-address.js';
import type { ReceiptReport } from './receipt-collector.js';

/** Cryptography the core needs, given to it by the shell (node:crypto) or the simulator. All pure. */
export interface Primitives {
  /** Ed25519 (RFC 8032). Keys 32 bytes (seed), signatures 64. */
  ed25519PublicKey(seed: Uint8Array): Uint8Array;
  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array;
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  /** X25519 (RFC 7748). x25519 returns undefined for an all-zero result. */
  x25519PublicKey(privateKey: Uint8Array): Uint8Array;
  x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
  sha256(...parts: readonly Uint8Array[]): Uint8Array;
  hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array;
  /** HKDF-SHA256 (RFC 5869), empty salt. */
  hkdfSha256(key: Uint8Array, info: string, length: number): Uint8Array;
  /** ChaCha20-Poly1305 (RFC 8439), 12-byte nonce; open returns undefined when it does not verify. */
  aeadSeal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated: Uint8Array): Uint8Array;
  aeadOpen(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
    associated: Uint8Array,
  ): Uint8Array | undefined;
  /** Compares equal-length secrets in constant time; false when lengths differ. */
  equal(a: Uint8Array, b: Uint8Array): boolean;
}

/** Time and randomness for one step. */
export interface Step {
  /** Monotonic milliseconds; the unit of every deadline the core returns. */
  readonly now: number;
  /** Wall clock, milliseconds since 1970: record validity only. */
  readonly wallClock: number;
  /** Fresh random bytes, as many as asked for. */
  random(length: number): Uint8Array;
}

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

/** A change of what the engine holds frames to; see LimitControl. Applied in order, before legs. */
export type LimitEffect =
  | { readonly type: 'set-limits'; readonly index: number; readonly limits: LegLimits }
  | {
      readonly type: 'set-account-limit';
      readonly kind: AccountKind;
      readonly index: number;
      readonly limit: RateLimit | undefined;
    }
  | { readonly type: 'reset-account'; readonly kind: AccountKind; readonly index: number }
  | { readonly type: 'set-host-limit'; readonly limit: RateLimit | undefined }
  | { readonly type: 'set-prefix-limit'; readonly limit: PrefixLimit | undefined };

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
