// The records a bootstrap holds, by network. Each network is a log: a new or changed record gets the
// next version, and a reader that knows version n asks for what came after. Only the newest record
// of an identity is in the log, and after it was taken out, that it is gone: as long as few are. A reader
// that has missed what is forgotten begins again. Versions are counted over all networks, so that a log may be dropped
// with its last record and still go on upwards later.

import { fromHex, toHex } from '../../wire/bytes.js';
import type { PeerRecord } from '../protocol/peer-record.js';

interface Entry {
  readonly version: number;
  readonly identity: string;
  /** Undefined: it is gone. */
  readonly record: PeerRecord | undefined;
}

interface Log {
  version: number;
  /** In order of version; superseded and removed entries are skipped by comparing with `newest`. */
  entries: Entry[];
  readonly newest: Map<string, Entry>;
  /** How many of the newest are gone. */
  gone: number;
  /** The newest version of those that are forgotten. */
  forgotten: number;
}

export interface Page {
  /** It has what is newer than this version; 0: what was told before is void. */
  readonly from: number;
  readonly records: Uint8Array[];
  /** Identities that are no longer in the directory. */
  readonly gone: Uint8Array[];
  /** The page is complete up to this version. */
  readonly version: number;
  readonly more: boolean;
}

/** Records on one page at most; the codec's limit. */
const PAGE_RECORDS = 16;
/** CBOR's header of a byte string of 256–1,024 bytes. */
const BYTE_STRING_HEADER = 3;
/** An identity on a page, with its header. */
const GONE_BYTES = 34;
/** So many gone ones are remembered beside as many as there are records. */
export const MIN_GONE = 64;

export class Directory {
  readonly #logs = new Map<string, Log>();
  #version = 0;

  /** Puts a record into the logs of these networks (hex) and takes it out of all others. */
  put(record: PeerRecord, networks: readonly string[]): void {
    const identity = toHex(record.identity);
    for (const [network, log] of this.#logs)
      if (!networks.includes(network) && log.newest.get(identity)?.record !== undefined)
        this.#put(network, log, { version: ++this.#version, identity, record: undefined });
    for (const network of networks) {
      let log = this.#logs.get(network);
      if (log === undefined) {
        log = { version: 0, entries: [], newest: new Map(), gone: 0, forgotten: 0 };
        this.#logs.set(network, log);
      }
      this.#put(network, log, { version: ++this.#version, identity, record });
    }
  }

  #put(network: string, log: Log, entry: Entry): void {
    const before = log.newest.get(entry.identity);
    if (before !== undefined && before.record === undefined) log.gone--;
    if (entry.record === undefined) log.gone++;
    log.version = entry.version;
    log.entries.push(entry);
    log.newest.set(entry.identity, entry);
    this.#compact(network, log);
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
    if (log === undefined) return { from: 0, records: [], gone: [], version: this.#version, more: false };
    const records: Uint8Array[] = [];
    const gone: Uint8Array[] = [];
    const from = after < log.forgotten ? 0 : after;
    let left = budget;
    let version = from;
    for (let index = firstAfter(log.entries, from); index < log.entries.length; index++) {
      const entry = log.entries[index];
      if (entry === undefined) break;
      const identity = fromHex(entry.identity);
      // Who begins from nothing has nobody to forget.
      const tells = entry.record !== undefined || from > 0;
      if (tells && log.newest.get(entry.identity) === entry && entry.identity !== reader && identity) {
        const bytes = entry.record?.bytes;
        left -= bytes === undefined ? GONE_BYTES : bytes.length + BYTE_STRING_HEADER;
        if (left < 0 || records.length + gone.length >= PAGE_RECORDS)
          return { from, records, gone, version, more: true };
        if (bytes === undefined) gone.push(identity);
        else records.push(bytes);
      }
      version = entry.version;
    }
    return { from, records, gone, version: Math.max(from, log.version), more: false };
  }

  #compact(network: string, log: Log): void {
    const live = log.newest.size - log.gone;
    if (live === 0) {
      this.#logs.delete(network);
      return;
    }
    if (log.gone > live + MIN_GONE)
      for (const entry of log.entries) {
        if (entry.record !== undefined || log.newest.get(entry.identity) !== entry) continue;
        log.newest.delete(entry.identity);
        log.gone--;
        log.forgotten = entry.version;
        if (log.gone <= (live + MIN_GONE) / 2) break;
      }
    if (log.entries.length > 2 * log.newest.size + 16)
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
