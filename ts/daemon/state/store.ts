// What a MeshNode asked to keep, and who owns the state directory. A write returns when the file has
// it: it survives SIGKILL from then on; the flush to the disk follows by itself, so a power failure loses
// at most the last moments and never consistency.
//
// All in it can be learnt again. So a file that is damaged is put aside and a new one begun, and a disk
// that takes nothing costs what was to be kept and nothing else: it is tried again, with all of it.

import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeFolders } from '../../host/make-folders.js';
import { fileError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import { JournalDamaged, encodeBatch, journalStart, readJournal, type StoreWrite } from './journal.js';
import { OwnerClaim } from './owner-claim.js';
import { requirePrivate } from './state-directory.js';

export type { StoreWrite };

/** A journal is written anew when it is this much longer than what it holds. */
const SLACK_BYTES = 1 << 20;
/** The store of earlier versions; what it holds is learnt again. */
const FORMER_FILES = ['data.mdb', 'lock.mdb'];

/** What reading a file fails with that is no journal of ours: a bad sector, 2 GiB or more. */
const DAMAGED_CODES: readonly string[] = ['EIO', 'ERR_FS_FILE_TOO_LARGE'];

/** A file that could not be read: where it is now, and what was wrong with it. */
export interface DamagedStore {
  readonly path: string;
  readonly reason: string;
}

export class Store {
  readonly #directory: string;
  readonly #owner: OwnerClaim;
  /** What is kept; read when it is first asked for, by which time the directory is ours. */
  #entries: Map<string, Uint8Array> | undefined;
  /** The journal, open for writing; undefined while it cannot be. */
  #file: number | undefined;
  /** What is kept and not in the journal. */
  readonly #unwritten = new Map<string, Uint8Array | undefined>();
  /** The disk refused what is in the journal already: there has to be a new one. */
  #spoiled = false;
  /** Bytes of whole batches in it. */
  #length = 0;
  /** Bytes the journal would have if it were written anew now. */
  #live = 0;
  #syncing = false;
  #error: string | undefined;
  #closed = false;
  #damaged: DamagedStore | undefined;

  /** Opens or creates the store in its own directory (mode 0700). @throws OperatorError */
  constructor(path: string) {
    this.#directory = path;
    this.#owner = new OwnerClaim(path);
    try {
      makeFolders(path, 0o700);
      requirePrivate('store', path);
    } catch (error) {
      throw fileError('store', path, error);
    }
  }

  /** Everything kept for the MeshNode. */
  load(): Map<string, Uint8Array> {
    return new Map(this.#kept());
  }

  /** Set once a damaged file was found and put aside. */
  get damaged(): DamagedStore | undefined {
    return this.#damaged;
  }

  /** Why what was written last is not in the file, as an errno name; undefined = it is. */
  get error(): string | undefined {
    return this.#error;
  }

  /** Applies all writes, in order, as one batch. What the disk refuses is kept in memory and tried again. */
  write(writes: readonly StoreWrite[]): void {
    if (writes.length === 0) return;
    const entries = this.#kept();
    for (const { key, value } of writes) {
      const before = entries.get(key);
      if (before !== undefined) this.#live -= key.length + before.length;
      const kept = value && Uint8Array.from(value);
      this.#unwritten.set(key, kept);
      if (kept === undefined) entries.delete(key);
      else {
        entries.set(key, kept);
        this.#live += key.length + kept.length;
      }
    }
    if (this.#error === undefined) this.retry(); // else it is the caller's time to say
  }

  /** Writes what is not written; to be called now and then while `error` is set. */
  retry(): void {
    if (this.#closed) return;
    this.#attempt(() => {
      if (this.#file === undefined || this.#spoiled || this.#length > 2 * this.#live + SLACK_BYTES)
        this.#rewrite();
      else this.#append();
      this.#unwritten.clear();
    });
  }

  /** See OwnerClaim. @throws OperatorError when the directory cannot be written. */
  claim(owner: string, isAlive: (owner: string) => boolean): string | undefined {
    try {
      const present = this.#owner.claim(owner, isAlive);
      if (present === undefined)
        for (const name of FORMER_FILES) rmSync(join(this.#directory, name), { force: true });
      return present;
    } catch (error) {
      throw fileError('store', this.#directory, error);
    }
  }

  /** Gives up what `claim` gave. */
  release(owner: string): void {
    this.#owner.release(owner);
  }

  /** One more attempt at what is not written yet. */
  close(): Promise<void> {
    if (this.#error !== undefined) this.retry();
    this.#closed = true;
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    return Promise.resolve();
  }

  get #path(): string {
    return join(this.#directory, 'journal');
  }

  /** @throws OperatorError when the file cannot be read by this user. */
  #kept(): Map<string, Uint8Array> {
    if (this.#entries !== undefined) return this.#entries;
    try {
      const { entries, damaged } = this.#read();
      this.#entries = entries;
      this.#damaged = damaged;
      for (const [key, value] of entries) this.#live += key.length + value.length;
      return entries;
    } catch (error) {
      throw fileError('store', this.#path, error);
    }
  }

  #read(): { entries: Map<string, Uint8Array>; damaged: DamagedStore | undefined } {
    try {
      // To open a pipe waits for whoever writes to it.
      if (!statSync(this.#path).isFile()) throw new JournalDamaged('it is not a file');
      return { entries: readJournal(readFileSync(this.#path)), damaged: undefined };
    } catch (error) {
      const code = systemErrorCode(error) ?? '';
      if (code === 'ENOENT') return { entries: new Map(), damaged: undefined };
      if (!(error instanceof JournalDamaged) && !DAMAGED_CODES.includes(code)) throw error;
      const aside = `${this.#path}.damaged-${new Date().toISOString().replace(/[:.]/g, '-')}`;
      renameSync(this.#path, aside);
      return { entries: new Map(), damaged: { path: aside, reason: messageOf(error) } };
    }
  }

  #attempt(write: () => void): void {
    try {
      write();
      this.#error = undefined;
      this.#flush();
    } catch (error) {
      this.#error = systemErrorCode(error) ?? messageOf(error);
    }
  }

  /** A batch of what is not written: on a disk that is nearly full there is room for that before there is for all. */
  #append(): void {
    const file = this.#file;
    if (file === undefined || this.#unwritten.size === 0) return;
    const batch = encodeBatch([...this.#unwritten].map(([key, value]) => ({ key, value })));
    try {
      writeAll(file, batch, this.#length);
      this.#length += batch.length;
    } catch (error) {
      // Half a batch at the end would hide those that follow.
      this.#spoiled = true;
      ftruncateSync(file, this.#length);
      this.#spoiled = false;
      throw error;
    }
  }

  /** A new journal with one batch, in place of the present one. */
  #rewrite(): void {
    const aside = `${this.#path}.new`;
    const entries = [...this.#kept()].map(([key, value]) => ({ key, value }));
    const content = Buffer.concat([journalStart(), ...(entries.length > 0 ? [encodeBatch(entries)] : [])]);
    const file = openSync(aside, 'w', 0o600);
    try {
      writeAll(file, content, 0);
      fdatasyncSync(file);
      renameSync(aside, this.#path);
    } catch (error) {
      closeSync(file);
      rmSync(aside, { force: true });
      throw error;
    }
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = file;
    this.#spoiled = false;
    this.#length = content.length;
  }

  /** Asks for the disk to have it, one request at a time and without waiting. */
  #flush(): void {
    if (this.#file === undefined || this.#syncing) return;
    this.#syncing = true;
    const file = this.#file;
    fdatasync(file, (error) => {
      this.#syncing = false;
      // A descriptor that was closed meanwhile was flushed, or replaced by one that was.
      if (error === null || error.code === 'EBADF' || this.#file !== file) return;
      this.#error = error.code;
      this.#spoiled = true;
    });
  }
}

function writeAll(file: number, bytes: Buffer, position: number): void {
  for (let written = 0; written < bytes.length;)
    written += writeSync(file, bytes, written, bytes.length - written, position + written);
}
