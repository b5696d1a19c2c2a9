// In what order effects are carried out, by the daemon and by the simulator alike.
//
// All that a batch of effects wants kept is committed before its first frame leaves, so that a grant a
// peer has seen survives SIGKILL. Then come the tables (limits before the legs that are charged to them,
// legs before the peers that are reached by them, peers before their shaping, their paths (ports before the paths from
// them) and exits by them), then handshakes, then what is
// sent, so that an answer never overtakes the leg or peer it speaks of; last come answers to commands, notices, and questions. A
// removal is a barrier: what was asked for before it is done before it.

import type { PeerConfig, SessionKey, WireguardBinding } from '../../contract/engine.js';
import type { LimitEffect } from '../../contract/limit-control.js';
import type { PathProbe, PeerPaths } from '../../contract/path-control.js';
import type { PeerShaping } from '../../contract/shaping-control.js';
import type { Leg } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { Answer, Effect, LegCountQuery, PathCountQuery, PersistEffect } from './effect.js';
import type { ExitEffect } from './exit-change.js';
import type { Notice } from './notice.js';

type EffectOf<Type extends Effect['type']> = Extract<Effect, { type: Type }>;

/** What each kind of batch holds. */
interface BatchItems {
  readonly persist: PersistEffect;
  readonly 'change-limits': LimitEffect;
  readonly 'install-legs': Leg;
  readonly 'set-peers': PeerConfig;
  readonly 'set-shaping': PeerShaping;
  /** Each item is all there are to be. */
  readonly 'set-ports': readonly SocketAddress[];
  readonly 'set-paths': PeerPaths;
  /** Each item is all bindings there are to be. */
  readonly 'set-wireguard-bindings': readonly WireguardBinding[];
  /** Each says all there is. */
  readonly 'exit-changes': ExitEffect;
  readonly handshakes: SessionKey;
  readonly 'send-frames': EffectOf<'send-frame'>;
  readonly 'send-probes': PathProbe;
  readonly 'send-control': EffectOf<'send-control'>;
  readonly answers: Answer;
  readonly notices: Notice;
  readonly 'count-legs': LegCountQuery;
  readonly 'count-paths': PathCountQuery;
  readonly 'remove-peers': SessionKey;
  readonly 'remove-legs': number;
}

/** What is carried out in one go; never empty. */
export type EffectBatch = {
  [Type in keyof BatchItems]: { readonly type: Type; readonly items: readonly BatchItems[Type][] };
}[keyof BatchItems];

const LIMITS = [
  'set-limits',
  'set-account-limit',
  'reset-account',
  'set-host-limit',
  'set-prefix-limit',
] as const satisfies readonly LimitEffect['type'][];

/**
 * Effects in the batches and the order they are carried out in. Each is in exactly one batch, in the order
 * it came to be, but for the sets of WireGuard bindings and of ports: the last one between two removals says it all.
 */
export function planEffects(effects: readonly Effect[]): EffectBatch[] {
  const batches: EffectBatch[] = [{ type: 'persist', items: only(effects, 'persist') }];
  for (const segment of segments(effects.filter(({ type }) => type !== 'persist')))
    batches.push(...(isRemoval(segment[0]) ? removals(segment) : changes(segment)));
  return batches.filter(({ items }) => items.length > 0);
}

function changes(segment: readonly Effect[]): EffectBatch[] {
  const bindings = only(segment, 'set-wireguard-bindings').slice(-1);
  return [
    { type: 'change-limits', items: only(segment, ...LIMITS) },
    { type: 'install-legs', items: only(segment, 'install-leg').map(({ leg }) => leg) },
    { type: 'set-peers', items: only(segment, 'set-peer').map(({ peer }) => peer) },
    { type: 'set-shaping', items: only(segment, 'set-shaping').map(({ shaping }) => shaping) },
    {
      type: 'set-ports',
      items: only(segment, 'set-ports')
        .map(({ ports }) => ports)
        .slice(-1),
    },
    { type: 'set-paths', items: only(segment, 'set-paths').map(({ paths }) => paths) },
    { type: 'set-wireguard-bindings', items: bindings.map((all) => all.bindings) },
    {
      type: 'exit-changes',
      items: only(segment, 'exit-guests', 'exit-in-use', 'route-guests', 'routes-in-use'),
    },
    { type: 'handshakes', items: only(segment, 'handshake').map(({ peer }) => peer) },
    { type: 'send-frames', items: only(segment, 'send-frame') },
    { type: 'send-probes', items: only(segment, 'send-probe').map(({ probe }) => probe) },
    { type: 'send-control', items: only(segment, 'send-control') },
    { type: 'answers', items: only(segment, 'pong', 'receipts', 'signed-receipts') },
    { type: 'notices', items: only(segment, 'notify').map(({ notice }) => notice) },
    { type: 'count-legs', items: only(segment, 'count-legs') },
    { type: 'count-paths', items: only(segment, 'count-paths') },
  ];
}

function removals(segment: readonly Effect[]): EffectBatch[] {
  return [
    { type: 'remove-peers', items: only(segment, 'remove-peer').map(({ peer }) => peer) },
    { type: 'remove-legs', items: only(segment, 'remove-leg').map(({ id }) => id) },
  ];
}

const isRemoval = (effect: Effect | undefined): boolean =>
  effect?.type === 'remove-peer' || effect?.type === 'remove-leg';

/** Runs of effects that remove something, and of those that do not. */
function segments(effects: readonly Effect[]): Effect[][] {
  const found: Effect[][] = [];
  for (const effect of effects) {
    const last = found.at(-1);
    if (last !== undefined && isRemoval(last[0]) === isRemoval(effect)) last.push(effect);
    else found.push([effect]);
  }
  return found;
}

function only<Type extends Effect['type']>(effects: readonly Effect[], ...types: Type[]): EffectOf<Type>[] {
  return effects.filter((effect): effect is EffectOf<Type> => (types as string[]).includes(effect.type));
}
