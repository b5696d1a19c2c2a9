// The records a bootstrap holds, by network. Each network is a log: a new or changed record gets the
// next version, and a reader that knows version n asks for what came after. Only the newest record
// of an identity is in the log. Versions are counted over all networks, so that a log may be dropped
// with its last record and still go on upwards later.

import { toHex } from '../../wire/bytes.js';
import type { PeerRecord } from '../protocol/peer-record.js';

interface Entry {
  readonly version: number;
  readonly identity: string;
  readonly record: PeerRecord;
}

interface Log {
  version: number;
  /** In order of version; superseded and removed entries are skipped by comparing with `newest`. */
  entries: Entry[];
  readonly newest: Map<string, Entry>;
}

export interface Page {
  readonly records: Uint8Array[];
  /** The page is complete up to this version. */
  readonly version: number;
  readonly more: boolean;
}

/** Records on one page at most; the codec's limit. */
const PAGE_RECORDS = 16;
/** CBOR's header of a byte string of 256–1,024 bytes. */
const BYTE_STRING_HEADER = 3;

export class Directory {
  readonly #logs = new Map<string, Log>();
  #version = 0;

  /** Puts a record into the logs of these networks (hex) and takes it out of all others. */
  put(record: PeerRecord, networks: readonly string[]): void {
    const identity = toHex(record.identity);
    for (const [network, log] of this.#logs)
      if (!networks.includes(network) && log.newest.delete(identity)) this.#compact(network, log);
    for (const network of networks) {
      let log = this.#logs.get(network);
      if (log === undefined) {
        log = { version: 0, entries: [], newest: new Map() };
        this.#logs.set(network, log);
      }
      log.version = ++this.#version;
      const entry = { version: log.version, identity, record };
      log.entries.push(entry);
      log.newest.set(identity, entry);
      this.#compact(network, log);
    }
  }

  remove(record: PeerRecord): void {
    this.put(record, []);
  }

  /** The version of a network's newest entry; 0 when there is none. */
  version(network: string): number {
    return this.#logs.get(network)?.version ?? 0;
  }

  /** Records newer than `after`, but not the reader's own, in at most `budget` bytes. */
  page(network: string, after: number, reader: string, budget: number): Page {
    const log = this.#logs.get(network);
    if (log === undefined) return { records: [], version: after, more: false };
    const records: Uint8Array[] = [];
    let left = budget;
    let version = after;
    for (let index = firstAfter(log.entries, after); index < log.entries.length; index++) {
      const entry = log.entries[index];
      if (entry === undefined) break;
      if (log.newest.get(entry.identity) === entry && entry.identity !== reader) {
        const { bytes } = entry.record;
        left -= bytes.length + BYTE_STRING_HEADER;
        if (left < 0 || records.length >= PAGE_RECORDS) return { records, version, more: true };
        records.push(bytes);
      }
      version = entry.version;
    }
    return { records, version: Math.max(after, log.version), more: false };
  }

  #compact(network: string, log: Log): void {
    if (log.newest.size === 0) this.#logs.delete(network);
    else if (log.entries.length > 2 * log.newest.size + 16)
      log.entries = log.entries.filter((entry) => log.newest.get(entry.identity) === entry);
  }
}

/** Binary search: index of the first entry with a version above `after`. */
function firstAfter(entries: readonly Entry[], after: number): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((entries[middle]?.version ?? 0) > after) high = middle;
    else low = middle + 1;
  }
  return low;
}
