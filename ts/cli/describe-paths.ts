// The ways to one member as text for the terminal.

import type { ShapingCounts } from '../contract/shaping-control.js';
import type { MemberStatus } from '../core/runtime/mesh-status.js';
import type { WayStatus } from '../core/runtime/way-status.js';
import {
  activeWay,
  wordBarred,
  wordIndirect,
  wordSearch,
  wordWay,
  wordWayReason,
} from '../status/model/path-wording.js';
import { columns } from './context.js';
import { describeShaping } from './describe-shaping.js';
import { formatRtt, printable } from './describe-status.js';

const STATE_WORDS: Readonly<Record<WayStatus['state'], string>> = {
  untried: 'not proven',
  proven: 'works',
  dead: 'dead',
  failed: 'failed',
};

/** `omerta path`: a line on the member, those on a search for ports and on shaping where there is any, then a table of the ways. */
export function describeWays(member: MemberStatus, shaped?: ShapingCounts): string {
  const { ways } = member;
  const heading = [
    `${member.name} (${member.ipv4 ?? member.ipv6}): ${summary(member)}`,
    ...(member.search === undefined ? [] : [wordSearch(member.search)]),
    ...(member.shaping === undefined ? [] : describeShaping(member.shaping, shaped)),
  ]
    .map(printable)
    .join('\n');
  if (ways.length === 0) return heading;
  const table = columns([
    ['WAY', 'BY', 'ROLE', 'STATE', 'RTT', 'LOSS', 'MTU', 'WHY NOT'],
    ...ways.map((way) =>
      [
        way.kind === 'direct' ? (way.address ?? '') : wordWay(way),
        way.interface ?? '-',
        way.role === 'none' ? '-' : wordRole(way),
        STATE_WORDS[way.state],
        formatRtt(way.rttMs),
        way.loss === undefined ? '-' : `${(way.loss * 100).toFixed(0)} %`,
        way.plpmtu === undefined ? '-' : String(way.plpmtu),
        way.reason === undefined ? '-' : wordWayReason(way.reason),
      ].map(printable),
    ),
  ]);
  return `${heading}\n\n${table}`;
}

function wordRole({ role, control, share }: WayStatus): string {
  return [
    role,
    ...(control === true ? ['control'] : []),
    ...(share === undefined ? [] : [`share ${share}`]),
  ].join(', ');
}

function summary(member: MemberStatus): string {
  const barred = wordBarred(member);
  if (barred !== undefined) return `nothing is sent: ${barred.what}. ${barred.next}`;
  const active = activeWay(member.ways);
  const used = active === undefined ? member.path : wordWay(active);
  if (member.indirect === undefined) return used;
  const { what, next } = wordIndirect(member.indirect);
  return `${used}, not directly: ${what}. ${next}`;
}
