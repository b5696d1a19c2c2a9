// The [exit] section: what this machine serves, and by whom it leaves ([exit.use]). What the file says of one of them holds in place
// of what was typed of it; who may be granted a right for a time is typed.

import { z } from 'zod';
import { MAX_CHOICE } from '../../core/exit/exit-client.js';
import { MAX_EXIT_HOPS, MAX_LAN_PREFIXES } from '../../core/protocol/message-limits.js';
import { isName, type Network } from '../../core/protocol/network.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { parsePrefix } from '../../wire/prefix.js';
import { parseIp } from '../../wire/socket-address.js';
import type { Config } from './config.js';
import { isPeerId, NAME_RULE } from './config-rules.js';

const PEERS_RULE = 'a list of peer ids ("omerta1…", printed by: omerta peers)';
const PREFIXES_RULE = 'a list of prefixes such as ["192.168.7.0/24"]';
const RESOLVERS_RULE = 'a list of addresses such as ["9.9.9.9"], three at most';
const NETWORKS_RULE = `a list of names of networks (${NAME_RULE})`;
const HOPS_RULE = `exits the traffic may go by one after the other, a whole number from 1 to ${MAX_EXIT_HOPS}`;

export const listOf = (
  rule: string,
  valid: (value: string) => boolean,
  most: number,
): z.ZodArray<z.ZodType<string>> =>
  z.array(z.string(rule).refine(valid, { error: rule }), rule).max(most, { error: `at most ${most}` });
const peers = (most: number): z.ZodArray<z.ZodType<string>> => listOf(PEERS_RULE, isPeerId, most);
const prefixes = (most: number): z.ZodArray<z.ZodType<string>> =>
  listOf(PREFIXES_RULE, (value) => parsePrefix(value) !== undefined, most);
const flag = (): z.ZodBoolean => z.boolean('true or false');

export const exitUseSchema = z
  .strictObject(
    {
      exits: peers(MAX_CHOICE).min(1, { error: 'at least one peer id' }),
      hops: z
        .number(HOPS_RULE)
        .refine((hops) => Number.isInteger(hops) && hops >= 1 && hops <= MAX_EXIT_HOPS, { error: HOPS_RULE })
        .default(1),
      allow_lan: flag().default(false),
      include: prefixes(256).default([]),
      exclude: prefixes(256).default([]),
      paranoid: flag().default(false),
    },
    'a table, written [exit.use]',
  )
  .refine(({ paranoid, include, exclude }) => !paranoid || include.length + exclude.length === 0, {
    path: ['paranoid'],
    error: 'false beside include or exclude: it leaves nothing out',
  });

export const exitSchema = z
  .strictObject({
    serve: flag().optional(),
    allow: peers(1024).default([]),
    networks: listOf(NETWORKS_RULE, isName, 8).default([]),
    lan: prefixes(MAX_LAN_PREFIXES).default([]),
    ipv4: flag().default(true),
    ipv6: flag().default(true),
    chain: flag().default(false),
    dns: flag().default(true),
    resolvers: listOf(RESOLVERS_RULE, (value) => parseIp(value) !== undefined, 3).default([]),
    use: exitUseSchema.optional(),
  })
  .refine(
    ({ serve, allow, networks, lan }) =>
      serve !== undefined || allow.length + networks.length + lan.length === 0,
    {
      path: ['serve'],
      error: 'true or false beside allow, networks or lan: whether this machine serves an exit',
    },
  )
  .refine(({ ipv4, ipv6 }) => ipv4 || ipv6, {
    path: ['ipv6'],
    error: 'true for one of ipv4 and ipv6: nothing is left otherwise',
  });

type ExitKeys = Config['exit'];
type ExitUseKeys = NonNullable<ExitKeys['use']>;

/** What the file says; undefined = nothing, so that what was typed holds. */
export interface ExitConfiguration {
  /** `serve: undefined` inside = it says that nothing is served. */
  readonly serve: { readonly settings: Omit<ExitKeys, 'serve' | 'use'> | undefined } | undefined;
  readonly use: (Omit<ExitUseKeys, 'allow_lan'> & { readonly allowLan: boolean }) | undefined;
}

export function exitConfiguration({ exit }: Config): ExitConfiguration {
  const { serve, use, ...service } = exit;
  return {
    serve: serve === undefined ? undefined : { settings: serve ? service : undefined },
    use: use && {
      exits: use.exits,
      hops: use.hops,
      allowLan: use.allow_lan,
      include: use.include,
      exclude: use.exclude,
      paranoid: use.paranoid,
    },
  };
}

/** @throws OperatorError for a network this machine is not in. */
export function requireExitNetworks({ exit }: Config, joined: readonly Pick<Network, 'name'>[]): void {
  requireJoinedNetworks('exit', exit.networks, joined);
}

/** @throws OperatorError for a network of `[section] networks` this machine is not in. */
export function requireJoinedNetworks(
  section: string,
  networks: readonly string[],
  joined: readonly Pick<Network, 'name'>[],
): void {
  const names = joined.map(({ name }) => name);
  const unknown = networks.find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new OperatorError(
    ExitCode.usage,
    `config ${section}.networks`,
    `"${unknown}" is not a network this machine has joined (${names.join(', ') || 'it has none'})`,
    'Correct it, or type: omerta network join LINK',
  );
}
