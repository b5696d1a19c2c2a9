// A host in memory for what an exit changes on one, which fails where it is told to.

import type { Sysctls } from '../../ts/exit/host-change.js';
import { HostCommandError, type RunCommand } from '../../ts/exit/host-commands.js';

/** Rules, routes, tables and kernel parameters as the programs would have them. */
export class FakeHost {
  readonly rules = new Set<string>();
  readonly routes = new Set<string>();
  readonly tables = new Map<string, string>();
  readonly parameters = new Map([
    ['net/ipv4/conf/eth0/forwarding', '0'],
    ['net/ipv6/conf/all/forwarding', '0'],
    ['net/ipv6/conf/eth0/forwarding', '1'],
  ]);
  /** The so many-th thing that is done fails; undefined = none. */
  failAt: number | undefined;
  #done = 0;

  failAfter(steps: number): void {
    this.failAt = this.#done + steps;
  }

  readonly run: RunCommand = (file, args, input = '') => {
    const words = args.join(' ');
    if (words.includes('-json')) {
      const printed = this.#print(words);
      // As for a table that never had a route.
      return words.includes('route show') && printed === '[]'
        ? Promise.reject(new HostCommandError(words, 'Error: ipv4: FIB table does not exist.'))
        : Promise.resolve(printed);
    }
    const failed = this.#fails(`${file} ${words}`);
    if (failed !== undefined) return Promise.reject(failed);
    const [, rule] = /rule (?:add|del) (.*)/.exec(words) ?? [];
    if (rule !== undefined) {
      const key = `${args[0] ?? ''} ${rule}`;
      if (words.includes('rule add')) {
        if (this.rules.has(key))
          return Promise.reject(new HostCommandError(words, 'RTNETLINK answers: File exists'));
        this.rules.add(key);
      } else if (!this.rules.delete(key))
        return Promise.reject(new HostCommandError(words, 'RTNETLINK answers: No such file or directory'));
    } else if (words.includes('route replace')) this.routes.add(words.replace('route replace ', ''));
    else if (words.includes('route del')) this.routes.delete(words.replace('route del ', ''));
    else if (words.includes('route flush')) {
      const [family, table] = [args[0] ?? '', args.at(-1) ?? ''];
      for (const route of this.routes)
        if (route.startsWith(family) && route.endsWith(` table ${table}`)) this.routes.delete(route);
    } else if (file === 'nft') {
      // As it is given: away with the table, then, when it is to be there, the table.
      const [, table = '', rest = ''] = /^table inet (\S+)\ndelete table inet \S+\n([^]*)$/.exec(input) ?? [];
      this.tables.delete(table);
      if (rest !== '') this.tables.set(table, rest);
    }
    return Promise.resolve('');
  };

  /** As ip and nft print it as JSON. */
  #print(words: string): string {
    if (words.startsWith('-json list tables'))
      return JSON.stringify({
        nftables: [...this.tables.keys()].map((name) => ({ table: { family: 'inet', name } })),
      });
    if (words.startsWith('-json list chains'))
      return JSON.stringify({
        nftables: [...this.tables].flatMap(([table, text]) =>
          [...text.matchAll(/^chain (.+) \{$/gm)].map(([, name]) => ({
            chain: { family: 'inet', table, name },
          })),
        ),
      });
    const [, family = '', what = '', table = ''] =
      /^-json (-[46]) (rule|route) show(?: table (\d+))?$/.exec(words) ?? [];
    if (what === 'rule')
      return JSON.stringify(
        [...this.rules]
          .filter((rule) => rule.startsWith(family))
          .map((rule) => ({ priority: Number(/priority (\d+)/.exec(rule)?.[1] ?? 0) })),
      );
    return JSON.stringify(
      [...this.routes].flatMap((route) => {
        const [, type, dst, dev, metric] =
          new RegExp(
            `^${family} (?:(unreachable) )?(\\S+)(?: dev (\\S+))?(?: metric (\\d+))? table ${table}$`,
          ).exec(route) ?? [];
        return dst === undefined
          ? []
          : [{ dst, ...(type && { type }), ...(dev && { dev }), ...(metric && { metric: Number(metric) }) }];
      }),
    );
  }

  readonly sysctls: Sysctls = {
    read: (path) => this.parameters.get(path),
    write: (path, value) => {
      const failed = this.#fails(path);
      if (failed !== undefined) throw failed;
      if (path === 'net/ipv6/conf/all/forwarding')
        for (const key of this.parameters.keys())
          if (key.startsWith('net/ipv6')) this.parameters.set(key, value);
      this.parameters.set(path, value);
    },
  };

  get state(): string {
    return JSON.stringify([[...this.rules], [...this.routes], [...this.tables], [...this.parameters]]);
  }

  #fails(what: string): Error | undefined {
    return this.#done++ === this.failAt ? new HostCommandError(what, 'Operation not permitted') : undefined;
  }
}
