// Carries effects out, by plan, in whatever world the core lives: a process with an engine and a store, or
// a simulation.

import type { Engine, SessionKey } from '../../contract/engine.js';
import type { LimitEffect } from '../../contract/limit-control.js';
import type { PathCounts } from '../../contract/path-control.js';
import type { Answer, Effect, PersistEffect } from './effect.js';
import type { ExitEffect } from './exit-change.js';
import { planEffects, type EffectBatch } from './effect-plan.js';
import type { Notice } from './notice.js';

/** What a plan asks of an engine. */
export type EffectEngine = Pick<
  Engine,
  | 'setPeers'
  | 'removePeers'
  | 'installLegs'
  | 'removeLegs'
  | 'setLimits'
  | 'setAccountLimit'
  | 'resetAccount'
  | 'setHostLimit'
  | 'setPrefixLimit'
  | 'setWireguardBindings'
  | 'handshake'
  | 'sendFrames'
  | 'sendControl'
  | 'legCounters'
  | 'paths'
  | 'shaping'
>;

/** The world effects are carried out in. */
export interface EffectWorld {
  readonly engine: EffectEngine;
  /** All writes in one transaction, in order; returns when it is committed. */
  write(writes: readonly PersistEffect[]): void;
  answer(answer: Answer): void;
  notice(notice: Notice): void;
  /** Whom this node forwards for, or by whom it leaves, has changed. */
  exitChanged(change: ExitEffect): void;
  /** Runs one action: what it throws must not keep the next from being done. */
  attempt(what: string, run: () => void): void;
  /** The answer to a question about legs, as counted at its place in the plan; called when all is done. */
  counted(query: number, counts: ReturnType<EffectEngine['legCounters']>): void;
  /** The same of a peer's paths. */
  pathsCounted(peer: SessionKey, counts: readonly PathCounts[]): void;
}

/** Plans and carries out what one turn, or several in a row, asked for. */
export function carryOut(effects: readonly Effect[], world: EffectWorld): void {
  const answered: (() => void)[] = [];
  for (const batch of planEffects(effects)) carryOutBatch(batch, world, answered);
  // What an answer leads to is newer than all of this plan.
  for (const answer of answered) answer();
}

function carryOutBatch(batch: EffectBatch, world: EffectWorld, answered: (() => void)[]): void {
  const { engine } = world;
  const attempt = (run: () => void): void => world.attempt(batch.type, run);
  switch (batch.type) {
    case 'persist':
      attempt(() => world.write(batch.items));
      break;
    case 'change-limits':
      for (const change of batch.items) world.attempt(change.type, () => changeLimit(engine, change));
      break;
    case 'install-legs':
      attempt(() => engine.installLegs(batch.items));
      break;
    case 'set-peers':
      attempt(() => engine.setPeers(batch.items));
      break;
    case 'set-shaping':
      attempt(() => engine.shaping?.setShaping(batch.items));
      break;
    case 'set-ports':
      for (const ports of batch.items) attempt(() => engine.paths?.setPorts(ports));
      break;
    case 'set-paths':
      // One by one: a set that is refused takes no other peer's with it.
      for (const set of batch.items) attempt(() => engine.paths?.setPaths([set]));
      break;
    case 'set-wireguard-bindings':
      for (const bindings of batch.items) attempt(() => engine.setWireguardBindings(bindings));
      break;
    case 'exit-changes':
      for (const change of batch.items) attempt(() => world.exitChanged(change));
      break;
    case 'handshakes':
      for (const peer of batch.items) attempt(() => engine.handshake(peer));
      break;
    case 'send-frames':
      attempt(() => engine.sendFrames(batch.items));
      break;
    case 'send-probes':
      attempt(() => engine.paths?.sendProbes(batch.items));
      break;
    case 'send-control':
      attempt(() => engine.sendControl(batch.items));
      break;
    case 'answers':
      for (const answer of batch.items) world.answer(answer);
      break;
    case 'notices':
      for (const notice of batch.items) world.notice(notice);
      break;
    case 'count-legs':
      for (const { query, legs } of batch.items)
        attempt(() => {
          const counts = engine.legCounters(legs);
          answered.push(() => attempt(() => world.counted(query, counts)));
        });
      break;
    case 'count-paths':
      for (const { peer } of batch.items)
        attempt(() => {
          const counts = engine.paths?.pathCounts(peer) ?? [];
          answered.push(() => attempt(() => world.pathsCounted(peer, counts)));
        });
      break;
    case 'remove-peers':
      attempt(() => engine.removePeers(batch.items));
      break;
    case 'remove-legs':
      attempt(() => engine.removeLegs(batch.items));
  }
}

function changeLimit(engine: EffectEngine, effect: LimitEffect): void {
  switch (effect.type) {
    case 'set-limits':
      engine.setLimits(effect.index, effect.limits);
      break;
    case 'set-account-limit':
      engine.setAccountLimit(effect.kind, effect.index, effect.limit);
      break;
    case 'reset-account':
      engine.resetAccount(effect.kind, effect.index);
      break;
    case 'set-host-limit':
      engine.setHostLimit(effect.limit);
      break;
    case 'set-prefix-limit':
      engine.setPrefixLimit(effect.limit);
  }
}
