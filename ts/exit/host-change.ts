// What is changed on the host for an exit, as data: each change can be made, made again without harm, and undone.

import { readFileSync, writeFileSync } from 'node:fs';
import { formatPrefix, parsePrefix } from '../wire/prefix.js';
import { networkOf } from './denied-ranges.js';
import { HostCommandError, type RunCommand } from './host-commands.js';

export type Family = 4 | 6;
export type NftFamily = 'inet' | 'netdev';

/** A kernel parameter: its path under /proc/sys. */
export interface SysctlChange {
  readonly kind: 'sysctl';
  readonly path: string;
  readonly value: string;
  /** Parameters that undoing this one would change too, kept as they were. */
  readonly keeps?: readonly string[];
  /** Parameter that says the same of all interfaces: when others change it meanwhile, they need this one too. */
  readonly wider?: string;
}

/** A rule of the routing policy, as `ip rule add` takes it. */
export interface RuleChange {
  readonly kind: 'rule';
  readonly family: Family;
  readonly rule: string;
}

/** All routes of a table that is ours alone, or all of one protocol in it, as `ip route replace` takes them. */
export interface RoutesChange {
  readonly kind: 'routes';
  readonly family: Family;
  readonly table: number;
  /** Left out: the table is ours alone. */
  readonly protocol?: number | undefined;
  readonly routes: readonly string[];
}

/** A table of nftables that is ours alone, or one in each of these families, with all that is in it. */
export interface NftChange {
  readonly kind: 'nft';
  readonly table: string;
  /** Default: `inet`. */
  readonly families?: readonly NftFamily[] | undefined;
  readonly text: string;
  /** What fills its sets, each time anew: counts and limits of a table that is there already go on. */
  readonly elements?: string;
  /** Whether the table is there as `text` says, and its elements alone are to be made. */
  readonly isThere?: true;
}

export type HostChange = SysctlChange | RuleChange | RoutesChange | NftChange;

/** Kernel parameters; tests give others. */
export interface Sysctls {
  /** Undefined = there is none. */
  read(path: string): string | undefined;
  /** @throws Error */
  write(path: string, value: string): void;
}

export const kernelSysctls: Sysctls = {
  read(path) {
    try {
      return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
    } catch {
      return undefined;
    }
  },
  write: (path, value) => writeFileSync(`/proc/sys/${path}`, value),
};

/** What a change is undone by. */
export type Undo =
  | {
      readonly kind: 'sysctl';
      readonly path: string;
      readonly value: string;
      readonly before: string;
      /** Parameters that go with it, and what they were. */
      readonly kept: Readonly<Record<string, string>>;
      /** That of all interfaces, and what it was. */
      readonly wider?: { readonly path: string; readonly before: string } | undefined;
    }
  | RuleChange
  | Omit<RoutesChange, 'routes'>
  | Omit<NftChange, 'text' | 'elements' | 'isThere'>;

/** Two changes of one thing have the same. */
export function keyOf(change: HostChange | Undo): string {
  switch (change.kind) {
    case 'sysctl':
      return `sysctl ${change.path}`;
    case 'rule':
      return `rule ${change.family} ${change.rule}`;
    case 'routes':
      return `routes ${change.family} ${change.table}`;
    case 'nft':
      return `nft ${change.table}`;
  }
}

/** What will undo the change, looked up before it is made; undefined = there is nothing to change. */
export function undoOf(change: HostChange, sysctls: Sysctls): Undo | undefined {
  if (change.kind === 'routes') {
    const { kind, family, table, protocol } = change;
    return { kind, family, table, ...(protocol !== undefined && { protocol }) };
  }
  if (change.kind === 'nft')
    return { kind: 'nft', table: change.table, ...(change.families && { families: change.families }) };
  if (change.kind === 'rule') return change;
  const before = sysctls.read(change.path);
  if (before === undefined || before === change.value) return undefined;
  const kept = (change.keeps ?? []).map((path) => [path, sysctls.read(path)] as const);
  const { wider } = change;
  const general = wider === undefined ? undefined : sysctls.read(wider);
  return {
    kind: 'sysctl',
    path: change.path,
    value: change.value,
    before,
    kept: Object.fromEntries(kept.filter((pair): pair is [string, string] => pair[1] !== undefined)),
    ...(wider !== undefined && general !== undefined && { wider: { path: wider, before: general } }),
  };
}

