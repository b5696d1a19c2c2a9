// Asking relays to relay stock WireGuard clients to this node, and what came of it.

import type { SessionKey } from '../../contract/engine.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { WireguardReachStatus } from '../runtime/mesh-status.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import type { Uplink } from '../uplink/uplink.js';

export class WireguardReach {
  readonly #requests: RequestTable;
  readonly #states = new Map<SessionKey, WireguardReachStatus['state']>();

  constructor(requests: RequestTable) {
    this.#requests = requests;
  }

  /** Again with every registration: it ends with the one before. */
  ask({ sessionKey }: Uplink, turn: Turn): void {
    if (!this.#states.has(sessionKey)) this.#states.set(sessionKey, 'asking');
    this.#requests.send(sessionKey, { type: 'wireguard-bind' }, turn, (answer, later) => {
      const state = answer?.type === 'wireguard-bound' ? 'bound' : (answer?.reason ?? 'unanswered');
      if (state !== this.#states.get(sessionKey) && state !== 'bound')
        later.notify('warn', 'wireguard-relay-refused', { reason: state });
      this.#states.set(sessionKey, state);
    });
  }

  /** Whether stock clients reach this node by that relay, as far as it has said. */
  isBound(relay: SessionKey): boolean {
    return this.#states.get(relay) === 'bound';
  }

  /** At the relays that are uplinks still. */
  status(uplink: (key: SessionKey) => Uplink | undefined): WireguardReachStatus[] {
    return [...this.#states].flatMap(([key, state]): WireguardReachStatus[] => {
      const relay = uplink(key);
      if (relay === undefined) return [];
      const relayPeerId = encodePeerId(relay.bootstrap.identity);
      return [{ relayPeerId, address: formatSocketAddress(relay.address), state }];
    });
  }
}
