// Setting a circuit up under the callee's standing policy, without asking first.

import type { LegKey } from '../../../wire/leg.js';
import type { Turn } from '../../runtime/turn.js';
import type { CircuitLifetime } from './circuit-lifetime.js';
import type { CircuitParts } from './circuit-parts.js';
import { OFFER_TRIES, type Circuit } from '../relay-circuit.js';

/**
 * Joins both ends at once, on a leg the callee prepared. The callee is told before the caller, so that
 * it knows of the circuit when the first frame of it arrives.
 */
export function setUpUnderPolicy(
  { host, clients, consent, table, refusals }: CircuitParts,
  lifetime: CircuitLifetime,
  circuit: Circuit,
  prepared: LegKey,
  turn: Turn,
): void {
  const { id, network, fromCallee, callee, asking } = circuit;
  const record = clients.registered(circuit.calleeIdentity)?.registration?.record;
  if (asking === undefined || record === undefined) return;
  host.requests.send(
    callee.key,
    {
      type: 'circuit-opened',
      circuit: id,
      caller: asking.record,
      network,
      leg: fromCallee,
      on: prepared.id,
      lifetime: lifetime.promise(circuit, turn),
    },
    turn,
    (answer, later) => {
      const stands = table.stands(circuit);
      if (answer?.type === 'circuit-joined') {
        consent.addLeg(callee.key, answer.leg, later);
        if (!stands) lifetime.tellClosed(callee, id, later);
        circuit.joined = true;
        if (stands) lifetime.persist(circuit, later);
        return;
      }
      // Both ends called at once and this call gives way; anything else contradicts the policy.
      if (answer?.reason !== 'busy') consent.suspend(callee.key, circuit.policy, later);
      if (!stands) return;
      refusals.add(answer?.reason ?? 'callee-offline', 1);
      lifetime.close(circuit, later, circuit.caller);
    },
    OFFER_TRIES,
  );
  lifetime.establish(circuit, prepared, record.bytes, Infinity, turn);
}
