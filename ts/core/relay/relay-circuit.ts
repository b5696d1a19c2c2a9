// A circuit as one relay of it knows it. On either side is a client of this relay, or another relay:
//
//   A ── R1 ── R2 ── B      R1: caller A (client), callee R2 (neighbour, asked by circuit-extend)
//                           R2: caller R1 (client, `path` [R1]), callee B (client)
//
// All relays of a circuit know it by the id its first relay made up.

import type { SessionKey } from '../../contract/engine.js';
import type { LegKey } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { RequestType } from '../protocol/control-message.js';

/** An offer unanswered for 250 + 500 + 1000 + 2000 ms: the callee is not there. */
export const OFFER_TRIES = 4;

/** Whoever is next to this relay on one side of a circuit. */
export interface CircuitEnd {
  /** Lower-case hex of `sessionKey`. */
  readonly key: SessionKey;
  readonly sessionKey: Uint8Array;
  readonly identity: Uint8Array;
  /** Proven, or for a relay we ask: configured, and answered from with its session key. */
  readonly address: SocketAddress;
  readonly circuits: Set<Circuit>;
}

export interface Circuit {
  readonly id: Uint8Array;
  /** Lower-case hex. */
  readonly name: string;
  readonly network: Uint8Array;
  readonly caller: CircuitEnd;
  /** Another neighbour takes its place while the circuit is half-open and the first refuses. */
  callee: CircuitEnd;
  /** The two ends of the whole circuit. */
  readonly callerIdentity: Uint8Array;
  readonly calleeIdentity: Uint8Array;
  /** Identities of the relays between the calling end and this relay, the first one first. */
  readonly path: readonly Uint8Array[];
  /** What the caller receives on. */
  readonly legCaller: LegKey;
  /** Serial of the callee's standing policy it was set up under; undefined = the callee is asked. */
  readonly policy: number | undefined;
  /** What the callee receives on; undefined while half-open. */
  legCallee: LegKey | undefined;
  /** What we receive on from either end. */
  readonly fromCaller: LegKey;
  readonly fromCallee: LegKey;
  /** Whether the callee has joined it: only then it is kept across a restart. */
  joined: boolean;
  /** The caller's request, answered when the callee decides. */
  readonly request: number;
  readonly asked: Extract<RequestType, 'circuit-open' | 'circuit-extend'>;
  /** While half-open: the calling end's record, and whom else to ask. */
  asking: { readonly record: Uint8Array; readonly others: readonly CircuitEnd[] } | undefined;
  /** Who pays for what the caller's and the callee's side sends; undefined while half-open. */
  charged: readonly [Uint8Array, Uint8Array] | undefined;
  readonly openedAt: number;
  /** When its legs' counts began: when it was opened, or this relay was restarted. */
  readonly countedSince: number;
  expiresAt: number;
}

export function hasEnd(circuit: Circuit, peer: SessionKey): boolean {
  return circuit.caller.key === peer || circuit.callee.key === peer;
}

/** The neighbour on the other side. */
export function otherEnd(circuit: Circuit, peer: SessionKey): CircuitEnd {
  return circuit.caller.key === peer ? circuit.callee : circuit.caller;
}
