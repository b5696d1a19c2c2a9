// What a NAT's mapping depends on (RFC 4787, section 4.1; RFC 5780, section 4.3), from where several see this
// node: those at different addresses show whether it depends on the address, two at one address whether on the
// port too. Whoever has one IPv6 address has a /48 of them: those in it are one witness, as one IPv4 address is.

import { sameBytes, toHex } from '../../wire/bytes.js';
import { formatIp, isIPv4, sameSocketAddress } from '../../wire/socket-address.js';
import type { Dependence, Finding } from '../runtime/nat-status.js';
import type { Observation } from './observation.js';

/** How many have seen it, each of them another one and at another site. */
export function observersAt(observations: readonly Observation[]): number {
  return distinct(observations, isOneWitness).length;
}

function isOneWitness(a: Observation, b: Observation): boolean {
  return a.observer === b.observer || siteOf(a) === siteOf(b);
}

function siteOf({ to: { ip } }: Observation): string {
  return toHex(isIPv4(ip) ? ip : ip.subarray(0, 6));
}

/**
 * @param observations from one local address, all of the same time: what was seen before a NAT restarted shows
 *   nothing of what it does now
 */
export function mappingOf(observations: readonly Observation[]): Finding<Dependence> {
  if (observations.length === 0) return { unknown: 'not-observed' };
  if (observersAt(observations) < 2) return { unknown: 'one-observer' };
  const pairs = observations.flatMap((a, index) =>
    observations.slice(index + 1).map((b) => ({ a, b, same: sameSocketAddress(a.seen, b.seen) })),
  );
  // Two that agree are enough: whoever says otherwise beside them is mistaken, or lies.
  const agreed = pairs.some(({ a, b, same }) => same && !isOneWitness(a, b));
  if (agreed) return { value: 'endpoint-independent' };
  const ports = pairs.filter(({ a, b }) => sameBytes(a.to.ip, b.to.ip) && a.to.port !== b.to.port);
  if (ports.length === 0) return { unknown: 'no-second-port' };
  return { value: ports.some(({ same }) => same) ? 'address-dependent' : 'address-and-port-dependent' };
}

/** Whether it gives another address or port to another destination address, as far as is known. */
export function dependsOnAddress(mapping: Finding<Dependence>): boolean | undefined {
  if ('unknown' in mapping) return mapping.unknown === 'no-second-port' ? true : undefined;
  return mapping.value !== 'endpoint-independent';
}

/**
 * Those that saw one outer address, the one most witnesses saw: who is met inside, or inside a carrier's network, sees
 * another one, and that is no other mapping.
 */
export function ofOneOutside(observations: readonly Observation[]): readonly Observation[] {
  const byIp = new Map<string, Observation[]>();
  for (const each of observations) {
    const key = formatIp(each.seen.ip);
    byIp.set(key, [...(byIp.get(key) ?? []), each]);
  }
  return [...byIp.values()].toSorted((a, b) => observersAt(b) - observersAt(a))[0] ?? [];
}

function distinct<T>(all: readonly T[], same: (a: T, b: T) => boolean): T[] {
  const kept: T[] = [];
  for (const each of all) if (!kept.some((other) => same(other, each))) kept.push(each);
  return kept;
}
