// `omerta exit status` and `omerta exit list` for people.

import { formatBytes, formatDuration } from '../host/units.js';
import { formatWireguardKey } from '../host/wireguard-key.js';
import { fromHex } from '../wire/bytes.js';
import {
  wordBackend,
  wordExitState,
  type ExitGuestReport,
  type ExitReport,
} from '../status/model/exit-report.js';
import { columns } from './context.js';
import { printable } from './describe-status.js';

const nameOr = (name: string, peerId: string): string => (name === '' ? `${peerId.slice(0, 14)}…` : name);

/** `omerta exit status` */
export function describeExit(report: ExitReport, now: number): string {
  const { serving, using, configured, guarded, error } = report;
  const lines = [
    ...(error === undefined ? [] : [`host      NOT IN ORDER: ${error}`]),
    ...(serving === undefined ? ['serving   no'] : describeServing(serving, now)),
    ...(using === undefined
      ? [
          `using     none: ${guarded === true ? 'nothing leaves but to members' : 'traffic leaves by this machine itself'}`,
        ]
      : describeUsing(using)),
    ...(configured.length === 0
      ? []
      : [
          `file      ${configured.map((section) => `[${section}]`).join(', ')} of the configuration ${configured.length === 1 ? 'holds' : 'hold'} in place of what is typed`,
        ]),
    ...(guarded === undefined
      ? []
      : [
          guarded
            ? 'machine   closed from boot on: only omerta guard remove opens it'
            : 'machine   NOT CLOSED, though a guard is installed; type: omerta guard install',
        ]),
  ];
  return lines.map(printable).join('\n');
}

/** A row for each member that is forwarded for. */
export function guestRows(guests: readonly ExitGuestReport[]): string[][] {
  return guests.map(({ peerId, name, sinceSeconds, fromBytes, toBytes, addresses }) => [
    `  ${nameOr(name, peerId)}`,
    addresses.join(' '),
    `since ${formatDuration(sinceSeconds)}`,
    `session: ${formatBytes(fromBytes)} from it, ${formatBytes(toBytes)} to it`,
  ]);
}

function describeServing(serving: NonNullable<ExitReport['serving']>, now: number): string[] {
  const {
    ipv4,
    ipv6,
    lan,
    networks,
    rights,
    guests,
    chain,
    dropped,
    capped,
    dns,
    names,
    foreignDrops,
    tunnel,
    gateway,
    pingsClosed,
    backend,
  } = serving;
  const families = [...(ipv4 ? ['IPv4'] : []), ...(ipv6 ? ['IPv6'] : [])].join(', ');
  const may = [
    ...networks.map((name) => `all of network ${name}`),
    ...rights.map(({ peerId, key, name, until }) => {
      const who =
        key === undefined
          ? nameOr(name, peerId ?? '')
          : `key ${formatWireguardKey(fromHex(key) ?? new Uint8Array(32))}`;
      if (until === undefined) return who;
      return until > now ? `${who} for ${formatDuration((until - now) / 1000)} more` : `${who} (lapsed)`;
    }),
  ];
  const rows = guestRows(guests);
  return [
    `serving   ${families}, by ${wordBackend[backend]}${lan.length === 0 ? '' : `, LAN ${lan.join(' ')}`}${chain ? ', also as part of a chain' : ''}`,
    `allowed   ${may.length === 0 ? 'nobody yet: omerta exit grant PEER --for 2h' : may.join(', ')}`,
    `guests    ${guests.length === 0 ? 'none' : guests.length}`,
    ...(rows.length === 0 ? [] : columns(rows).split('\n')),
    ...foreignDrops.map(
      (name) =>
        `firewall  ${name} drops what is forwarded unless it is let through; if guests get no answer, type: ` +
        `nft insert rule ${name} iifname ${tunnel} accept; nft insert rule ${name} oifname ${tunnel} accept`,
    ),
    `names     ${describeNames(dns, names)}`,
    ...(gateway === undefined
      ? []
      : [
          `${backend === 'stack' ? 'stack    ' : 'gateway  '} ${gateway.tcp} connections, ${gateway.udp} ports for datagrams, ${gateway.refused} refused, ${capped.datagrams} datagrams sent too fast`,
        ]),
    ...(pingsClosed === undefined
      ? []
      : [`pings     not sent on: ${pingsClosed.reason}; type: ${pingsClosed.remedy}`]),
    `refused   flows of guests: ${capped.rate} begun too fast, ${capped.tcp + capped.other + capped.all} beyond what may be at once`,
    `dropped   ${dropped.noRight} without the right, ${dropped.denied} to where nothing is forwarded`,
  ];
}

function describeNames(
  dns: boolean,
  { answered, unanswered, refused, error }: NonNullable<ExitReport['serving']>['names'],
): string {
  if (error !== undefined) return `not resolved: ${error}`;
  return dns ? `${answered} resolved, ${unanswered} unanswered, ${refused} refused` : 'not resolved';
}

function describeUsing(using: NonNullable<ExitReport['using']>): string[] {
  const { exits, active, allowLan, include, exclude, paranoid } = using;
  const used = exits.find(({ peerId }) => peerId === active);
  const lines = exits.map(({ peerId, name, state, isActive, via, expiresInMs }) => {
    const why = wordExitState(state);
    const what = isActive
      ? `in use, renewed within ${formatDuration((expiresInMs ?? 0) / 1000)}${via.length === 0 ? '' : `, which leaves by ${via.length} more`}`
      : why === undefined
        ? state
        : `${state}: ${why.what}. ${why.next}`;
    return `  ${nameOr(name, peerId)}  ${what}`;
  });
  const scope = include.length === 0 ? 'everything' : include.join(' ');
  return [
    used === undefined
      ? `using     CLOSED: no exit grants, so ${scope} goes nowhere; to leave directly: omerta exit off`
      : `using     ${scope} leaves by ${nameOr(used.name, used.peerId)} (${families(used)})`,
    ...lines,
    `names     ${used?.dns === true ? 'asked of the exit' : 'asked of whom this machine asks otherwise'}`,
    ...(paranoid ? ['guard     on: only omerta exit off opens this machine'] : []),
    `directly  ${[...(allowLan ? ['what is on-link'] : []), ...exclude].join(', ') || 'nothing'}`,
  ];
}

function families({ ipv4, ipv6 }: { readonly ipv4: boolean; readonly ipv6: boolean }): string {
  if (ipv4 && ipv6) return 'IPv4, IPv6';
  return ipv4 ? 'IPv4; IPv6 goes nowhere' : 'IPv6; IPv4 goes nowhere';
}

/** `omerta exit list` */
export function describeOffers({ offers, using }: ExitReport): string {
  if (offers.length === 0)
    return 'no member serves an exit; on one that is to: omerta exit serve --allow PEER';
  const rows = offers.map(({ peerId, name }) => {
    const chosen = using?.exits.find((exit) => exit.peerId === peerId);
    return [name, peerId, chosen === undefined ? '' : chosen.isActive ? 'in use' : chosen.state];
  });
  return columns([['NAME', 'PEER', 'USE'], ...rows].map((row) => row.map(printable)));
}
