// Who may leave by this node, and by when that ends. Nobody does by default.

import type { SessionKey } from '../../contract/engine.js';
import type { Refusal } from '../protocol/refusal.js';
import { sameBytes } from '../../wire/bytes.js';
import type { Prefix } from '../../wire/prefix.js';

/** What the record of a node says that serves an exit. */
export const EXIT_CAPABILITY = 'exit';

/** What the record of a node says that forwards to a LAN behind it. */
export const ROUTE_CAPABILITY = 'routes';

/** Rights one exit may have given. */
export const MAX_RIGHTS = 4096;

/** Whom a right is given to: an identity, whoever holds a session key, or all members of a network (its id). */
export type ExitSubject =
  { readonly identity: Uint8Array } | { readonly sessionKey: SessionKey } | { readonly network: Uint8Array };

export interface ExitRight {
  readonly subject: ExitSubject;
  /** Milliseconds since 1970; undefined = until it is taken back. */
  readonly until: number | undefined;
}

/** A LAN behind this node, and for whom it forwards there. */
export interface RouteService {
  readonly rights: readonly ExitRight[];
  /** At most MAX_LAN_PREFIXES; bits beyond their lengths are clear. */
  readonly prefixes: readonly Prefix[];
}

/** What an exit serves, and to whom. */
export interface ExitService {
  readonly rights: readonly ExitRight[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** Whether it resolves names at its inner addresses. */
  readonly dns: boolean;
  /** Private prefixes behind it that it forwards to, at most MAX_LAN_PREFIXES. */
  readonly lan: readonly Prefix[];
  /** Whether it may forward by another exit it uses itself, for those who agree to that. */
  readonly chain: boolean;
}

/** Who asks, in which network. */
export interface ExitApplicant {
  readonly identity: Uint8Array;
  readonly sessionKey: SessionKey;
  /** Id, not blinded. */
  readonly network: Uint8Array;
}

/**
 * When the applicant's right ends (milliseconds since 1970, Infinity = it does not), or why there is none.
 * @param wallClock milliseconds since 1970
 */
export function rightOf(
  { rights }: Pick<ExitService, 'rights'>,
  applicant: ExitApplicant,
  wallClock: number,
): number | Extract<Refusal, 'denied' | 'right-lapsed'> {
  const own = rights.filter(({ subject }) => isFor(subject, applicant)).map(({ until }) => until ?? Infinity);
  if (own.length === 0) return 'denied';
  const until = own.reduce((latest, each) => Math.max(latest, each), 0);
  return until > wallClock ? until : 'right-lapsed';
}

function isFor(subject: ExitSubject, { identity, sessionKey, network }: ExitApplicant): boolean {
  if ('identity' in subject) return sameBytes(subject.identity, identity);
  return 'network' in subject ? sameBytes(subject.network, network) : subject.sessionKey === sessionKey;
}
