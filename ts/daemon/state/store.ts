// What a MeshNode asked to keep, in lmdb, and who owns the state directory. A write returns when the
// transaction is committed to the file: it survives SIGKILL from then on; the flush to the disk
// follows by itself (lmdb's overlapping sync), so a power failure loses at most the last moments and
// never consistency.

import { mkdirSync } from 'node:fs';
import { open, type Database, type RootDatabase } from 'lmdb';
import { fileError } from '../../host/operator-error.js';
import { requirePrivate } from './state-directory.js';

export interface StoreWrite {
  readonly key: string;
  /** Undefined deletes the key. */
  readonly value: Uint8Array | undefined;
}

const OWNER = 'owner';

export class Store {
  readonly #root: RootDatabase<Uint8Array, string>;
  readonly #mesh: Database<Uint8Array, string>;
  readonly #daemon: Database<string, string>;

  /** Opens or creates the store in its own directory (mode 0700). */
  constructor(path: string) {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      requirePrivate('store', path);
      this.#root = open<Uint8Array, string>({ path, encoding: 'binary', overlappingSync: true });
      this.#mesh = this.#root.openDB<Uint8Array, string>({ name: 'mesh', encoding: 'binary' });
      this.#daemon = this.#root.openDB<string, string>({ name: 'daemon', encoding: 'string' });
    } catch (error) {
      throw fileError('store', path, error);
    }
  }

  /** Everything kept for the MeshNode. */
  load(): Map<string, Uint8Array> {
    const entries = new Map<string, Uint8Array>();
    for (const { key, value } of this.#mesh.getRange({})) entries.set(key, new Uint8Array(value));
    return entries;
  }

  /** Applies all writes in one transaction, in order, and returns when it is committed. */
  write(writes: readonly StoreWrite[]): void {
    if (writes.length === 0) return;
    this.#root.transactionSync(() => {
      for (const { key, value } of writes)
        if (value === undefined) this.#mesh.removeSync(key);
        else this.#mesh.putSync(key, Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    });
  }

  /**
   * Makes `owner` the owner unless the present one is alive. The write transaction is a lock that
   * the kernel gives back when its holder dies, so of several processes exactly one succeeds.
   * @returns the living owner that stands in the way, if one does.
   */
  claim(owner: string, isAlive: (owner: string) => boolean): string | undefined {
    return this.#root.transactionSync(() => {
      const present = this.#daemon.get(OWNER);
      if (present !== undefined && isAlive(present)) return present;
      this.#daemon.putSync(OWNER, owner);
      return undefined;
    });
  }

  /** Gives up what `claim` gave. */
  release(owner: string): void {
    this.#root.transactionSync(() => {
      if (this.#daemon.get(OWNER) === owner) this.#daemon.removeSync(OWNER);
    });
  }

  close(): Promise<void> {
    return this.#root.close();
  }
}
