// Which part of a node a request goes to. What nobody here serves is refused, in one place and with a word.

import type { SessionKey } from '../../contract/engine.js';
import type { MessageOf, RequestMessage, RequestType } from '../protocol/control-message.js';
import type { Refusal } from '../protocol/refusal.js';
import type { ExitAgent } from '../exit/exit-agent.js';
import type { DirectPaths } from '../path/direct-paths.js';
import type { CircuitClient } from '../path/circuit-client.js';
import type { RelayService } from '../relay/service/relay-service.js';
import type { Turn } from '../runtime/turn.js';
import type { Uplink } from '../uplink/uplink.js';
import type { MembershipProofs } from './membership-proofs.js';

/** The parts of a node that serve requests, as they are for one sender. */
export interface Receivers {
  /** Undefined = this node is no relay. */
  readonly relay: RelayService | undefined;
  /** Our uplink over this session; undefined = the sender is no relay of ours. */
  readonly uplink: Uplink | undefined;
  readonly circuits: CircuitClient;
  /** Undefined = this node reaches members over relays only. */
  readonly direct: DirectPaths | undefined;
  readonly proofs: MembershipProofs;
  readonly exits: ExitAgent;
}

/** A request: who sent it under which number, and the turn it came in. */
interface Received<K extends RequestType> {
  readonly peer: SessionKey;
  readonly request: number;
  readonly message: MessageOf<K>;
  readonly turn: Turn;
}

interface Handler<K extends RequestType> {
  /** What the sender is told when nobody serves it; undefined: nothing. */
  readonly refusal: Refusal | undefined;
  /** @returns whether somebody does. */
  handle(receivers: Receivers, received: Received<K>): boolean;
}

/** Served by a relay. */
function byRelay<K extends RequestType>(
  refusal: Refusal,
  serve: (relay: RelayService, received: Received<K>) => void,
): Handler<K> {
  return {
    refusal,
    handle: ({ relay }, received) => {
      if (relay !== undefined) serve(relay, received);
      return relay !== undefined;
    },
  };
}

/** Served for our relays alone. */
function forUplink<K extends RequestType>(
  refusal: Refusal | undefined,
  serve: (uplink: Uplink, received: Received<K>, receivers: Receivers) => void,
): Handler<K> {
  return {
    refusal,
    handle: (receivers, received) => {
      const { uplink } = receivers;
      if (uplink !== undefined) serve(uplink, received, receivers);
      return uplink !== undefined;
    },
  };
}

const HANDLERS: { readonly [K in RequestType]: Handler<K> } = {
  register: byRelay('not-served', (relay, { peer, request, message, turn }) =>
    relay.handleRegister(peer, request, message, turn),
  ),
  'join-network': byRelay('not-served', (relay, { peer, request, message, turn }) =>
    relay.handleJoin(peer, request, message, turn),
  ),
  lookup: byRelay('not-served', (relay, { peer, request, message, turn }) =>
    relay.handleLookup(peer, request, message, turn),
  ),
  'circuit-open': byRelay('not-served', (relay, { peer, request, message, turn }) =>
    relay.handleOpen(peer, request, message, turn),
  ),
  'circuit-extend': byRelay('not-served', (relay, { peer, request, message, turn }) =>
    relay.handleExtend(peer, request, message, turn),
  ),
  'circuit-refresh': byRelay('unknown-circuit', (relay, { peer, request, message, turn }) =>
    relay.handleRefresh(peer, request, message, turn),
  ),
  'wireguard-bind': byRelay('not-served', (relay, { peer, request, turn }) =>
    relay.handleWireguardBind(peer, request, turn),
  ),
  unregister: byRelay('not-served', (relay, { peer, request, turn }) =>
    relay.handleUnregister(peer, request, turn),
  ),
  'standing-policy': byRelay('not-served', (relay, { peer, request, message, turn }) =>
    relay.handleStandingPolicy(peer, request, message, turn),
  ),
  receipt: byRelay('unknown-circuit', (relay, { peer, request, message, turn }) =>
    relay.handleReceipt(peer, request, message, turn),
  ),
  'circuit-close': {
    refusal: undefined,
    handle: ({ relay, uplink, circuits }, { peer, request, message, turn }) => {
      // Two relays may be each other's clients: whoever knows the circuit closes it.
      if (relay?.knowsCircuit(message.circuit) === true || uplink === undefined)
        relay?.handleClose(peer, request, message, turn);
      else circuits.handleClose(peer, request, message, turn);
      return true;
    },
  },
  'circuit-offer': forUplink('no-consent', (uplink, { request, message, turn }, { circuits }) =>
    circuits.handleOffer(uplink, request, message, turn),
  ),
  'circuit-opened': forUplink('no-consent', (uplink, { request, message, turn }, { circuits }) =>
    circuits.handleOpened(uplink, request, message, turn),
  ),
  'relay-drain': forUplink('no-consent', (uplink, { request, message, turn }) =>
    uplink.handleDrain(request, message, turn),
  ),
  'records-changed': forUplink('no-consent', (uplink, { request, message, turn }) =>
    uplink.handleRecordsChanged(request, message, turn),
  ),
  // Only a relay that serves us has a use for the answer.
  'address-challenge': forUplink(undefined, (uplink, { peer, request, message, turn }, { direct }) => {
    turn.send(peer, request, { type: 'address-answer', nonce: message.nonce });
    // It sees us elsewhere now; members are told where by what the registration answers.
    if (direct !== undefined) uplink.recordChanged(turn);
  }),
  contact: {
    refusal: 'no-consent',
    handle: ({ direct }, { peer, request, message, turn }) =>
      direct?.handleContact(peer, request, message, turn) === true,
  },
  'filtering-test': {
    refusal: 'no-consent',
    handle: ({ direct }, { peer, request, message, turn }) =>
      direct?.handleFilteringTest(peer, request, message, turn) === true,
  },
  'port-search': {
    refusal: 'no-consent',
    handle: ({ direct }, { peer, request, message, turn }) =>
      direct?.handlePortSearch(peer, request, message, turn) === true,
  },
  'exit-request': {
    refusal: 'not-served',
    handle: ({ exits }, { peer, request, message, turn }) => {
      exits.handleRequest(peer, request, message, turn);
      return true;
    },
  },
  'route-request': {
    refusal: 'not-served',
    handle: ({ exits }, { peer, request, message, turn }) => {
      exits.handleRouteRequest(peer, request, message, turn);
      return true;
    },
  },
  'prove-membership': {
    refusal: undefined,
    handle: ({ relay, proofs }, { peer, request, message, turn }) => {
      proofs.handle(peer, relay?.isClient(peer) === true, request, message, turn);
      return true;
    },
  },
};

/** Hands a request to whoever serves it, or refuses it. */
export function dispatchRequest(
  receivers: Receivers,
  peer: SessionKey,
  request: number,
  message: RequestMessage,
  turn: Turn,
): void {
  // Each handler takes the messages of the type it stands under.
  const handler = HANDLERS[message.type] as unknown as Handler<RequestType>;
  if (handler.handle(receivers, { peer, request, message, turn }) || handler.refusal === undefined) return;
  turn.refuse(peer, request, message.type, handler.refusal);
}
