// Both sides of an exit in one node, which know of each other: whoever forwards for others and leaves by
// another himself is a chain. Beside them both sides of routes: LANs behind members.

import type { SessionKey } from '../../contract/engine.js';
import type { MemberTable } from '../members/member-table.js';
import type { ControlMessage, MessageOf } from '../protocol/control-message.js';
import { MAX_LAN_PREFIXES } from '../protocol/message-limits.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { earliest } from '../runtime/earliest.js';
import type { ExitStatus, RouteStatus } from '../runtime/exit-change.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { checkChoice, ExitClient, type ExitChoice } from './exit-client.js';
import {
  EXIT_CAPABILITY,
  MAX_RIGHTS,
  ROUTE_CAPABILITY,
  type ExitService,
  type RouteService,
} from './exit-rights.js';
import { ExitServer } from './exit-server.js';
import { offers } from './proven-network.js';
import { checkAccepted, RouteClient, type AcceptedRoute } from './route-client.js';
import { RouteServer } from './route-server.js';

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

/** LANs behind this node, undefined = none; and those behind others it sends to. */
export interface RouteSettings {
  readonly service: RouteService | undefined;
  readonly accepted: readonly AcceptedRoute[];
}

export class ExitAgent {
  readonly #members: MemberTable;
  readonly #server: ExitServer;
  readonly #client: ExitClient;
  readonly #routeServer: RouteServer;
  readonly #routeClient: RouteClient;

  constructor(host: ExitAgentHost) {
    this.#members = host.members;
    this.#client = new ExitClient({ ...host, upstreamChanged: (turn) => this.#server.reconsider(turn) });
    this.#server = new ExitServer({ ...host, upstream: () => this.#client.upstream });
    this.#routeServer = new RouteServer(host);
    this.#routeClient = new RouteClient(host);
  }

  /** What the record says of it. */
  get capabilities(): readonly string[] {
    return [
      ...(this.#server.serves ? [EXIT_CAPABILITY] : []),
      ...(this.#routeServer.serves ? [ROUTE_CAPABILITY] : []),
    ];
  }

  /** @throws RangeError that names what cannot be; then nothing has changed. */
  set({ service, choice }: ExitSettings, turn: Turn): void {
    if (choice !== undefined) checkChoice(choice);
    if (service !== undefined) checkService(service);
    this.#client.use(choice, turn);
    this.#server.setService(service, turn);
  }

  /** @throws RangeError that names what cannot be; then nothing has changed. */
  setRoutes({ service, accepted }: RouteSettings, turn: Turn): void {
    checkAccepted(accepted);
    if (service !== undefined) checkService({ rights: service.rights, lan: service.prefixes });
    this.#routeClient.accept(accepted, turn);
    this.#routeServer.setService(service, turn);
  }

  /** Asks members which LANs are behind them. */
  surveyRoutes(turn: Turn): void {
    this.#routeClient.survey(turn);
  }

  handleRouteRequest(
    peer: SessionKey,
    request: number,
    message: MessageOf<'route-request'>,
    turn: Turn,
  ): void {
    this.#routeServer.handle(peer, request, message, turn);
  }

  handleRequest(peer: SessionKey, request: number, message: MessageOf<'exit-request'>, turn: Turn): void {
    this.#server.handle(peer, request, message, turn);
  }

  /** @returns whether the message is one of these, which want no answer. */
  handleNotice(peer: SessionKey, message: ControlMessage, turn: Turn): boolean {
    if (message.type === 'exit-released') this.#server.handleReleased(peer, turn);
    else if (message.type === 'exit-withdrawn') this.#client.handleWithdrawn(peer, message.reason, turn);
    else if (message.type === 'route-released') this.#routeServer.handleReleased(peer, turn);
    else if (message.type === 'route-withdrawn')
      this.#routeClient.handleWithdrawn(peer, message.reason, turn);
    else return false;
    return true;
  }

  sessionLost(peer: SessionKey, turn: Turn): void {
    this.#client.lost(peer, turn);
    this.#routeClient.lost(peer, turn);
  }

  /** The member is reached again. */
  reached(peer: SessionKey, turn: Turn): void {
    this.#client.reached(peer, turn);
    this.#routeClient.reached(peer, turn);
  }

  memberGone(peer: SessionKey, turn: Turn): void {
    this.#server.memberGone(peer, turn);
    this.#routeServer.handleReleased(peer, turn);
    this.sessionLost(peer, turn);
  }

  handleTimeout(turn: Turn): void {
    this.#client.handleTimeout(turn);
    this.#server.handleTimeout(turn);
    this.#routeClient.handleTimeout(turn);
    this.#routeServer.handleTimeout(turn);
  }

  deadline(): number | undefined {
    return earliest(
      this.#client.deadline(),
      this.#server.deadline(),
      this.#routeClient.deadline(),
      this.#routeServer.deadline(),
    );
  }

  status(now: number): ExitStatus {
    return {
      ...this.#server.status(now),
      choice: this.#client.status(now),
      offers: offers(this.#members, EXIT_CAPABILITY).map(({ identity }) => encodePeerId(identity)),
    };
  }

  routeStatus(now: number): RouteStatus {
    return { ...this.#routeServer.status(now), ...this.#routeClient.status() };
  }
}

function checkService({ rights, lan }: Pick<ExitService, 'rights' | 'lan'>): void {
  if (rights.length > MAX_RIGHTS)
    throw new RangeError(`rights: ${rights.length} given, at most ${MAX_RIGHTS} are possible`);
  if (lan.length > MAX_LAN_PREFIXES)
    throw new RangeError(`lan: ${lan.length} prefixes given, at most ${MAX_LAN_PREFIXES} are possible`);
}
