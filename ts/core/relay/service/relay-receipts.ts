// Usage receipts a relay signs: what it counted in a circuit, for the circuit's two ends.

import type { SessionKey } from '../../../contract/engine.js';
import { sameBytes } from '../../../wire/bytes.js';
import type { MessageOf } from '../../protocol/control-message.js';
import { hasEnd, type Circuit } from '../relay-circuit.js';
import type { RelayCircuits } from '../circuits/relay-circuits.js';
import { refuse, type RelayHost, type RelayParts } from '../relay-host.js';
import type { Turn } from '../../runtime/turn.js';
import { signReceipt } from '../../protocol/usage-receipt.js';

export class RelayReceipts {
  readonly #parts: RelayParts;
  readonly #host: RelayHost;
  readonly #circuits: RelayCircuits;

  constructor(parts: RelayParts, circuits: RelayCircuits) {
    this.#parts = parts;
    this.#host = parts.host;
    this.#circuits = circuits;
  }

  /** What was carried in a circuit so far, for its two ends. */
  handle(peer: SessionKey, request: number, message: MessageOf<'receipt'>, turn: Turn): void {
    const circuit = this.#circuits.get(message.circuit);
    if (circuit?.legCallee === undefined || !hasEnd(circuit, peer)) {
      refuse(this.#parts, peer, request, message.type, 'unknown-circuit', turn);
      return;
    }
    this.#signReceipt(circuit, turn, (receipt, later) => {
      later.send(peer, request, { type: 'receipt-given', receipt });
    });
  }

  /** Receipts of standing circuits, of one end's only if an identity is given; at most `limit`. */
  collect(
    end: Uint8Array | undefined,
    limit: number,
    turn: Turn,
    done: (receipts: readonly Uint8Array[], later: Turn) => void,
  ): void {
    const isOf = ({ callerIdentity, calleeIdentity }: Circuit): boolean =>
      end === undefined || sameBytes(callerIdentity, end) || sameBytes(calleeIdentity, end);
    const circuits = [...this.#circuits.all()]
      .filter((circuit) => circuit.legCallee !== undefined && isOf(circuit))
      .slice(0, limit);
    const receipts: Uint8Array[] = [];
    if (circuits.length === 0) done(receipts, turn);
    for (const circuit of circuits)
      this.#signReceipt(circuit, turn, (receipt, later) => {
        receipts.push(receipt);
        if (receipts.length === circuits.length) done(receipts, later);
      });
  }

  #signReceipt(circuit: Circuit, turn: Turn, done: (receipt: Uint8Array, later: Turn) => void): void {
    const { fromCaller, fromCallee, id, network, callerIdentity, calleeIdentity, countedSince } = circuit;
    this.#host.legQueries.ask([fromCaller.id, fromCallee.id], turn, ([toCallee, toCaller], later) => {
      const none = { packets: 0, bytes: 0 };
      const receipt = {
        relay: this.#host.identity,
        circuit: id,
        network,
        caller: callerIdentity,
        callee: calleeIdentity,
        issued: Math.floor(later.step.wallClock / 1000),
        seconds: Math.ceil((later.now - countedSince) / 1000),
        toCallee: toCallee ?? none,
        toCaller: toCaller ?? none,
      };
      done(
        signReceipt(receipt, (body) => this.#host.sign(body)),
        later,
      );
    });
  }
}
