// The loop around the sans-IO core: engine events, timeouts and commands go into the MeshNode with
// the time and fresh randomness; the effects that come out are kept in the store and applied to the
// engine in batches.
//
// Order. All that a batch of effects wants kept is committed before its first frame leaves, so that a
// grant a peer has seen survives SIGKILL. Then come the tables, then handshakes, then what is sent,
// so that an answer never overtakes the leg or peer it speaks of. A removal is a barrier: what was
// asked for before it is done before it.

import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { toHex } from '../../wire/bytes.js';
import { isLimitEffect, type Component, type Effect } from '../../core/runtime/io.js';
import type { Step } from '../../contract/step.js';
import type { MeshStatus } from '../../core/runtime/mesh-status.js';
import type { Engine, EngineEvent } from '../../contract/engine.js';
import { applyLimit } from './apply-limit.js';
import { messageOf } from '../../host/operator-error.js';
import type { StoreWrite } from '../state/store.js';

/** What the shell needs of a MeshNode. */
export interface ShellNode extends Component {
  start(restored: ReadonlyMap<string, Uint8Array>, step: Step): Effect[];
  ping(identity: Uint8Array, token: Uint8Array, step: Step): Effect[];
  status(step: Step): MeshStatus;
}

/** What the shell needs of the store. */
export interface ShellStore {
  load(): ReadonlyMap<string, Uint8Array>;
  write(writes: readonly StoreWrite[]): void;
}

/** A deadline further away than this is looked at again on the way (setTimeout takes 2^31−1 ms). */
const MAX_TIMER_MS = 3_600_000;

/** The present moment for one step of the core. */
export function stepNow(): Step {
  return {
    now: performance.now(),
    wallClock: Date.now(),
    random: (length) => new Uint8Array(randomBytes(length)),
  };
}

type EffectOf<Type extends Effect['type']> = Extract<Effect, { type: Type }>;
/** An effect that answers a command. */
export type Answer = EffectOf<'pong' | 'receipts' | 'signed-receipts'>;

export class MeshShell<Node extends ShellNode = ShellNode> {
  /** Errors the core or the engine threw while working on a step; each one is logged. */
  failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Callers of `answered`, by token (hex). */
  readonly #waiting = new Map<string, (answer: Answer) => void>();

  constructor(
    readonly node: Node,
    readonly engine: Engine,
    readonly store: ShellStore,
    readonly log: Logger,
  ) {}

