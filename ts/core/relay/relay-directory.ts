// The directory as a relay's clients see it: they read it page by page, and are told what changes.

import { fromHex, toHex } from '../../wire/bytes.js';
import { MAX_CONTROL_BODY } from '../protocol/control-frame.js';
import { messageSize, type MessageOf } from '../protocol/control-message.js';
import { Directory } from './directory.js';
import type { PeerRecord } from '../protocol/peer-record.js';
import type { Client } from './relay-client.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';

export class RelayDirectory {
  readonly #directory = new Directory();
  readonly #requests: RequestTable;
  readonly #registered: () => Iterable<Client>;

  constructor(requests: RequestTable, registered: () => Iterable<Client>) {
    this.#requests = requests;
    this.#registered = registered;
  }

  put(record: PeerRecord, networks: readonly string[]): void {
    this.#directory.put(record, networks);
  }

  remove(record: PeerRecord): void {
    this.#directory.remove(record);
  }

  /** Answers a lookup; who has come to the end is told of changes from then on. */
  answerLookup(client: Client, request: number, message: MessageOf<'lookup'>, turn: Turn): void {
    const network = toHex(message.network);
    const empty = {
      type: 'records',
      network: message.network,
      from: Number.MAX_SAFE_INTEGER,
      records: [],
      gone: [],
      version: Number.MAX_SAFE_INTEGER,
      more: true,
    } as const;
    const budget = MAX_CONTROL_BODY - messageSize(empty);
    const page = this.#directory.page(network, message.after, toHex(client.identity), budget);
    turn.send(client.key, request, { ...empty, ...page });
    if (!page.more) {
      client.registration?.cursors.set(network, page.version);
      this.#push(client, network, turn);
    }
  }

  /** Tells what has changed in these networks (hex). */
  pushChanges(networks: readonly string[], turn: Turn): void {
    for (const client of this.#registered())
      for (const network of networks)
        if (client.registration?.cursors.has(network) === true) this.#push(client, network, turn);
  }

  /** The client has shown to receive where it is: it is told what changed meanwhile. */
  resume(client: Client, turn: Turn): void {
    for (const network of client.registration?.cursors.keys() ?? []) this.#push(client, network, turn);
  }

  /** Sends what a client does not have, one page at a time; the next when this one is acknowledged. */
  #push(client: Client, network: string, turn: Turn): void {
    const { registration } = client;
    const cursor = registration?.cursors.get(network);
    const blindedId = fromHex(network);
    if (registration === undefined || cursor === undefined || blindedId === undefined) return;
    if (registration.pushing.has(network) || client.challenged !== undefined) return;
    const empty = {
      type: 'records-changed',
      network: blindedId,
      from: Number.MAX_SAFE_INTEGER,
      records: [],
      gone: [],
      version: Number.MAX_SAFE_INTEGER,
    } as const;
    const budget = MAX_CONTROL_BODY - messageSize(empty);
    const page = this.#directory.page(network, cursor, toHex(client.identity), budget);
    const { from, records, gone, version } = page;
    if (records.length === 0 && gone.length === 0 && (from === cursor || cursor === 0)) {
      registration.cursors.set(network, version);
      return;
    }
    registration.pushing.add(network);
    this.#requests.send(client.key, { ...empty, from, records, gone, version }, turn, (answer, later) => {
      registration.pushing.delete(network);
      const present = client.registration;
      if (present?.cursors.has(network) !== true) return;
      // No answer, or a refusal: the client asks again when it is back.
      if (answer?.type !== 'records-received') present.cursors.delete(network);
      else {
        present.cursors.set(network, Math.max(version, present.cursors.get(network) ?? 0));
        this.#push(client, network, later);
      }
    });
  }
}
