// A relay that will go. It tells its clients until when it is there, takes on nobody and nothing new, and goes on with
// what it carries. Who has another relay moves and leaves; who has none stays until the end.
//
// What is said last counts: a client is told one thing at a time, so that a repeated notice never overtakes a newer one.

import type { SessionKey } from '../../contract/engine.js';
import type { DrainStatus } from '../runtime/mesh-status.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import type { Client } from './relay-client.js';

/** How often it is looked whether somebody is left. */
const LOOK_MS = 100;
/** A client that has not answered by then is not waited for, where the operator asked for no time: four tries. */
const ANSWER_MS = 1000;

/** What a client knows of the drain, and what it made of it. */
export interface ClientDrain {
  /** The notice it is being told or was told last; undefined = that the relay goes on. */
  readonly notice: Drain | undefined;
  readonly toldAt: number;
  /** `stays`: it has no other relay. `silent`: all tries were in vain. */
  readonly answer: 'asked' | 'leaves' | 'stays' | 'silent';
}

/** One notice. */
export interface Drain {
  /** Monotonic ms. */
  readonly endsAt: number;
  /** Nobody waits for it: it is over when those who can leave have left. */
  readonly automatic: boolean;
}

/** What the relay lends to it. */
export interface DrainHost {
  readonly requests: RequestTable;
  /** Registered ones. */
  clients(): Iterable<Client>;
  /** A relay asks for nothing new either, but stays a neighbour until the end: it is not waited for. */
  isRelay(client: Client): boolean;
  client(key: SessionKey): Client | undefined;
  circuits(): number;
}

export class RelayDrain {
  readonly #host: DrainHost;
  #drain: Drain | undefined;
  #done = false;
  #lookAt: number | undefined;

  constructor(host: DrainHost) {
    this.#host = host;
  }

  get isOn(): boolean {
    return this.#drain !== undefined;
  }

  /** Nobody is left, or the time is up. */
  get isDone(): boolean {
    return this.#done;
  }

  /** Seconds until the relay may be gone, at least one. */
  secondsLeft(now: number): number {
    return Math.max(1, Math.ceil(((this.#drain?.endsAt ?? now) - now) / 1000));
  }

  /** From now on; again with another time, which counts. */
  begin(seconds: number, automatic: boolean, turn: Turn): void {
    this.#drain = { endsAt: turn.now + seconds * 1000, automatic };
    this.#done = false;
    this.#lookAt = turn.now;
    for (const client of this.#host.clients()) this.#tell(client, turn);
    const clients = this.#left().length;
    turn.notify('info', 'relay-draining', { seconds, clients, circuits: this.#host.circuits() });
  }

  /** It stays after all. */
  end(turn: Turn): void {
    if (this.#drain === undefined) return;
    this.#drain = undefined;
    this.#done = false;
    this.#lookAt = undefined;
    for (const client of this.#host.clients()) this.registered(client, turn);
    turn.notify('info', 'relay-undrained');
  }

  /** A client registered: it is told what it does not know, or may not. */
  registered(client: Client, turn: Turn): void {
    if (client.drain?.notice !== this.#drain || client.drain?.answer === 'silent') this.#tell(client, turn);
  }

  /** A client knows nothing of what it was told: it was started or admitted anew, or has left. */
  forgotten(client: Client): void {
    if (client.drain?.answer !== 'asked') client.drain = undefined;
  }

  handleTimeout(turn: Turn): void {
    if (this.#lookAt === undefined || this.#lookAt > turn.now) return;
    this.#lookAt = turn.now + LOOK_MS;
    const drain = this.#drain;
    if (drain === undefined || this.#done) return;
    const left = this.#left();
    const isOver = drain.endsAt <= turn.now || !left.some((client) => isWaitedFor(client, drain, turn.now));
    if (!isOver) return;
    this.#done = true;
    this.#lookAt = undefined;
    turn.notify('info', 'relay-drained', { clients: left.length, circuits: this.#host.circuits() });
  }

  deadline(): number | undefined {
    return this.#lookAt;
  }

  status(now: number): DrainStatus | undefined {
    if (this.#drain === undefined) return undefined;
    const left = this.#left();
    return {
      endsInSeconds: Math.max(0, Math.ceil((this.#drain.endsAt - now) / 1000)),
      done: this.#done,
      clients: left.length,
      staying: left.filter(({ drain }) => drain?.answer === 'stays').length,
      circuits: this.#host.circuits(),
    };
  }

  #left(): Client[] {
    return [...this.#host.clients()].filter((client) => !this.#host.isRelay(client));
  }

  #tell(client: Client, turn: Turn): void {
    if (client.drain?.answer === 'asked') return; // it is told when it has answered
    const notice = this.#drain;
    client.drain = { notice, toldAt: turn.now, answer: 'asked' };
    const seconds = notice === undefined ? 0 : this.secondsLeft(turn.now);
    this.#host.requests.send(client.key, { type: 'relay-drain', seconds }, turn, (answer, later) => {
      if (this.#host.client(client.key) !== client) return;
      const leaves = answer?.type === 'relay-drain-noted' && answer.leaves;
      const said = answer === undefined ? 'silent' : leaves ? 'leaves' : 'stays';
      client.drain = { notice, toldAt: turn.now, answer: said };
      if (notice !== this.#drain) this.#tell(client, later);
    });
  }
}

/** Whether the drain goes on for its sake. */
function isWaitedFor({ drain }: Client, { automatic }: Drain, now: number): boolean {
  if (drain === undefined) return true;
  if (drain.answer === 'silent') return false;
  if (!automatic) return true;
  return drain.answer === 'leaves' || (drain.answer === 'asked' && now - drain.toldAt < ANSWER_MS);
}
