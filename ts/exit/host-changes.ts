// All that is changed on the host, with a journal: what undoes a change is on the disk before the change is made,
// so that whoever starts after SIGKILL or a power failure finds and undoes exactly what was done.

import { z } from 'zod';
import { ExitCode, messageOf, OperatorError } from '../host/operator-error.js';
import { readPrivate, writePrivate } from '../daemon/state/state-directory.js';
import {
  keyOf,
  makeChange,
  undoChange,
  undoOf,
  type HostChange,
  type Sysctls,
  type Undo,
} from './host-change.js';
import {
  EXIT_TABLE,
  GUARD_TABLE,
  MAIN_TABLE,
  ROUTE_PROTOCOL,
  RULE_PRIORITIES,
  SERVE_TABLE,
  USE_TABLE,
} from './exit-numbers.js';
import type { RunCommand } from './host-commands.js';
import { HostListing } from './host-listing.js';

// A journal undoes what an exit changes and nothing else, wherever the file comes from.
const family = z.union([z.literal(4), z.literal(6)]);
const OWN_RULE = new RegExp(`^priority (${Object.values(RULE_PRIORITIES).join('|')}) `);
const PARAMETER = z.string().regex(/^net\/ipv[46]\/conf\/[^/]+\/[a-z_]+$/);
const undoSchema = z.union([
  z.strictObject({
    kind: z.literal('sysctl'),
    path: PARAMETER,
    value: z.string(),
    before: z.string(),
    kept: z.record(PARAMETER, z.string()),
    wider: z.strictObject({ path: PARAMETER, before: z.string() }).optional(),
  }),
  z.strictObject({ kind: z.literal('rule'), family, rule: z.string().regex(OWN_RULE) }),
  z.strictObject({ kind: z.literal('routes'), family, table: z.literal(EXIT_TABLE) }),
  z.strictObject({
    kind: z.literal('routes'),
    family,
    table: z.literal(MAIN_TABLE),
    protocol: z.literal(ROUTE_PROTOCOL),
  }),
  z.strictObject({
    kind: z.literal('nft'),
    table: z.enum([SERVE_TABLE, USE_TABLE, GUARD_TABLE]),
    families: z.array(z.enum(['inet', 'netdev'])).optional(),
  }),
]);
const journalSchema = z.strictObject({
  /** Kernel parameters of another boot are not there any more. */
  boot: z.string(),
  changes: z.array(undoSchema).max(4096),
});

export interface HostChangesOptions {
  /** Path of the journal. */
  readonly journal: string;
  readonly run: RunCommand;
  readonly sysctls: Sysctls;
  /** Names this boot of the machine. */
  readonly boot: string;
}

export class HostChanges {
  readonly #options: HostChangesOptions;
  #undos: Undo[] | undefined;
  /** What the host was changed to last. */
  #wanted: readonly HostChange[] = [];
  /** Tables of nftables this process made, without their elements. */
  readonly #tables = new Map<string, string>();

  constructor(options: HostChangesOptions) {
    this.#options = options;
  }

  /** Whether anything is changed on the host, by this process or one before it. @throws OperatorError */
  get any(): boolean {
    return this.#read().length > 0;
  }

  /** A kernel parameter as it was before it was changed here, or as it is. */
  before(path: string): string | undefined {
    const undo = this.#read().find((each) => each.kind === 'sysctl' && each.path === path);
    return undo?.kind === 'sysctl' ? undo.before : this.#options.sysctls.read(path);
  }

  /**
   * Changes the host to these, in order, and undoes what is not among them; new ones come before old ones go.
   * @throws what the first change that cannot be made says. It and those before it are in the journal, those
   * that were to go are still there: what was closed stays closed.
   */
  async set(wanted: readonly HostChange[]): Promise<void> {
    await this.#requireNoOther(wanted);
    this.#wanted = wanted;
    for (const change of wanted) await this.#make(change);
    const keys = new Set(wanted.map(keyOf));
    await this.#undo((undo) => !keys.has(keyOf(undo)));
  }

