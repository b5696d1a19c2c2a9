// `omerta route list` for people.

import type { AcceptedRouteReport, RouteReport } from '../status/model/route-report.js';
import { wordRouteState } from '../status/model/route-report.js';
import { columns } from './context.js';
import { guestRows } from './describe-exit.js';
import { printable } from './describe-status.js';

const nameOr = ({ name, peerId }: { readonly name: string; readonly peerId: string }): string =>
  name === '' ? `${peerId.slice(0, 14)}…` : name;

/** `omerta route list` */
export function describeRoutes(report: RouteReport): string {
  const { accepted, offers, configured, error } = report;
  const lines = [
    ...(error === undefined ? [] : [`host        NOT IN ORDER: ${error}`]),
    ...describeAdvertised(report.advertised),
    `accepted    ${accepted.length === 0 ? 'nothing' : accepted.length}`,
    ...(accepted.length === 0 ? [] : columns(accepted.map(acceptedRow)).split('\n')),
    `offered     ${offers.length === 0 ? 'nothing' : ''}`.trimEnd(),
    ...(offers.length === 0
      ? []
      : columns(offers.map((offer) => [`  ${nameOr(offer)}`, offerText(offer.answer)])).split('\n')),
    ...(configured.length === 0
      ? []
      : [`file        ${configured.join(', ')} of the configuration in place of what is typed`]),
  ];
  return lines.map(printable).join('\n');
}

function describeAdvertised(advertised: RouteReport['advertised']): string[] {
  if (advertised === undefined) return ['advertised  nothing'];
  const { prefixes, networks, rights, guests } = advertised;
  const may = [...networks.map((name) => `all of network ${name}`), ...rights.map(nameOr)];
  const rows = guestRows(guests);
  return [
    `advertised  ${prefixes.join(' ')}`,
    `allowed     ${may.length === 0 ? 'nobody: type the same with --allow PEER' : may.join(', ')}`,
    `guests      ${guests.length === 0 ? 'none' : guests.length}`,
    ...(rows.length === 0 ? [] : columns(rows).split('\n')),
  ];
}

function acceptedRow(route: AcceptedRouteReport): string[] {
  const why = wordRouteState(route.state);
  const state = route.isActive
    ? 'in use'
    : route.state === 'standby'
      ? 'standby: another it was accepted of has it'
      : `UNREACHABLE: ${why === undefined ? route.state : `${why.what}. ${why.next}`}`;
  return [
    `  ${route.prefix}`,
    `by ${nameOr(route)}`,
    [
      state,
      ...(route.isOnLink ? ['on-link here: reached directly'] : []),
      ...route.overlaps.map((other) =>
        other.prefix === route.prefix
          ? `also by ${nameOr(other)}`
          : lengthOf(other.prefix) > lengthOf(route.prefix)
            ? `but ${other.prefix} by ${nameOr(other)}`
            : `part of ${other.prefix} by ${nameOr(other)}`,
      ),
    ].join('; '),
  ];
}

const lengthOf = (prefix: string): number => Number(prefix.replace(/^.*\//, ''));

function offerText(answer: RouteReport['offers'][number]['answer']): string {
  if (answer === undefined) return 'no answer yet';
  if ('prefixes' in answer) return answer.prefixes.join(' ');
  const why = wordRouteState(answer.refused);
  return why === undefined ? answer.refused : `${why.what}. ${why.next}`;
}