/** Makes a change, or finds it made. @throws HostCommandError, OperatorError, Error */
export async function makeChange(change: HostChange, run: RunCommand, sysctls: Sysctls): Promise<void> {
  switch (change.kind) {
    case 'sysctl':
      {
        // An interface that has just gone has none: what comes in its place is looked at again.
        const present = sysctls.read(change.path);
        if (present !== undefined && present !== change.value) sysctls.write(change.path, change.value);
      }
      break;
    case 'rule':
      await run('ip', [`-${change.family}`, 'rule', 'add', ...words(change.rule)]).catch(
        unless(/File exists/),
      );
      break;
    case 'routes':
      await makeRoutes(change, run);
      break;
    case 'nft':
      // One transaction: there is no moment without the table.
      await run(
        'nft',
        ['-f', '-'],
        `${change.isThere === true ? '' : `${withoutTable(change)}${change.text}`}${change.elements ?? ''}`,
      );
  }
}

/** Takes back what was changed; what is gone already, or was changed by somebody else meanwhile, is left. */
export async function undoChange(undo: Undo, run: RunCommand, sysctls: Sysctls): Promise<void> {
  switch (undo.kind) {
    case 'sysctl': {
      if (sysctls.read(undo.path) !== undo.value) break;
      if (undo.wider !== undefined && sysctls.read(undo.wider.path) !== undo.wider.before) break;
      sysctls.write(undo.path, undo.before);
      for (const [path, value] of Object.entries(undo.kept))
        if (sysctls.read(path) !== value) sysctls.write(path, value);
      break;
    }
    case 'rule':
      await run('ip', [`-${undo.family}`, 'rule', 'del', ...words(undo.rule)]).catch(
        unless(/No such file|does not exist/),
      );
      break;
    case 'routes':
      await run('ip', [`-${undo.family}`, 'route', 'flush', ...placeOf(undo)]).catch(
        unless(/does not exist|No such/),
      );
      break;
    case 'nft':
      await run('nft', ['-f', '-'], withoutTable(undo));
  }
}

/** Removes the table, in one transaction, whether there is one or not. */
function withoutTable({ table, families = ['inet'] }: Pick<NftChange, 'table' | 'families'>): string {
  return families.map((family) => `table ${family} ${table}\ndelete table ${family} ${table}\n`).join('');
}

/** New ones come before old ones go: a table that is to hold `unreachable` is at no moment without it. */
async function makeRoutes(change: RoutesChange, run: RunCommand): Promise<void> {
  const { family, routes } = change;
  const place = placeOf(change);
  const printed = await run('ip', ['-json', `-${family}`, 'route', 'show', ...place]).catch(
    unless(/does not exist/, '[]'),
  );
  const present = routesOf(printed);
  for (const route of routes) await run('ip', [`-${family}`, 'route', 'replace', ...words(route), ...place]);
  const wanted = new Set(routes.map(identityOf));
  for (const route of present)
    if (!wanted.has(identityOf(route)))
      await run('ip', [`-${family}`, 'route', 'del', ...words(route), ...place]).catch(
        unless(/No such process|No such/),
      );
}

/** Where routes of a change are, as ip takes it. */
export function placeOf({ table, protocol }: Omit<RoutesChange, 'routes'>): string[] {
  return ['table', String(table), ...(protocol === undefined ? [] : ['proto', String(protocol)])];
}

interface PrintedRoute {
  readonly type?: string;
  readonly dst: string;
  readonly dev?: string;
  readonly metric?: number;
}

/** Routes as `ip -json route show` prints them, as `ip route del` takes them. */
export function routesOf(printed: string): string[] {
  const routes = JSON.parse(printed === '' ? '[]' : printed) as readonly PrintedRoute[];
  return routes.map(({ type, dst, dev, metric }) =>
    [
      ...(type === undefined || type === 'unicast' ? [] : [type]),
      dst,
      // The device of an unreachable IPv6 route is the kernel's affair.
      ...(dev === undefined || type === 'unreachable' ? [] : ['dev', dev]),
      ...(metric === undefined ? [] : ['metric', String(metric)]),
    ].join(' '),
  );
}

/** Kind, destination and metric: what makes a route of a table the same. */
export function identityOf(route: string): string {
  const [first = '', second = ''] = words(route);
  const isUnreachable = first === 'unreachable';
  const destination = destinationOf(isUnreachable ? second : first);
  return `${isUnreachable ? 'unreachable ' : ''}${destination} ${/metric (\d+)/.exec(route)?.[1] ?? ''}`;
}

/** As ip prints it: what holds everything is `default`, and one address has no length. */
function destinationOf(text: string): string {
  const prefix = parsePrefix(text);
  if (prefix === undefined) return text;
  if (prefix.length === 0) return 'default';
  return formatPrefix(networkOf(prefix)).replace(prefix.family === 4 ? /\/32$/ : /\/128$/, '');
}

const words = (text: string): string[] => text.split(' ');

function unless(expected: RegExp, instead = ''): (error: unknown) => string {
  return (error) => {
    if (error instanceof HostCommandError && expected.test(error.said)) return instead;
    throw error;
  };
}
