// The [routes] section: LANs behind this machine, and those behind members that it reaches. What the file says of one of
// them holds in place of what was typed of it.

import { z } from 'zod';
import { whyNoLan } from '../../core/exit/lan-prefix.js';
import { MAX_ACCEPTED } from '../../core/exit/route-client.js';
import { MAX_LAN_PREFIXES } from '../../core/protocol/message-limits.js';
import { isName } from '../../core/protocol/network.js';
import { parsePrefix } from '../../wire/prefix.js';
import type { Config } from './config.js';
import { isPeerId, NAME_RULE } from './config-rules.js';
import { listOf, requireJoinedNetworks } from './exit-configuration.js';

const PREFIX_RULE = 'a prefix of a LAN such as "192.168.7.0/24"';
const PREFIXES_RULE = 'a list of prefixes of LANs such as ["192.168.7.0/24"]';
const PEER_RULE = 'a peer id ("omerta1…", printed by: omerta peers)';

function isLan(text: string): boolean {
  const prefix = parsePrefix(text);
  return prefix !== undefined && whyNoLan(prefix) === undefined;
}

export const routeAcceptSchema = z.strictObject(
  {
    prefix: z.string(PREFIX_RULE).refine(isLan, { error: PREFIX_RULE }),
    from: z.string(PEER_RULE).refine(isPeerId, { error: PEER_RULE }),
  },
  'a table, written [[routes.accept]]',
);

export const routesSchema = z
  .strictObject({
    advertise: listOf(PREFIXES_RULE, isLan, MAX_LAN_PREFIXES).optional(),
    allow: listOf('a list of peer ids ("omerta1…", printed by: omerta peers)', isPeerId, 1024).default([]),
    networks: listOf(`a list of names of networks (${NAME_RULE})`, isName, 8).default([]),
    accept: z
      .array(routeAcceptSchema, 'tables, written [[routes.accept]]')
      .max(MAX_ACCEPTED, { error: `at most ${MAX_ACCEPTED}` })
      .optional(),
  })
  .refine(
    ({ advertise, allow, networks }) => advertise !== undefined || allow.length + networks.length === 0,
    {
      path: ['advertise'],
      error: 'a list of prefixes beside allow or networks: what these may reach',
    },
  );

/** What the file says; undefined = nothing, so that what was typed holds. */
export interface RouteConfiguration {
  /** No prefixes = it says that nothing is advertised. */
  readonly advertise:
    | {
        readonly prefixes: readonly string[];
        readonly allow: readonly string[];
        readonly networks: readonly string[];
      }
    | undefined;
  readonly accept: readonly { readonly prefix: string; readonly from: string }[] | undefined;
}

export function routeConfiguration({ routes }: Config): RouteConfiguration {
  const { advertise, allow, networks, accept } = routes;
  return { advertise: advertise && { prefixes: advertise, allow, networks }, accept };
}

/** @throws OperatorError for a network this machine is not in. */
export function requireRouteNetworks(config: Config, joined: readonly { readonly name: string }[]): void {
  requireJoinedNetworks('routes', config.routes.networks, joined);
}