  /** Makes these beside what is there; nothing goes. @throws what the first that cannot be made says */
  async add(changes: readonly HostChange[]): Promise<void> {
    await this.#requireNoOther(changes);
    for (const change of changes) await this.#make(change);
  }

  /** Whether the host still has what it was changed to. */
  async isWhole(): Promise<boolean> {
    const listing = new HostListing(this.#options.run);
    for (const change of this.#wanted)
      if ((await listing.has(change)) !== 'all') {
        this.#tables.clear(); // whoever took something away may have changed the rest
        return false;
      }
    return true;
  }

  /** What undoes it is in the journal first. */
  async #make(change: HostChange): Promise<void> {
    const { run, sysctls } = this.#options;
    const undos = this.#read();
    const key = keyOf(change);
    if (!undos.some((undo) => keyOf(undo) === key)) {
      const undo = undoOf(change, sysctls);
      if (undo !== undefined) this.#write([...undos, undo]);
    }
    if (change.kind !== 'nft') {
      await makeChange(change, run, sysctls);
      return;
    }
    const isThere = change.elements !== undefined && this.#tables.get(key) === change.text;
    this.#tables.delete(key); // until it is known to be made
    await makeChange(isThere ? { ...change, isThere } : change, run, sysctls);
    this.#tables.set(key, change.text);
  }

  /**
   * Undoes these, the last change first; what fails does not keep the rest from being undone.
   * @param which default: all
   * @throws Error
   */
  async clear(which: (undo: Undo) => boolean = () => true): Promise<void> {
    this.#wanted = [];
    await this.#undo(which);
  }

  /** What is not in the journal and there all the same is another's: it would be taken from it. @throws OperatorError */
  async #requireNoOther(wanted: readonly HostChange[]): Promise<void> {
    const own = new Set(this.#read().map(keyOf));
    const listing = new HostListing(this.#options.run);
    for (const change of wanted) {
      if (change.kind === 'sysctl' || own.has(keyOf(change)) || (await listing.has(change)) === 'none')
        continue;
      throw new OperatorError(
        ExitCode.failure,
        'exit',
        `another daemon of this host has an exit, or one whose state directory is gone left this: ${keyOf(change)}`,
        'End it there: omerta --state DIRECTORY exit off; where nobody has it, see docs/exit.md, "By hand"',
      );
    }
  }

  async #undo(which: (undo: Undo) => boolean): Promise<void> {
    const { run, sysctls } = this.#options;
    const failures: string[] = [];
    for (const undo of this.#read().filter(which).reverse()) {
      try {
        this.#tables.delete(keyOf(undo));
        await undoChange(undo, run, sysctls);
        this.#write(this.#read().filter((each) => each !== undo));
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    if (failures.length > 0) throw new Error(failures.join('; '));
  }

  #read(): readonly Undo[] {
    if (this.#undos !== undefined) return this.#undos;
    const text = readPrivate('exit journal', this.#options.journal);
    const { boot, changes } =
      text === undefined ? { boot: '', changes: [] } : parse(this.#options.journal, text);
    this.#undos = changes.filter(({ kind }) => kind !== 'sysctl' || boot === this.#options.boot);
    return this.#undos;
  }

  #write(undos: Undo[]): void {
    const text = `${JSON.stringify({ boot: this.#options.boot, changes: undos }, null, 1)}\n`;
    writePrivate('exit journal', this.#options.journal, text, 'replace');
    this.#undos = undos;
  }
}

/** A journal that cannot be read undoes nothing; what it held stays, and is said. */
function parse(path: string, text: string): z.infer<typeof journalSchema> {
  try {
    return journalSchema.parse(JSON.parse(text));
  } catch {
    throw new OperatorError(
      ExitCode.failure,
      'exit journal',
      `${path} is damaged, so what is to be taken back from this host is not known`,
      'See docs/exit.md, "By hand"',
    );
  }
}
