// Clients that have shown to be in no network yet, by the prefix they come from: where a relay has no room, the
// prefix with most of them makes some. So strangers take no place for longer than it takes others to ask for one.

import { prefixOf, type Client } from './relay-client.js';

export class PassingClients {
  /** By prefix, those that came first at the front. */
  readonly #byPrefix = new Map<string, Set<Client>>();

  add(client: Client): void {
    const prefix = prefixOf(client.address);
    this.#byPrefix.set(prefix, (this.#byPrefix.get(prefix) ?? new Set()).add(client));
  }

  /** Before its address changes, when it has shown to be in a network, and when it is a client no more. */
  delete(client: Client): void {
    const prefix = prefixOf(client.address);
    const clients = this.#byPrefix.get(prefix);
    if (clients?.delete(client) === true && clients.size === 0) this.#byPrefix.delete(prefix);
  }

  /** Who gives up its place to one more of `prefix`; undefined: nobody, for no prefix has more of them. */
  givingWayTo(prefix: string): Client | undefined {
    let most: ReadonlySet<Client> | undefined;
    for (const clients of this.#byPrefix.values()) if (clients.size > (most?.size ?? 0)) most = clients;
    const [oldest] = most ?? [];
    return (most?.size ?? 0) > (this.#byPrefix.get(prefix)?.size ?? 0) + 1 ? oldest : undefined;
  }
}