  /** Starts the node with what the store holds. */
  start(): void {
    this.engine.onEvents((events) => this.#handleEvents(events));
    this.#apply(this.node.start(this.store.load(), stepNow()));
    this.#schedule();
  }

  /** Stops feeding the node. The engine and the store are their owner's to close. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  /** Runs a command of the node. @throws whatever the command throws; then nothing was applied. */
  command(run: (node: Node, step: Step) => Effect[]): void {
    this.#apply(run(this.node, stepNow()));
    this.#schedule();
  }

  status(): MeshStatus {
    return this.node.status(stepNow());
  }

  /**
   * Round-trip time in ms of one ping inside the session with a member or bootstrap.
   * @returns undefined when no answer came within `timeoutMs`.
   * @throws when the node does not know the identity.
   */
  async ping(identity: Uint8Array, timeoutMs: number): Promise<number | undefined> {
    const sentAt = performance.now();
    const answer = await this.answered((node, token, step) => node.ping(identity, token, step), timeoutMs);
    return answer && performance.now() - sentAt;
  }

  /**
   * Runs a command of the node whose outcome is an effect with the command's token (8 bytes).
   * @returns undefined when there was none within `timeoutMs`.
   * @throws whatever the command throws.
   */
  async answered(
    run: (node: Node, token: Uint8Array, step: Step) => Effect[],
    timeoutMs: number,
  ): Promise<Answer | undefined> {
    const token = new Uint8Array(randomBytes(8));
    const key = toHex(token);
    let timer: NodeJS.Timeout | undefined;
    const answer = new Promise<Answer | undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
      this.#waiting.set(key, resolve);
    });
    try {
      this.command((node, step) => run(node, token, step));
      return await answer;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(key);
    }
  }

  #handleEvents(events: readonly EngineEvent[]): void {
    if (this.#closed) return;
    const effects: Effect[] = [];
    for (const event of events)
      this.#guard(`event ${event.type}`, () =>
        effects.push(...this.node.handleEngineEvent(event, stepNow())),
      );
    this.#apply(effects);
    this.#schedule();
  }

  #handleTimeout(): void {
    if (this.#closed) return;
    const deadline = this.node.deadline();
    if (deadline !== undefined && deadline <= performance.now())
      this.#guard('timeout', () => this.#apply(this.node.handleTimeout(stepNow())));
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const deadline = this.#closed ? undefined : this.node.deadline();
    if (deadline === undefined) return;
    // Rounded up: a timer that fires before the deadline would only be set again.
    const wait = Math.min(Math.max(Math.ceil(deadline - performance.now()), 1), MAX_TIMER_MS);
    this.#timer = setTimeout(() => this.#handleTimeout(), wait);
  }

  /** One peer's odd input must not end the service of all others: count, log, go on. */
  #guard(what: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.failures++;
      this.log.error({ what, error: messageOf(error) }, 'step-failed');
    }
  }

  #apply(effects: readonly Effect[]): void {
    if (effects.length === 0) return;
    const writes = effects.filter((effect) => effect.type === 'persist');
    this.#guard('store', () => this.store.write(writes));
    let segment: Effect[] = [];
    let removing = false;
    for (const effect of effects) {
      const removes = effect.type === 'remove-peer' || effect.type === 'remove-leg';
      if (removes && !removing) {
        this.#applySegment(segment);
        segment = [];
      } else if (!removes && removing) {
        this.#applyRemovals(segment);
        segment = [];
      }
      removing = removes;
      segment.push(effect);
    }
    if (removing) this.#applyRemovals(segment);
    else this.#applySegment(segment);
  }

  #applyRemovals(effects: readonly Effect[]): void {
    const peers = effects.filter((effect) => effect.type === 'remove-peer').map(({ peer }) => peer);
    const legs = effects.filter((effect) => effect.type === 'remove-leg').map(({ id }) => id);
    if (peers.length > 0) this.#guard('remove peers', () => this.engine.removePeers(peers));
    if (legs.length > 0) this.#guard('remove legs', () => this.engine.removeLegs(legs));
  }

  #applySegment(effects: readonly Effect[]): void {
    const of = <Type extends Effect['type']>(type: Type): EffectOf<Type>[] =>
      effects.filter((effect): effect is EffectOf<Type> => effect.type === type);
    const legs = of('install-leg').map(({ leg }) => leg);
    const peers = of('set-peer').map(({ peer }) => peer);
    const frames = of('send-frame');
    const messages = of('send-control');
    for (const effect of effects)
      if (isLimitEffect(effect)) this.#guard(effect.type, () => applyLimit(this.engine, effect));
    // Legs before peers: a peer's endpoint may be a leg.
    if (legs.length > 0) this.#guard('install legs', () => this.engine.installLegs(legs));
    if (peers.length > 0) this.#guard('set peers', () => this.engine.setPeers(peers));
    for (const { bindings } of of('set-wireguard-bindings').slice(-1))
      this.#guard('wireguard bindings', () => this.engine.setWireguardBindings(bindings));
    for (const { peer } of of('handshake')) this.#guard('handshake', () => this.engine.handshake(peer));
    if (frames.length > 0) this.#guard('send frames', () => this.engine.sendFrames(frames));
    if (messages.length > 0) this.#guard('send control', () => this.engine.sendControl(messages));
    for (const answer of [...of('pong'), ...of('receipts'), ...of('signed-receipts')])
      this.#waiting.get(toHex(answer.token))?.(answer);
    for (const { notice } of of('notify')) this.log[notice.level](notice.fields, notice.event);
    for (const { query, legs } of of('count-legs'))
      this.#guard('count legs', () => {
        const counts = this.engine.legCounters(legs);
        this.#apply(this.node.handleLegCounts(query, counts, stepNow()));
      });
  }
}
