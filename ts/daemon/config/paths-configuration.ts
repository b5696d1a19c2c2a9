// The [paths] section as the core takes it: which ways to members are used, and in what order interfaces are.

import { interfaceRank, type LocalInterface } from '../../core/path/local-interface.js';
import type { PathPolicy, PathRules, WayPattern } from '../../core/path/path-policy.js';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import { toHex } from '../../wire/bytes.js';
import { parsePrefix } from '../../wire/prefix.js';
import type { Config } from './config.js';

type Way = Config['paths']['pin'][number];

/** What is said of a member replaces what is said of all, key by key. */
export function pathPolicy({ paths }: Config): PathPolicy {
  const weights = new Map(Object.entries(paths.interfaces).map(([name, { weight }]) => [name, weight]));
  const rules: PathRules = {
    use: paths.use,
    pin: paths.pin.map(wayPattern),
    prefer: paths.prefer.map(wayPattern),
    forbid: paths.forbid.map(wayPattern),
    split: paths.split ? weights : undefined,
  };
  const members = paths.peer.map(({ id, use, pin, prefer, forbid, split }): [string, PathRules] => [
    toHex(decodePeerId(id)),
    {
      use: use ?? rules.use,
      pin: pin?.map(wayPattern) ?? rules.pin,
      prefer: prefer?.map(wayPattern) ?? rules.prefer,
      forbid: forbid?.map(wayPattern) ?? rules.forbid,
      split: (split ?? paths.split) ? weights : undefined,
    },
  ]);
  const search = {
    enabled: paths.port_search,
    ports: paths.port_search_ports,
    probes: paths.port_search_probes,
    perSecond: paths.port_search_rate,
  };
  return { rules, members: new Map(members), search };
}

function wayPattern({ interface: name, remote, relay }: Way): WayPattern {
  if (relay !== undefined) return { relay: toHex(decodePeerId(relay)) };
  return { interface: name, remote: remote === undefined ? undefined : parsePrefix(remote) };
}

/** Places of an interface, by its name, among all, lower first: for data, and for the control plane where that has its own. */
export function ranksOfInterface(
  { paths }: Config,
  name: string,
): Pick<LocalInterface, 'rank' | 'controlRank'> {
  const { priority = 0, metered = false, control_priority: controlRank } = paths.interfaces[name] ?? {};
  return { rank: interfaceRank(priority, metered), controlRank };
}
