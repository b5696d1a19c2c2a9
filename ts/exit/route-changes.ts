// What reaching LANs behind members needs of the host: routes into the tunnel. They are in the table main, behind every
// route somebody else has to the same place, and where an exit is used in its table as well.
//
// While no member grants a prefix that was accepted, it leads nowhere: what was meant for that LAN does not go to whoever
// has the same addresses elsewhere. What is on-link here stays on the link.

import { containsIp, parsePrefix } from '../wire/prefix.js';
import { MAIN_TABLE, ROUTE_PROTOCOL } from './exit-numbers.js';
import type { Family, HostChange } from './host-change.js';

/** Behind every other route of a table. */
export const LAST_METRIC = 4_278_198_272;
/** In the table main; programs that make routes take less. */
const MAIN_METRIC = 285_250;

export interface RouteFacts {
  readonly tunnel: string;
  /** Prefixes that are accepted, whoever has them. */
  readonly accepted: readonly string[];
  /** Those a member has granted, and the own address they are sent from. */
  readonly granted: ReadonlyMap<string, string>;
  /** What is on-link at interfaces other than the tunnel. */
  readonly onLink: readonly string[];
  readonly hasIpv6: boolean;
}

/** Whether all of a prefix is on-link already, so that a route to it would cut off who is on the link. */
export function isOnLink(prefix: string, onLink: readonly string[]): boolean {
  const inner = parsePrefix(prefix);
  return onLink.some((text) => {
    const outer = parsePrefix(text);
    return (
      inner !== undefined &&
      outer !== undefined &&
      outer.length <= inner.length &&
      containsIp(outer, inner.ip)
    );
  });
}

/** Of both families: their tables end at `unreachable` before anything leads to a tunnel. */
export function routeChanges(facts: RouteFacts): HostChange[] {
  const families: readonly Family[] = facts.hasIpv6 ? [4, 6] : [4];
  const accepted = facts.accepted.filter((prefix) => !isOnLink(prefix, facts.onLink));
  return families.flatMap((family): HostChange[] => {
    const routes = acceptedRoutes({ ...facts, accepted }, family, MAIN_METRIC);
    return routes.length === 0
      ? []
      : [{ kind: 'routes', family, table: MAIN_TABLE, protocol: ROUTE_PROTOCOL, routes }];
  });
}

/** As `ip route replace` takes them. */
export function acceptedRoutes(
  { tunnel, accepted, granted }: Pick<RouteFacts, 'tunnel' | 'accepted' | 'granted'>,
  family: Family,
  metric: number,
): string[] {
  return [...new Set(accepted)]
    .filter((prefix) => prefix.includes(':') === (family === 6))
    .flatMap((prefix) => {
      const source = granted.get(prefix);
      return [
        `unreachable ${prefix} metric ${LAST_METRIC}`,
        ...(source === undefined ? [] : [`${prefix} dev ${tunnel} src ${source} metric ${metric}`]),
      ];
    });
}
