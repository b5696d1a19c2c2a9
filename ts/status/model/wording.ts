// The core speaks codes; here they become words for a person: what it is, and what to do. Commands, the
// log and error lines take them from here.

import { CoreError, type CoreErrorCode } from '../../core/protocol/core-error.js';
import { isRefusal, type Refusal } from '../../core/protocol/refusal.js';
import type { MemberStatus, UplinkError } from '../../core/runtime/mesh-status.js';

/** What is the matter, and what to do about it; both without an end of sentence. */
export interface Wording {
  readonly what: string;
  readonly next: string;
}

const COMPARE_CLOCKS = 'Type date on both machines and set the wrong clock (timedatectl set-ntp true)';
const COPIED_STATE =
  'Give each machine a state directory of its own: omerta keygen --out DIR on one of them, then join again';

/** Why a relay, or a member by way of it, turns a request down. */
const REFUSAL_WORDS: Readonly<Record<Refusal, Wording>> = {
  'not-registered': {
    what: 'the relay does not hold a registration of this node',
    next: 'Wait a moment, it registers again; else see: omerta status',
  },
  'bad-record': {
    what: 'the relay cannot read this node\u2019s record',
    next: 'Run the same version of Omerta on both',
  },
  'clock-behind': {
    what: 'this machine\u2019s clock is days behind the relay\u2019s',
    next: COMPARE_CLOCKS,
  },
  'clock-ahead': {
    what: 'this machine\u2019s clock is a day or more ahead of the relay\u2019s',
    next: COMPARE_CLOCKS,
  },
  'stale-record': {
    what: 'the relay holds a newer record of this identity: another machine runs by a copy of identity.key, or the clock went back and the store was lost',
    next: `${COPIED_STATE}; or set the clock`,
  },
  'identity-twice': {
    what: 'two machines run by the same keys at the same time',
    next: COPIED_STATE,
  },
  'not-served': {
    what: 'the relay does not serve this network',
    next: 'On the relay: serve under [relay], with the blinded id from: omerta network list',
  },
  denied: {
    what: 'the relay does not admit this identity',
    next: 'On the relay: allow and deny under [relay]',
  },
  capacity: {
    what: 'a limit of the relay is reached',
    next: 'It is tried again; on the relay, omerta status says which limit, to be raised under [relay]',
  },
  'callee-offline': {
    what: 'the member is not connected to a relay',
    next: 'On that machine: omerta status',
  },
  'unknown-circuit': {
    what: 'the relay does not know the circuit any more',
    next: 'It is set up anew by itself',
  },
  'no-consent': {
    what: 'the other side does not want this connection',
    next: 'Join the same network on both: omerta network list',
  },
  busy: {
    what: 'the other side is opening a connection itself',
    next: 'Wait a moment',
  },
  'own-address': {
    what: 'the relay sees this node at an address of its own',
    next: 'Run relay and member by one daemon, or give the relay its public address with --announce',
  },
  'not-a-member': {
    what: 'the relay was not told that this node is in the network',
    next: 'Compare on both: omerta network list',
  },
  loop: {
    what: 'the relays lead back to where the request came from',
    next: 'Correct peers under [relay] on the relays',
  },
  'bad-policy': {
    what: 'the relay does not accept the standing policy: the clocks of the two differ by a day or more',
    next: COMPARE_CLOCKS,
  },
  'right-lapsed': {
    what: 'the right to leave by that exit has run out',
    next: 'On the exit: omerta exit grant KEY --for 2h',
  },
  'ports-vary': {
    what: 'its NAT gives another port to each destination: there is none to search for',
    next: 'At one of the two, have the gateway map the port or forward it (see port mapping in omerta nat)',
  },
  'exit-chain': {
    what: 'the exit leaves by another exit itself, and one of the two does not want that',
    next: 'Use the exit behind it; or type --chain with omerta exit serve there and with omerta exit use here',
  },
  draining: {
    what: 'the relay is about to stop and takes on nothing new',
    next: 'It is tried again when the relay should be back; until then another relay of the network is needed: omerta network list',
  },
  'stale-policy': {
    what: 'the relay holds a newer standing policy: the clock went back and the store was lost',
    next: 'Set the clock, and start again',
  },
};

const UPLINK_WORDS: Readonly<Record<Exclude<UplinkError, Refusal>, Wording>> = {
  unanswered: {
    what: 'no answer',
    next: 'Check that the relay runs, its address, and that its UDP port is open',
  },
  'bad-key': {
    what: 'the invite holds a session key that cannot be used',
    next: 'Ask for the link again, and join with it',
  },
  'not-admitted': {
    what: 'the relay does not admit this identity, network or address',
    next: 'On the relay: serve, allow and deny under [relay]; from the relay\u2019s own addresses nobody is admitted',
  },
  'no-room': {
    what: 'a limit of the relay for admissions is reached',
    next: 'It is tried again; on the relay, omerta status says which limit, to be raised under [relay]',
  },
  'no-session': {
    what: 'admitted, but no handshake was answered: this machine\u2019s clock went back, another machine runs by the same keys, or a firewall lets only some packets through',
    next: COMPARE_CLOCKS,
  },
  'register-unanswered': {
    what: 'the session is up, but the registration was not answered',
    next: 'It is tried again; see the relay\u2019s log',
  },
};

