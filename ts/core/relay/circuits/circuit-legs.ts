// The two forward legs of a circuit, and the accounts that pay for what is sent on them.

import type { LegCharging } from '../../../wire/leg.js';
import { toHex } from '../../../wire/bytes.js';
import type { Turn } from '../../runtime/turn.js';
import type { Payer, RelayAccounts } from '../relay-accounts.js';
import type { RelayClients } from '../relay-clients.js';
import type { RelayHost } from '../relay-host.js';
import type { CircuitParts } from './circuit-parts.js';
import type { Circuit } from '../relay-circuit.js';

export class CircuitLegs {
  readonly #host: RelayHost;
  readonly #accounts: RelayAccounts;
  readonly #clients: RelayClients;

  constructor({ host, accounts, clients }: CircuitParts) {
    this.#host = host;
    this.#accounts = accounts;
    this.#clients = clients;
  }

  /** Those next to us pay: for another relay's clients, that relay. */
  charge(circuit: Circuit, turn: Turn): void {
    const { caller, callee, network } = circuit;
    circuit.charged = [caller.identity, callee.identity];
    this.#accounts.hold(
      circuit.charged.map((identity) => this.#payer(identity)),
      toHex(network),
      turn,
    );
  }

  /** Writes both legs; addresses are the ends' proven ones of this moment. Nothing while it is half-open. */
  install(circuit: Circuit, turn: Turn): void {
    const { caller, callee, legCaller, legCallee, fromCaller, fromCallee, charged } = circuit;
    if (legCallee === undefined || charged === undefined) return;
    const [callerCharging, calleeCharging] = charged.map((identity) =>
      this.#accounts.charging(this.#payer(identity), toHex(circuit.network), turn),
    ) as [LegCharging, LegCharging];
    const common = { action: 'forward', lifetimeMs: Math.max(1, circuit.expiresAt - turn.now) } as const;
    this.#host.legs.install(
      {
        ...fromCaller,
        ...common,
        charging: callerCharging,
        source: caller.address,
        next: { ...legCallee, address: callee.address },
      },
      turn,
    );
    this.#host.legs.install(
      {
        ...fromCallee,
        ...common,
        charging: calleeCharging,
        source: callee.address,
        next: { ...legCaller, address: caller.address },
      },
      turn,
    );
  }

  remove({ charged, network, fromCaller, fromCallee }: Circuit, turn: Turn): void {
    if (charged !== undefined) this.#accounts.release(charged, toHex(network));
    this.#host.legs.remove(fromCaller.id, turn);
    this.#host.legs.remove(fromCallee.id, turn);
  }

  #payer(identity: Uint8Array): Payer {
    return { identity, networks: this.#clients.registered(identity)?.registration?.networks ?? [] };
  }
}
