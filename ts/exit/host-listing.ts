// What a host has of the changes an exit makes, whoever made it: what another made is left to it, and what others took
// away (a firewall that is loaded anew, a network manager that removes rules it does not know) is made again.

import { identityOf, routesOf, type HostChange } from './host-change.js';
import { HostCommandError, type RunCommand } from './host-commands.js';

interface PrintedTables {
  readonly nftables?: readonly { readonly table?: { readonly family: string; readonly name: string } }[];
}

/** One look at a host: each list is printed once. */
export class HostListing {
  readonly #run: RunCommand;
  readonly #lists = new Map<string, Promise<ReadonlySet<string>>>();

  constructor(run: RunCommand) {
    this.#run = run;
  }

  /** How much of the change is there; kernel parameters, which the caller can read, always are. */
  async has(change: HostChange): Promise<'all' | 'some' | 'none'> {
    const parts = partsOf(change);
    if (parts.length === 0) return 'all';
    const there = await this.#list(change);
    const found = parts.filter((part) => there.has(part)).length;
    return found === parts.length ? 'all' : found === 0 ? 'none' : 'some';
  }

  #list(change: HostChange): Promise<ReadonlySet<string>> {
    const key = change.kind === 'nft' ? 'nft' : `${change.kind} ${'family' in change ? change.family : ''}`;
    const known = this.#lists.get(key) ?? this.#print(change);
    this.#lists.set(key, known);
    return known;
  }

  async #print(change: HostChange): Promise<ReadonlySet<string>> {
    switch (change.kind) {
      case 'sysctl':
        return new Set();
      case 'nft': {
        const { nftables = [] } = JSON.parse(
          await this.#ask('nft', '-json', 'list', 'tables'),
        ) as PrintedTables;
        return new Set(nftables.flatMap(({ table }) => (table ? [`${table.family} ${table.name}`] : [])));
      }
      case 'rule': {
        const printed = await this.#ask('ip', '-json', `-${change.family}`, 'rule', 'show');
        const rules = JSON.parse(printed) as readonly { readonly priority: number }[];
        return new Set(rules.map(({ priority }) => String(priority)));
      }
      case 'routes': {
        const { family, table } = change;
        const printed = await this.#ask('ip', '-json', `-${family}`, 'route', 'show', 'table', String(table));
        return new Set(routesOf(printed).map(identityOf));
      }
    }
  }

  /** What cannot be printed, such as a table that is not there, is empty. */
  async #ask(file: string, ...args: readonly string[]): Promise<string> {
    try {
      const printed = await this.#run(file, args);
      return printed.trim() === '' ? '[]' : printed;
    } catch (error) {
      if (error instanceof HostCommandError) return '[]';
      throw error;
    }
  }
}

function partsOf(change: HostChange): string[] {
  switch (change.kind) {
    case 'sysctl':
      return [];
    case 'nft':
      return (change.families ?? ['inet']).map((family) => `${family} ${change.table}`);
    case 'rule':
      return [/^priority (\d+)/.exec(change.rule)?.[1] ?? ''];
    case 'routes':
      return change.routes.map(identityOf);
  }
}
