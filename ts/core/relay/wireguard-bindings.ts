// The WireGuard servers whose stock clients a relay relays: those its operator names, and clients of
// the relay that asked for it. A client is bound under its session key, which its session has proven,
// and at its proven address: so a client cannot bind another's key or choose an address.

import type { SessionKey, WireguardBinding } from '../../contract/engine.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import type { WireguardBindingStatus } from '../runtime/mesh-status.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { Payer, RelayAccounts } from './relay-accounts.js';
import { BoundedTable } from '../runtime/bounded-table.js';
import { addressOwners } from './relay-client.js';
import type { Cap } from './relay-limits.js';
import type { WireguardPolicy } from './relay-policy.js';
import type { RelayRules } from './relay-rules.js';
import type { Turn } from '../runtime/turn.js';

/** What is known of a client that is bound. */
export interface BoundClient {
  readonly key: SessionKey;
  readonly sessionKey: Uint8Array;
  readonly identity: Uint8Array;
  readonly address: SocketAddress;
}

export class WireguardBindings {
  readonly #rules: RelayRules;
  readonly #accounts: RelayAccounts;
  readonly #networksOf: (client: SessionKey) => readonly string[];
  readonly #clients = new BoundedTable<SessionKey, BoundClient, 'prefix' | 'site'>(() => ({
    total: this.#policy.clients,
    shares: {
      prefix: this.#rules.limits.wireguardBindingsPerPrefix,
      site: this.#rules.limits.wireguardBindingsPerSite,
    },
  }));
  /** Keys of the servers named, as they are charged. */
  #named: readonly Uint8Array[] = [];
  /** Whether the engine knows of any. */
  #told = false;

  /** @param networksOf the networks (hex) a client is in. */
  constructor(
    rules: RelayRules,
    accounts: RelayAccounts,
    networksOf: (client: SessionKey) => readonly string[],
  ) {
    this.#rules = rules;
    this.#accounts = accounts;
    this.#networksOf = networksOf;
  }

  /** Whom the operator names, and how many clients may be bound. */
  get #policy(): WireguardPolicy & { readonly clients: number } {
    const { policy, limits } = this.#rules;
    if (policy.wireguard === undefined) return { clients: 0, servers: [] };
    return { clients: limits.wireguardBindings, servers: policy.wireguard.servers };
  }

  /** Also when the rules have changed. */
  start(turn: Turn): void {
    const { clients, servers } = this.#policy;
    for (const [index, client] of [...this.#clients.values()].entries())
      if (index >= clients) {
        this.#clients.delete(client.key);
        this.#accounts.release([client.identity], undefined);
      }
    for (const key of this.#named) this.#accounts.release([key], undefined);
    this.#named = servers.map(({ publicKey }) => publicKey);
    this.#accounts.hold(
      this.#named.map((identity) => ({ identity, networks: [] })),
      undefined,
      turn,
    );
    if (this.#told || servers.length > 0 || this.#clients.size > 0) this.#tell(turn);
  }

  /** @returns why not; undefined when it is bound from now on. */
  bind(client: BoundClient, turn: Turn): 'not-served' | Cap | undefined {
    const { clients, servers } = this.#policy;
    if (clients === 0) return 'not-served';
    if (servers.some(({ publicKey }) => sameBytes(publicKey, client.sessionKey))) return undefined;
    const isNew = !this.#clients.has(client.key);
    const crowded = this.#clients.set(client.key, client, addressOwners(client.address));
    if (crowded !== undefined)
      return crowded === 'total' ? 'wireguard-bindings' : `wireguard-bindings-per-${crowded}`;
    if (isNew) this.#accounts.hold([this.#payer(client)], undefined, turn);
    this.#tell(turn);
    return undefined;
  }

  /** A client's address, or who pays for it, has changed. */
  changed(key: SessionKey, turn: Turn): void {
    const client = this.#clients.get(key);
    if (client === undefined) return;
    this.#clients.hand(key, addressOwners(client.address));
    this.#tell(turn);
  }

  release(key: SessionKey, turn: Turn): void {
    const client = this.#clients.get(key);
    if (client === undefined) return;
    this.#clients.delete(key);
    this.#accounts.release([client.identity], undefined);
    this.#tell(turn);
  }

  /** In the order the engine has them. */
  status(): WireguardBindingStatus[] {
    return this.#all().map(({ client, publicKey, address }) => ({
      peerId: client && encodePeerId(client.identity),
      publicKey: toHex(publicKey),
      address,
    }));
  }

  #payer({ identity, key }: BoundClient): Payer {
    return { identity, networks: this.#networksOf(key) };
  }

  #all(): { client: BoundClient | undefined; publicKey: Uint8Array; address: SocketAddress; payer: Payer }[] {
    const named = this.#policy.servers.map(({ publicKey, address }) => ({
      client: undefined,
      publicKey,
      address,
      payer: { identity: publicKey, networks: [] },
    }));
    const clients = [...this.#clients.values()].map((client) => ({
      client,
      publicKey: client.sessionKey,
      address: client.address,
      payer: this.#payer(client),
    }));
    return [...named, ...clients];
  }

  #tell(turn: Turn): void {
    this.#told = true;
    const bindings = this.#all().map(({ publicKey, address, payer }): WireguardBinding => ({
      publicKey,
      address,
      charging: this.#accounts.charging(payer, undefined, turn),
    }));
    turn.emit({ type: 'set-wireguard-bindings', bindings });
  }
}
