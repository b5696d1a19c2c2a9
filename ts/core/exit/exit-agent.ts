// Both sides of an exit in one node, which know of each other: whoever forwards for others and leaves by
// another himself is a chain.

import type { SessionKey } from '../../contract/engine.js';
import type { MemberTable } from '../members/member-table.js';
import type { ControlMessage, MessageOf } from '../protocol/control-message.js';
import { MAX_LAN_PREFIXES } from '../protocol/control-message.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { earliest } from '../runtime/earliest.js';
import type { ExitStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { checkChoice, ExitClient, type ExitChoice } from './exit-client.js';
import { EXIT_CAPABILITY, MAX_RIGHTS, type ExitService } from './exit-rights.js';
import { ExitServer } from './exit-server.js';

/** What the node lends to its exits. */
export interface ExitAgentHost {
  readonly identity: Uint8Array;
  readonly members: MemberTable;
  readonly peers: PeerTable;
  readonly requests: RequestTable;
}

/** What this node serves, and what it uses; undefined = nothing, nobody. */
export interface ExitSettings {
  readonly service: ExitService | undefined;
  readonly choice: ExitChoice | undefined;
}

export class ExitAgent {
  readonly #members: MemberTable;
  readonly #server: ExitServer;
  readonly #client: ExitClient;

  constructor(host: ExitAgentHost) {
    this.#members = host.members;
    this.#client = new ExitClient({ ...host, upstreamChanged: (turn) => this.#server.reconsider(turn) });
    this.#server = new ExitServer({ ...host, upstream: () => this.#client.upstream });
  }

  /** What the record says of it. */
  get capabilities(): readonly string[] {
    return this.#server.serves ? [EXIT_CAPABILITY] : [];
  }

  /** @throws RangeError that names what cannot be; then nothing has changed. */
  set({ service, choice }: ExitSettings, turn: Turn): void {
    if (choice !== undefined) checkChoice(choice);
    if (service !== undefined) checkService(service);
    this.#client.use(choice, turn);
    this.#server.setService(service, turn);
  }

  handleRequest(peer: SessionKey, request: number, message: MessageOf<'exit-request'>, turn: Turn): void {
    this.#server.handle(peer, request, message, turn);
  }

  /** @returns whether the message is one of these, which want no answer. */
  handleNotice(peer: SessionKey, message: ControlMessage, turn: Turn): boolean {
    if (message.type === 'exit-released') this.#server.handleReleased(peer, turn);
    else if (message.type === 'exit-withdrawn') this.#client.handleWithdrawn(peer, message.reason, turn);
    else return false;
    return true;
  }

  sessionLost(peer: SessionKey, turn: Turn): void {
    this.#client.lost(peer, turn);
  }

  memberGone(peer: SessionKey, turn: Turn): void {
    this.#server.memberGone(peer, turn);
    this.#client.lost(peer, turn);
  }

  handleTimeout(turn: Turn): void {
    this.#client.handleTimeout(turn);
    this.#server.handleTimeout(turn);
  }

  deadline(): number | undefined {
    return earliest(this.#client.deadline(), this.#server.deadline());
  }

  status(now: number): ExitStatus {
    const offers = [...this.#members.members.values()]
      .filter(({ record }) => record.capabilities.includes(EXIT_CAPABILITY))
      .map(({ identity }) => encodePeerId(identity));
    return { ...this.#server.status(now), choice: this.#client.status(now), offers };
  }
}

function checkService({ rights, lan }: ExitService): void {
  if (rights.length > MAX_RIGHTS)
    throw new RangeError(`rights: ${rights.length} given, at most ${MAX_RIGHTS} are possible`);
  if (lan.length > MAX_LAN_PREFIXES)
    throw new RangeError(`lan: ${lan.length} prefixes given, at most ${MAX_LAN_PREFIXES} are possible`);
}
