// What a host has of the changes an exit makes, whoever made it: what another made is left to it, and what others took
// away (a firewall that is loaded anew, a network manager that removes rules it does not know) is made again.

import { identityOf, keyOf, placeOf, routesOf, type HostChange } from './host-change.js';
import { HostCommandError, type RunCommand } from './host-commands.js';

interface Printed {
  readonly nftables?: readonly {
    readonly table?: { readonly family: string; readonly name: string };
    readonly chain?: { readonly family: string; readonly table: string; readonly name: string };
  }[];
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
    const key =
      change.kind === 'nft'
        ? 'nft'
        : change.kind === 'routes'
          ? keyOf(change)
          : `${change.kind} ${'family' in change ? change.family : ''}`;
    const known = this.#lists.get(key) ?? this.#print(change);
    this.#lists.set(key, known);
    return known;
  }

  async #print(change: HostChange): Promise<ReadonlySet<string>> {
    switch (change.kind) {
      case 'sysctl':
        return new Set();
      case 'nft': {
        const printed = await Promise.all(
          ['tables', 'chains'].map((what) => this.#ask('nft', '-json', 'list', what)),
        );
        const found = printed.flatMap((text) => (JSON.parse(text) as Printed).nftables ?? []);
        return new Set(
          found.flatMap(({ table, chain }) => [
            ...(table ? [`${table.family} ${table.name}`] : []),
            ...(chain ? [`${chain.family} ${chain.table} ${chain.name}`] : []),
          ]),
        );
      }
      case 'rule': {
        const printed = await this.#ask('ip', '-json', `-${change.family}`, 'rule', 'show');
        const rules = JSON.parse(printed) as readonly { readonly priority: number }[];
        return new Set(rules.map(({ priority }) => String(priority)));
      }
      case 'routes': {
        const printed = await this.#ask(
          'ip',
          '-json',
          `-${change.family}`,
          'route',
          'show',
          ...placeOf(change),
        );
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

/** `family table chain` of what nft reads. */
function chainsOf(text: string): string[] {
  let table = '';
  return [...text.matchAll(/^(table|chain) (.+) \{$/gm)].flatMap(([, kind, name = '']) => {
    if (kind === 'chain') return [`${table} ${name}`];
    table = name;
    return [];
  });
}

function partsOf(change: HostChange): string[] {
  switch (change.kind) {
    case 'sysctl':
      return [];
    case 'nft':
      return [
        ...(change.families ?? ['inet']).map((family) => `${family} ${change.table}`),
        ...chainsOf(change.text),
      ];
    case 'rule':
      return [/^priority (\d+)/.exec(change.rule)?.[1] ?? ''];
    case 'routes':
      return change.routes.map(identityOf);
  }
}
