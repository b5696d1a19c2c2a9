// Which prefixes can be a LAN behind a member: none that every machine has for itself, or that members have addresses of.

import { containsIp, parsePrefix, type Prefix } from '../../wire/prefix.js';

const NO_LAN = [
  ['0.0.0.0/8', 'it means this host'],
  ['100.64.0.0/10', 'members have their addresses there'],
  ['127.0.0.0/8', 'every machine has it for itself'],
  ['169.254.0.0/16', 'every link has it for itself'],
  ['224.0.0.0/3', 'it is of groups, not of hosts'],
  ['::/8', 'it is not of hosts'],
  ['fe80::/10', 'every link has it for itself'],
  ['ff00::/8', 'it is of groups, not of hosts'],
] as const;

/** Shorter ones are no LAN: who wants everything uses an exit. */
const SHORTEST = { 4: 8, 6: 16 } as const;

/** Whether two prefixes have an address in common. */
export const overlaps = (a: Prefix, b: Prefix): boolean =>
  a.family === b.family && (a.length <= b.length ? containsIp(a, b.ip) : containsIp(b, a.ip));

/** Why a prefix cannot be a LAN behind a member; undefined = it can. */
export function whyNoLan(prefix: Prefix): string | undefined {
  const shortest = SHORTEST[prefix.family];
  if (prefix.length < shortest) return `it is shorter than /${shortest}: use an exit for that`;
  return NO_LAN.find(([text]) => {
    const other = parsePrefix(text);
    return other !== undefined && overlaps(prefix, other);
  })?.[1];
}
