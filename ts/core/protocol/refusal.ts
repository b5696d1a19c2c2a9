// Why requests are turned down: codes. Apart from the messages that carry them, for who words them only.

import type { RecordRefusal } from './peer-record.js';

/** Why a request is turned down. */
export const REFUSALS = [
  'not-registered',
  'bad-record',
  'stale-record',
  'not-served',
  'denied',
  'capacity',
  'callee-offline',
  'unknown-circuit',
  'no-consent',
  'busy',
  'own-address',
  'not-a-member',
  'loop',
  'bad-policy',
  'stale-policy',
  /** By a record: the clock of whoever signed it, as the clock here has it. */
  'clock-behind',
  'clock-ahead',
  /** Two lives of one identity take turns. */
  'identity-twice',
  /** The right to leave by this node has run out. */
  'right-lapsed',
  /** The NAT in front gives another port to each destination, so that none can be searched for. */
  'ports-vary',
  /** The exit itself leaves by another, and one of the two does not want that. */
  'exit-chain',
  /** The relay will go: it takes on nobody and nothing new. */
  'draining',
] as const;
export type Refusal = (typeof REFUSALS)[number];

export function isRefusal(code: string): code is Refusal {
  return REFUSALS.some((refusal) => refusal === code);
}

/** How a record that is not used is turned down. */
export function recordRefusal(reason: RecordRefusal): Refusal {
  if (reason === 'expired') return 'clock-behind';
  return reason === 'too-long-lived' ? 'clock-ahead' : 'bad-record';
}
