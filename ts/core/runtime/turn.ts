// One call into the core: the step's time and randomness, and the effects gathered on the way.

import type { SessionKey } from '../../contract/engine.js';
import { encodeMessage, type ControlMessage } from '../protocol/control-message.js';
import type { Refusal } from '../protocol/refusal.js';
import type { Effect } from './effect.js';
import type { Notice } from './notice.js';
import type { Step } from '../../contract/step.js';

export class Turn {
  readonly effects: Effect[] = [];

  constructor(readonly step: Step) {}

  get now(): number {
    return this.step.now;
  }

  random(length: number): Uint8Array {
    return this.step.random(length);
  }

  emit(effect: Effect): void {
    this.effects.push(effect);
  }

  notify(level: Notice['level'], event: string, fields: Notice['fields'] = {}): void {
    this.effects.push({ type: 'notify', notice: { level, event, fields } });
  }

  /** Sends a message inside the session with `peer`. */
  send(peer: SessionKey, request: number, message: ControlMessage): void {
    this.effects.push({ type: 'send-control', peer, payload: encodeMessage({ request, message }) });
  }

  /** Turns a request down. An answer is never refused: an error does not answer an error. */
  refuse(peer: SessionKey, request: number, what: string, reason: Refusal): void {
    this.send(peer, request, { type: 'refused', reason, what });
  }
}
