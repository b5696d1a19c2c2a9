// The WireGuard servers whose stock clients a relay relays: those its operator names, and clients of
// the relay that asked for it. A client is bound under its session key, which its session has proven,
// and at its proven address: nobody binds another's key, or names an address.

import type { SessionKey, WireguardBinding } from '../engine/engine.js';
import type { LegCharging } from '../wire/leg.js';
import type { SocketAddress } from '../wire/socket-address.js';
import { sameBytes, toHex } from './bytes.js';
import type { WireguardBindingStatus } from './mesh-status.js';
import { encodePeerId } from './peer-id.js';
import type { WireguardPolicy } from './relay-policy.js';
import type { Turn } from './turn.js';

/** What is known of a client that is bound. */
export interface BoundClient {
  readonly key: SessionKey;
  readonly sessionKey: Uint8Array;
  readonly identity: Uint8Array;
  readonly address: SocketAddress;
}

export class WireguardBindings {
  readonly #policy: WireguardPolicy;
  readonly #chargingOf: (client: BoundClient | undefined) => LegCharging;
  readonly #clients = new Map<SessionKey, BoundClient>();

  /** @param chargingOf who pays; undefined stands for a server the operator named. */
  constructor(policy: WireguardPolicy, chargingOf: (client: BoundClient | undefined) => LegCharging) {
    this.#policy = policy;
    this.#chargingOf = chargingOf;
  }

  start(turn: Turn): void {
    if (this.#policy.servers.length > 0) this.#tell(turn);
  }

  /** @returns why not; undefined when it is bound from now on. */
  bind(client: BoundClient, turn: Turn): 'not-served' | 'capacity' | undefined {
    const { clients, servers } = this.#policy;
    if (clients === 0) return 'not-served';
    if (servers.some(({ publicKey }) => sameBytes(publicKey, client.sessionKey))) return undefined;
    if (!this.#clients.has(client.key) && this.#clients.size >= clients) return 'capacity';
    this.#clients.set(client.key, client);
    this.#tell(turn);
    return undefined;
  }

  /** A client's address, or who pays for it, has changed. */
  changed(key: SessionKey, turn: Turn): void {
    if (this.#clients.has(key)) this.#tell(turn);
  }

  release(key: SessionKey, turn: Turn): void {
    if (this.#clients.delete(key)) this.#tell(turn);
  }

  /** In the order the engine has them. */
  status(): WireguardBindingStatus[] {
    return this.#all().map(({ client, binding }) => ({
      peerId: client && encodePeerId(client.identity),
      publicKey: toHex(binding.publicKey),
      address: binding.address,
    }));
  }

  #all(): { client: BoundClient | undefined; binding: WireguardBinding }[] {
    const named = this.#policy.servers.map(({ publicKey, address }) => ({
      client: undefined,
      binding: { publicKey, address, charging: this.#chargingOf(undefined) },
    }));
    const clients = [...this.#clients.values()].map((client) => ({
      client,
      binding: {
        publicKey: client.sessionKey,
        address: client.address,
        charging: this.#chargingOf(client),
      },
    }));
    return [...named, ...clients];
  }

  #tell(turn: Turn): void {
    const bindings = this.#all().map(({ binding }) => binding);
    turn.emit({ type: 'set-wireguard-bindings', bindings });
  }
}
