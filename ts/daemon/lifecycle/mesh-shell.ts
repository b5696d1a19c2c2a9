// The loop around the sans-IO core: engine events, timeouts and commands go into the MeshNode with
// the time and fresh randomness; the effects that come out are kept in the store and carried out on the
// engine in the order of the effect plan.

import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import { toHex } from '../../wire/bytes.js';
import { carryOut, type EffectWorld } from '../../core/runtime/carry-out.js';
import type { Component } from '../../core/runtime/component.js';
import type { Answer, Effect } from '../../core/runtime/effect.js';
import type { ExitEffect } from '../../core/runtime/exit-change.js';
import type { Step } from '../../contract/step.js';
import type { MeshStatus } from '../../core/runtime/mesh-status.js';
import type { Engine, EngineEvent } from '../../contract/engine.js';
import { messageOf } from '../../host/operator-error.js';
import { wordNotice } from '../../status/model/wording.js';
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

export class MeshShell<Node extends ShellNode = ShellNode> {
  /** Errors the core or the engine threw while working on a step; each one is logged. */
  failures = 0;
  /** Called when the engine says that links, addresses or routes of this host have changed. */
  onHostChanged: () => void = () => undefined;
  /** Called when whom this node forwards for, or by whom it leaves, has changed. */
  onExitChanged: (change: ExitEffect) => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Callers of `answered`, by token (hex). */
  readonly #waiting = new Map<string, (answer: Answer) => void>();
  readonly #world: EffectWorld;

  constructor(
    readonly node: Node,
    readonly engine: Engine,
    readonly store: ShellStore,
    readonly log: Logger,
  ) {
    this.#world = {
      engine,
      write: (writes) => this.store.write(writes),
      answer: (answer) => this.#waiting.get(toHex(answer.token))?.(answer),
      notice: ({ level, fields, event }) =>
        this.log[level]({ ...fields, ...wordNotice(event, fields) }, event),
      exitChanged: (change) => this.onExitChanged(change),
      attempt: (what, run) => this.#guard(what, run),
      counted: (query, counts) => this.#apply(this.node.handleLegCounts(query, counts, stepNow())),
      pathsCounted: (peer, counts) => this.#apply(this.node.handlePathCounts(peer, counts, stepNow())),
    };
  }

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
    if (events.some(({ type }) => type === 'addresses-changed')) this.#guard('host', this.onHostChanged);
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
    carryOut(effects, this.#world);
  }
}
