// The file behind the store: batches of writes, one after the other, each with its length and a digest.
// It is read and written, never mapped: a file that is damaged, cut short or on a full disk is an error
// and not a signal.
//
//   "omerta journal 1\n"  batch …
//   batch   length u32 | ~length u32 | SHA-256 of the entries, first 16 bytes | entries (length bytes)
//   entry   key length u16 | value length u32, 0xffffffff = deleted | key (UTF-8) | value
//
// All integers little-endian. What is cut off at the end was never finished: it is left out.

import { createHash } from 'node:crypto';

const MAGIC = Buffer.from('omerta journal 1\n');
const BATCH_HEADER = 24;
const ENTRY_HEADER = 6;
const DELETED = 0xffff_ffff;

export interface StoreWrite {
  readonly key: string;
  /** Undefined deletes the key. */
  readonly value: Uint8Array | undefined;
}

/** The file cannot be what was written. */
export class JournalDamaged extends Error {
  constructor(what: string) {
    super(what);
    this.name = 'JournalDamaged';
  }
}

function digest(entries: Uint8Array): Buffer {
  return createHash('sha256').update(entries).digest().subarray(0, 16);
}

/** What an empty journal begins with. */
export function journalStart(): Buffer {
  return Buffer.from(MAGIC);
}

/** One batch, which is read back whole or not at all. */
export function encodeBatch(writes: Iterable<StoreWrite>): Buffer {
  const parts: Uint8Array[] = [];
  for (const { key, value } of writes) {
    const name = Buffer.from(key);
    const header = Buffer.alloc(ENTRY_HEADER);
    header.writeUInt16LE(name.length, 0);
    header.writeUInt32LE(value?.length ?? DELETED, 2);
    parts.push(header, name, value ?? new Uint8Array(0));
  }
  const entries = Buffer.concat(parts);
  const header = Buffer.alloc(BATCH_HEADER);
  header.writeUInt32LE(entries.length, 0);
  header.writeUInt32LE(~entries.length >>> 0, 4);
  digest(entries).copy(header, 8);
  return Buffer.concat([header, entries]);
}

function applyEntries(entries: Buffer, into: Map<string, Uint8Array>): void {
  for (let at = 0; at < entries.length;) {
    const valueAt =
      at + ENTRY_HEADER <= entries.length ? at + ENTRY_HEADER + entries.readUInt16LE(at) : Infinity;
    const length = valueAt <= entries.length ? entries.readUInt32LE(at + 2) : 0;
    const end = valueAt + (length === DELETED ? 0 : length);
    if (end > entries.length) throw new JournalDamaged('an entry is longer than its batch');
    const key = entries.toString('utf8', at + ENTRY_HEADER, valueAt);
    if (length === DELETED) into.delete(key);
    else into.set(key, new Uint8Array(entries.subarray(valueAt, end)));
    at = end;
  }
}

/**
 * Reads what a journal holds.
 * @throws JournalDamaged
 */
export function readJournal(file: Buffer): Map<string, Uint8Array> {
  const entries = new Map<string, Uint8Array>();
  if (!file.subarray(0, MAGIC.length).equals(MAGIC)) {
    if (file.length < MAGIC.length && MAGIC.subarray(0, file.length).equals(file)) return entries;
    throw new JournalDamaged('it does not begin as a journal does');
  }
  let at = MAGIC.length;
  while (at + BATCH_HEADER <= file.length) {
    const length = file.readUInt32LE(at);
    if (file.readUInt32LE(at + 4) !== ~length >>> 0) {
      // After a power failure a file may be longer than what was written of it.
      if (file.subarray(at).every((byte) => byte === 0)) break;
      throw new JournalDamaged(`the length of the batch at byte ${at} is not one`);
    }
    const body = at + BATCH_HEADER;
    if (body + length > file.length) break;
    const batch = file.subarray(body, body + length);
    if (!digest(batch).equals(file.subarray(at + 8, body))) {
      if (batch.every((byte) => byte === 0) && body + length === file.length) break;
      throw new JournalDamaged(`the batch at byte ${at} is not what was written`);
    }
    applyEntries(batch, entries);
    at = body + length;
  }
  return entries;
}