/** Why a bootstrap does not hold our registration. */
export function wordUplinkError(code: UplinkError): Wording {
  return isRefusal(code) ? REFUSAL_WORDS[code] : UPLINK_WORDS[code];
}

/** Why a request was turned down. */
export function wordRefusal(code: Refusal): Wording {
  return REFUSAL_WORDS[code];
}

/** Why there is no circuit to a member. */
export function wordCircuitFailure(code: NonNullable<MemberStatus['refused']>): Wording {
  if (code === 'forbidden')
    return {
      what: 'the configuration lets no connected relay be used for it',
      next: 'Change pin or forbid under [paths], then type: omerta reload',
    };
  if (code !== 'unanswered') return REFUSAL_WORDS[code];
  return { what: 'the relay did not answer', next: 'See its state: omerta status' };
}

const LINK_WORDS = {
  damaged: { what: 'cut short or mistyped (its checksum is wrong)', next: 'Copy it again' },
  version: { what: 'made by another version of Omerta', next: 'Ask for one made by this version' },
};

const CORE_ERROR_WORDS: Readonly<Record<CoreErrorCode, Wording>> = {
  'invite-scheme': { what: 'does not start with "omerta://join/"', next: 'Copy it whole' },
  'invite-damaged': LINK_WORDS.damaged,
  'invite-version': LINK_WORDS.version,
  'relay-link-scheme': { what: 'does not start with "omerta://relay/"', next: 'Copy it whole' },
  'relay-link-damaged': LINK_WORDS.damaged,
  'relay-link-version': LINK_WORDS.version,
  'peer-id-damaged': {
    what: 'not a peer id, or it holds a typing error (its checksum is wrong)',
    next: 'Copy it again from: omerta peers',
  },
  'peer-id-prefix': { what: 'a peer id starts with "omerta1"', next: 'Copy one from: omerta peers' },
  'peer-id-length': { what: 'does not hold 32 bytes', next: 'Copy it again from: omerta peers' },
  'not-a-relay': { what: 'this machine runs as a member', next: 'Type it on the relay' },
  'unknown-peer': { what: 'not a known member or bootstrap', next: 'See who is: omerta peers' },
};

/** What the core threw at a person's doing; undefined for anything else. */
export function wordCoreError(error: unknown): Wording | undefined {
  return error instanceof CoreError ? CORE_ERROR_WORDS[error.code] : undefined;
}

/** Nothing that is sent by UDP is answered. */
export const UDP_BLOCKED: Wording = {
  what: 'no relay answers anything: UDP is blocked on the way, or no relay runs',
  next: 'Have the firewall let UDP out to the relays and the answers in, or try another network; on a relay: omerta status',
};

/** What is learnt cannot be written. @param error an errno name */
export function wordStoreError(error: string): Wording {
  return {
    what: `cannot be written (${error}): what is learnt now is lost at the next start`,
    next: 'Make room on the disk of the state directory, or correct its modes: omerta doctor',
  };
}

/** What to do when this node took another overlay address. */
export const ADDRESS_MOVED =
  'use the present one, or the IPv6 address, in what names this machine by the former';
/** What to do when two have one overlay address. */
export const ADDRESS_COLLISION =
  'whoever came later takes another by itself; if this lasts a minute, see whether an unknown member joined (omerta peers) and reach both by IPv6';

/** What to do about a notice of the core, by its name; the log adds it. */
const NOTICE_REMEDIES: Readonly<Record<string, string>> = {
  'interface-gone': 'Type: omerta down, then omerta up',
  'identity-twice': COPIED_STATE,
  'address-moved': ADDRESS_MOVED,
  'address-collision': ADDRESS_COLLISION,
  'session-key-claimed': 'See who that member is (omerta peers); nothing was given to it',
  'routing-loop': 'What is sent there is routed into the tunnel: give the address a route outside it',
};

/**
 * What a person needs beside a notice's codes; empty for those that speak for themselves.
 * @param fields of the notice.
 */
export function wordNotice(
  event: string,
  fields: Readonly<Record<string, unknown>>,
): { readonly meaning?: string; readonly remedy?: string } {
  const { error, reason } = fields;
  if (event === 'bootstrap-unreachable' && typeof error === 'string') {
    const { what, next } = wordUplinkError(error as UplinkError);
    return { meaning: what, remedy: next };
  }
  if (event === 'udp-blocked') return { meaning: UDP_BLOCKED.what, remedy: UDP_BLOCKED.next };
  if (typeof reason === 'string' && isRefusal(reason)) {
    const { what, next } = REFUSAL_WORDS[reason];
    return { meaning: what, remedy: next };
  }
  const remedy = NOTICE_REMEDIES[event];
  return remedy === undefined ? {} : { remedy };
}
