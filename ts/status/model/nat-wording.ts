// What was found out of a NAT or a firewall, in words for a person: one sentence, and what would make it better.

import {
  found,
  type Dependence,
  type Finding,
  type NatStatus,
  type NatUnknown,
} from '../../core/runtime/nat-status.js';
import { formatDuration } from '../../host/units.js';
import type { Wording } from './wording.js';

const UNKNOWN_WORDS: Readonly<Record<NatUnknown, string>> = {
  'not-observed': 'no relay or member has said yet where it sees this address',
  'one-observer':
    'one relay or member alone has seen it, and it takes two at different IPv4 addresses or IPv6 sites (/48)',
  'no-second-port': 'whether it depends on the port too, only two ports at one address could tell',
  'which-address': 'it was seen, but from which address of this machine is not known',
  'one-mapping': 'everybody sees the same port, so no second one was given yet',
  'not-tried': 'no member has sent to it yet before it was sent to',
  'no-second-try': 'whether another port of a known address is let in was not tried yet',
  'nobody-inside': 'nobody else behind it has been met',
  'not-quiet': 'no path has been quiet for long enough',
};

const FORWARD = (port: string): string =>
  `Forward UDP port ${port} to this machine at the router, or switch on port mapping there (PCP, NAT-PMP, UPnP)`;
const OPEN = (port: string): string =>
  `Let UDP port ${port} in at the firewall of this machine or its router`;

/** Why something is not known. */
export function wordNatUnknown(code: NatUnknown): string {
  return UNKNOWN_WORDS[code];
}

/** A finding as one or two words, or why there is none. */
export function wordFinding<T>(finding: Finding<T>, word: (value: T) => string): string {
  return 'value' in finding ? word(finding.value) : `not known: ${UNKNOWN_WORDS[finding.unknown]}`;
}

/** One address: what is in front of it, and what would make it better; `next` is empty where nothing would. */
export function wordNat(report: NatStatus): Wording {
  const { local, translation, filtering } = report;
  const port = local?.slice(local.lastIndexOf(':') + 1) ?? '';
  switch (found(translation)) {
    case undefined:
      return {
        what: wordFinding(translation, String),
        next: 'See whether a relay is reached: omerta status',
      };
    case 'none':
      return wordUntranslated(report, port);
    case 'nptv6':
      return {
        what: `each address has one of its own outside, with its ports (prefix translation); ${wordFilter(filtering)}`,
        next: isOpen(filtering) ? '' : OPEN(port),
      };
    case 'nat44':
    case 'nat66':
      return wordTranslated(report, port);
  }
}

function wordUntranslated({ filtering }: NatStatus, port: string): Wording {
  return {
    what: `others see the address as it is, without a NAT; ${wordFilter(filtering)}`,
    next: isOpen(filtering) ? '' : OPEN(port),
  };
}

function wordTranslated(report: NatStatus, port: string): Wording {
  const { mapping, ports, filtering } = report;
  const dependent =
    found(mapping) === undefined
      ? 'unknown' in mapping && mapping.unknown === 'no-second-port'
      : found(mapping) !== 'endpoint-independent';
  const next = isOpen(filtering) && !dependent ? '' : FORWARD(port);
  if (dependent) {
    const given = {
      preserving: 'this machine\u2019s own port where it can, so that the next is often known',
      sequential: 'one after the other, so that the next is often known',
      random: 'any, so that direct paths are possible only to members who let this one in',
    };
    return {
      what: `behind a NAT that gives each destination another port (symmetric), ${wordFinding(ports, (value) => given[value])}; ${wordFilter(filtering)}`,
      next,
    };
  }
  if (found(mapping) === undefined)
    return { what: `behind a NAT; its kind is ${wordFinding(mapping, String)}`, next };
  return {
    what: `behind a NAT that shows one address and port to everybody, so that direct paths can be opened; ${wordFilter(filtering)}`,
    next,
  };
}

const isOpen = (filtering: Finding<Dependence>): boolean => found(filtering) === 'endpoint-independent';

function wordFilter(filtering: Finding<Dependence>): string {
  if ('unknown' in filtering)
    return filtering.unknown === 'no-second-try'
      ? 'who it has not sent to is not let in'
      : 'whether everybody is let in is not known yet';
  const words: Readonly<Record<Dependence, string>> = {
    'endpoint-independent': 'everybody is let in',
    'address-dependent': 'only addresses it has sent to are let in',
    'address-and-port-dependent': 'only addresses and ports it has sent to are let in',
  };
  return words[filtering.value];
}

/** Rows of a table: what was found out, one thing each. */
export function natFacts(report: NatStatus): readonly (readonly [name: string, text: string])[] {
  const { seen, observers, mapping, ports, preservesPort, filtering, hairpinning, lifetime } = report;
  const dependence = (finding: Finding<Dependence>): string =>
    wordFinding(finding, (value) => value.replaceAll('-', ' '));
  const yesNo = (value: boolean): string => (value ? 'yes' : 'no');
  const by = `by ${observers} ${observers === 1 ? 'relay or member' : 'relays and members'}`;
  return [
    ['seen at', seen.length === 0 ? 'nowhere yet' : `${seen.join(' ')} ${by}`],
    ['mapping', dependence(mapping)],
    ['filtering', dependence(filtering)],
    ['ports', wordFinding(ports, String)],
    ['keeps the port', wordFinding(preservesPort, yesNo)],
    ['hairpinning', wordFinding(hairpinning, yesNo)],
    ['mapping lifetime', wordLifetime(lifetime)],
  ];
}

function wordLifetime({ atLeastMs, belowMs }: NatStatus['lifetime']): string {
  const seconds = (ms: number): string => formatDuration(Math.floor(ms / 1000));
  const bounds = [
    ...(atLeastMs === undefined ? [] : [`at least ${seconds(atLeastMs)}`]),
    ...(belowMs === undefined ? [] : [`below ${seconds(belowMs)}`]),
  ];
  return bounds.length === 0 ? `not known: ${UNKNOWN_WORDS['not-quiet']}` : bounds.join(', ');
}
