// A birthday search for a NAT that gives each destination a port that cannot be foreseen. The side behind it opens
// many local ports, and sends one probe from each to where the other is; so as many outer ports let in what comes from
// there. The other, whose own outer address is the same to all, probes ports of the outer IP at random until one of
// its probes meets one of those. What comes in by it is a path from that local port, found and kept as any other.
//
//   behind the random NAT                      the other
//   port-search           ──── relay ────►     is its own outer address the same to all?
//                         ◄─── relay ────      port-search-accepted: where it is
//   opens ports, sends from each  ─── X        its NAT or firewall drops them
//   port-search-begin     ──── relay ────►     probes random ports of the outer IP
//                         ◄──────────────      one meets an open one
//   a path from that port, the others closed
//
// With 256 of 64,512 outer ports open, 1,024 probes meet one in 98 % of searches, 177 in half of them. Two such NATs do
// not meet: each probe would have to hit a port that the other side has sent to from the very port it hits.
//
// Nothing of it goes to an address that proved anything, so it is bounded: one search at a time, at a rate, and within
// what may go to one host and at one member's word (unproven-budget.ts). It is off where the operator says so.

import type { SessionKey } from '../../contract/engine.js';
import { PROBE_TOKEN_SIZE, type LocalSource } from '../../contract/path-control.js';
import { sameBytes } from '../../wire/bytes.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { MAX_MEMBERS, type MemberTable } from '../members/member-table.js';
import type { MessageOf } from '../protocol/control-message.js';
import type { Refusal } from '../protocol/refusal.js';
import { earliest } from '../runtime/earliest.js';
import { isDue } from '../runtime/is-due.js';
import { AnswerTable, type RequestTable } from '../runtime/request-table.js';
import type { PortSearchEnd, PortSearchStatus } from '../runtime/way-status.js';
import type { Turn } from '../runtime/turn.js';
import { isReachable, type OwnAddresses } from './contact-addresses.js';
import type { Contact } from './contact.js';
import { routedInterface } from './local-interface.js';
import type { NatWitness } from './nat-witness.js';
import { mostOfSearch, type PortSearchLimits } from './port-search-limits.js';
import type { RuledWays } from './ruled-ways.js';
import type { SentAddresses } from './sent-addresses.js';
import { isDead } from './tracked-path.js';
import type { UnprovenBudget } from './unproven-budget.js';

/** What the record of a node says that takes part. */
export const PORT_SEARCH_CAPABILITY = 'port-search';

/** A NAT may forget after 30 s what it let out (many do): no part of a search takes longer. */
const LONGEST_PART_MS = 25_000;
/** Packets are sent so far apart at least, and several at once where the rate asks for it. */
const TICK_MS = 20;
/** After ports were asked for: they have to be there before what is sent from them. */
const OPENING_MS = 100;
/** What was sent last may yet be answered. */
const LATE_MS = 2000;
/** Before a member is searched for again after one in vain, and where it did not answer or had another one. */
const AGAIN_MS = 600_000;
const AGAIN_SOON_MS = 30_000;
const LOOK_MS = 5000;

/** After these another one may find something. */
const ENDS_SOON: readonly PortSearchEnd[] = ['found', 'unanswered', 'busy', 'overtaken'];

/** Local ports are taken from here: those the kernel gives to whoever asks for none. */
const FIRST_LOCAL_PORT = 32_768;
const LOCAL_PORTS = 28_232;
/** A NAT gives none below (RFC 4787, REQ-3). */
const FIRST_OUTER_PORT = 1024;
const OUTER_PORTS = 65_536 - FIRST_OUTER_PORT;

/** What the node lends to its searches. */
export interface PortSearchHost {
  readonly nat: Pick<NatWitness, 'mayGiveRandomPorts' | 'dependsOnDestination'>;
  readonly requests: RequestTable;
  readonly rules: RuledWays;
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  own(): Omit<OwnAddresses, 'predicted'>;
}

/** One that runs. */
interface Search {
  readonly member: SessionKey;
  /** `ports`: this side is behind the random NAT and opens them; `probes`: it probes for them. */
  readonly role: PortSearchStatus['role'];
  readonly startedAt: number;
  /** Where packets go: the address of the other, or the IP whose ports are probed. */
  target: SocketAddress;
  readonly local: LocalSource | undefined;
  /** Ports that are opened, or probed, in this order. */
  readonly ports: readonly number[];
  sent: number;
  /** When the next packets are due; undefined = none are, for now. */
  sendAt: number | undefined;
  /** It ends then, whatever came of it. */
  until: number;
  /** What the other side says its part takes. */
  otherPartMs: number;
}

/** One that is over. */
interface Past {
  readonly status: PortSearchStatus;
  readonly endedAt: number;
  /** The next one is no sooner. */
  readonly againAt: number;
}

export class PortSearches {
  readonly #host: PortSearchHost;
  readonly #contacts: ReadonlyMap<SessionKey, Contact>;
  readonly #budget: UnprovenBudget;
  readonly #sent: SentAddresses;
  readonly #answers = new AnswerTable(() => MAX_MEMBERS);
  /** How the last one of a member ended. */
  readonly #past = new Map<SessionKey, Past>();
  #current: Search | undefined;
  /** As the engine was told. */
  #opened: readonly SocketAddress[] = [];
  /** When it is looked which of them are wanted yet. */
  #lookAt = 0;

  constructor(
    host: PortSearchHost,
    contacts: ReadonlyMap<SessionKey, Contact>,
    budget: UnprovenBudget,
    sent: SentAddresses,
  ) {
    this.#host = host;
    this.#contacts = contacts;
    this.#budget = budget;
    this.#sent = sent;
  }

  /** The one that runs, or the last one there was. */
  status(member: SessionKey, now: number): PortSearchStatus | undefined {
    const { role, sent, ports, startedAt } = this.#of(member) ?? {};
    if (role !== undefined && sent !== undefined && ports !== undefined && startedAt !== undefined)
      return { role, sent, of: ports.length, end: undefined, sinceMs: now - startedAt, againInMs: undefined };
    const past = this.#past.get(member);
    const againInMs = past && Math.max(0, past.againAt - now);
    return past && { ...past.status, sinceMs: now - past.endedAt, againInMs };
  }

  /** Contacts with the member came to nothing: a search, where one can find something. */
  consider(member: SessionKey, contact: Contact, turn: Turn): void {
    if (!this.#limits.enabled || this.#current !== undefined || !this.#isInVain(contact)) return;
    if ((this.#past.get(member)?.againAt ?? -Infinity) > turn.now) return;
    const known = this.#host.members.bySessionKey(member);
    if (known?.record.capabilities.includes(PORT_SEARCH_CAPABILITY) !== true) return;
    if (!this.#host.nat.mayGiveRandomPorts('ipv4', turn.now)) return;
    if (!this.#budget.maySearch(member, undefined, this.#most, turn.now)) return;
    const outer = this.#outerAddress();
    const local = outer && routedInterface(outer, this.#host.own().interfaces)?.source;
    if (outer === undefined || local === undefined) return;
    const { ports, perSecond } = this.#limits;
    const count = Math.min(ports, perSecond * (LONGEST_PART_MS / 1000));
    const search: Search = {
      member,
      role: 'ports',
      startedAt: turn.now,
      target: outer,
      local,
      ports: this.#localPorts(Math.floor(count), turn),
      sent: 0,
      sendAt: undefined,
      until: Infinity,
      otherPartMs: 0,
    };
    this.#current = search;
    const message = { type: 'port-search', address: outer, ports: search.ports.length } as const;
    this.#host.requests.send(member, message, turn, (answer, later) => {
      if (this.#current !== search) return;
      if (answer?.type === 'port-search-accepted') this.#open(search, answer, later);
      else this.#over(search, answer === undefined ? 'unanswered' : endOf(answer.reason), later);
    });
  }

  /** A member behind a random NAT asks to be searched for. */
  handle(
    peer: SessionKey,
    request: number,
    { address }: MessageOf<'port-search'>,
    contact: Contact | undefined,
    turn: Turn,
  ): void {
    if (!this.#answers.begin(peer, request, turn)) return;
    const outer = this.#outerAddress();
    const refusal = this.#refusal(peer, address, contact, turn.now);
    if (refusal !== undefined || outer === undefined) {
      const reason = refusal ?? 'no-consent';
      this.#answers.answer(peer, request, { type: 'refused', reason, what: 'port-search' }, turn);
      return;
    }
    const { probes, perSecond } = this.#limits;
    const count = Math.floor(Math.min(probes, perSecond * (LONGEST_PART_MS / 1000)));
    this.#current = {
      member: peer,
      role: 'probes',
      startedAt: turn.now,
      target: address,
      local: routedInterface(address, this.#host.own().interfaces)?.source,
      ports: outerPorts(count, turn),
      sent: 0,
      sendAt: undefined,
      // It begins when the other has opened its ports.
      until: turn.now + LONGEST_PART_MS + LATE_MS,
      otherPartMs: 0,
    };
    const lifetime = Math.ceil((count * 1000) / perSecond) + LATE_MS;
    this.#answers.answer(peer, request, { type: 'port-search-accepted', address: outer, lifetime }, turn);
  }

  /** The member has opened its ports. */
  handleBegin(peer: SessionKey, turn: Turn): void {
    const search = this.#of(peer);
    if (search?.role !== 'probes' || search.sendAt !== undefined || search.sent > 0) return;
    search.sendAt = turn.now;
    search.until = turn.now + LONGEST_PART_MS + LATE_MS;
  }

  /** Sends what is due, ends what is over, and closes ports that nothing is from any more. */
  run(turn: Turn): void {
    const search = this.#current;
    if (search !== undefined) {
      const end = this.#endNow(search, turn.now);
      if (end !== undefined) this.#over(search, end, turn);
      else if (isDue(search.sendAt, turn.now)) this.#send(search, turn);
    }
    if (this.#opened.length === 0 || turn.now < this.#lookAt) return;
    this.#lookAt = turn.now + LOOK_MS;
    // A NAT that has forgotten its port gives another one: nothing will come by it.
    for (const { paths, set, active } of this.#contacts.values())
      for (const path of paths.all())
        if (path.local?.port !== undefined && isDead(path) && path !== active && !set.includes(path))
          paths.remove(path);
    this.#tellPorts(turn);
  }

  deadline(): number | undefined {
    const { sendAt, until } = this.#current ?? {};
    return earliest(sendAt, until, this.#opened.length > 0 ? this.#lookAt : undefined);
  }

  /** The operator has decided otherwise, or the network is another one: what was in vain may not be now. */
  retry(turn: Turn): void {
    if (this.#current !== undefined) this.#over(this.#current, 'overtaken', turn);
    for (const [member, past] of this.#past) this.#past.set(member, { ...past, againAt: turn.now });
  }

  /** A member is gone; a search with it ends with the contact. */
  forget(member: SessionKey): void {
    this.#answers.forget(member);
    this.#past.delete(member);
  }

  get #limits(): PortSearchLimits {
    return this.#host.rules.search;
  }

  /** Packets of one search, whichever part of it is this node's. */
  get #most(): number {
    return mostOfSearch(this.#limits);
  }

  #of(member: SessionKey): Search | undefined {
    return this.#current?.member === member ? this.#current : undefined;
  }

  /** Every direct path was tried and none works. */
  #isInVain(contact: Contact): boolean {
    const direct = contact.paths.all().filter(({ relayed, ruledOut }) => !relayed && !ruledOut);
    return (
      contact.agreed &&
      contact.active === undefined &&
      !contact.asking &&
      contact.beginAt === undefined &&
      contact.failures > 0 &&
      direct.every(({ state }) => state === 'failed' || state === 'dead')
    );
  }

  /** Where others see this node; undefined = nobody has said, or they do not agree on the IP. */
  #outerAddress(): SocketAddress | undefined {
    const observed = this.#host.own().observed.filter(({ ip }) => isIPv4(ip));
    const [first] = observed;
    return first !== undefined && observed.every(({ ip }) => sameBytes(ip, first.ip)) ? first : undefined;
  }

  #refusal(
    peer: SessionKey,
    address: SocketAddress,
    contact: Contact | undefined,
    now: number,
  ): Refusal | undefined {
    const { nat, rules } = this.#host;
    // What it has not named in a contact is not probed either.
    const isNamed = contact?.paths
      .all()
      .some(({ remote }) => 'address' in remote && sameBytes(remote.address.ip, address.ip));
    if (!this.#limits.enabled || contact?.agreed !== true || isNamed !== true) return 'no-consent';
    if (!isIPv4(address.ip) || !isReachable(address) || contact.active !== undefined) return 'no-consent';
    if (rules.ruling(peer, { remote: { address }, local: undefined }) !== undefined) return 'no-consent';
    if (nat.dependsOnDestination('ipv4', now) === true || nat.mayGiveRandomPorts('ipv4', now))
      return 'ports-vary';
    // One search at a time: a member that asks over and over, and never begins, would have it all.
    const isSoon = (this.#past.get(peer)?.againAt ?? -Infinity) > now;
    const isFree = this.#current === undefined && !isSoon;
    return isFree && this.#budget.maySearch(peer, address, this.#most, now) ? undefined : 'busy';
  }

  #localPorts(count: number, turn: Turn): number[] {
    const taken = new Set([
      ...this.#opened.map(({ port }) => port),
      ...this.#host.own().interfaces.map(({ port }) => port),
    ]);
    return randomPorts(FIRST_LOCAL_PORT, LOCAL_PORTS, count, taken, turn);
  }

  #open(search: Search, { address, lifetime }: MessageOf<'port-search-accepted'>, turn: Turn): void {
    const { rules } = this.#host;
    const ends = { remote: { address }, local: search.local };
    if (!isIPv4(address.ip) || !isReachable(address) || rules.ruling(search.member, ends) !== undefined) {
      this.#over(search, 'overtaken', turn);
      return;
    }
    if (!this.#budget.maySearch(search.member, address, this.#most, turn.now)) {
      this.#over(search, 'held-back', turn);
      return;
    }
    search.target = address;
    search.otherPartMs = lifetime;
    search.sendAt = turn.now + OPENING_MS;
    search.until = turn.now + OPENING_MS + LONGEST_PART_MS + LATE_MS;
    this.#tellPorts(turn);
  }

  #send(search: Search, turn: Turn): void {
    const { perSecond } = this.#limits;
    const wait = Math.max(TICK_MS, 1000 / perSecond);
    let left = Math.max(1, Math.round((perSecond * wait) / 1000));
    for (; left > 0 && search.sent < search.ports.length; left--) {
      const port = search.ports[search.sent] ?? 0;
      const isOpener = search.role === 'ports';
      const address = isOpener ? search.target : { ip: search.target.ip, port };
      if (!this.#budget.takeSearch(search.member, address, this.#most, turn.now)) {
        this.#over(search, 'held-back', turn);
        return;
      }
      search.sent++;
      const { local } = search;
      const from = isOpener && local !== undefined ? { ...local, port } : local;
      turn.emit({
        type: 'send-probe',
        probe: {
          peer: search.member,
          token: turn.random(PROBE_TOKEN_SIZE),
          to: { remote: { address }, local: from },
          size: 0,
        },
      });
    }
    if (search.role === 'probes') this.#sent.addHost(search.member, search.target.ip, turn.now);
    else this.#sent.add(search.member, search.target, turn.now);
    search.sendAt = turn.now + wait;
    if (search.sent < search.ports.length) return;
    search.sendAt = undefined;
    const isOpener = search.role === 'ports';
    search.until = turn.now + LATE_MS + (isOpener ? search.otherPartMs : 0);
    if (isOpener) turn.send(search.member, 0, { type: 'port-search-begin' });
  }

  #endNow(search: Search, now: number): PortSearchEnd | undefined {
    const { rules } = this.#host;
    const contact = this.#contacts.get(search.member);
    if (contact === undefined || !this.#limits.enabled || !rules.admitDirect(search.member))
      return 'overtaken';
    const proven = contact.paths.all().filter(({ relayed, state }) => !relayed && state === 'proven');
    const isFound = proven.some(({ local, remote }) =>
      search.role === 'ports'
        ? local?.port !== undefined && search.ports.includes(local.port)
        : 'address' in remote && sameBytes(remote.address.ip, search.target.ip),
    );
    if (isFound) return 'found';
    if (contact.active !== undefined) return 'overtaken';
    return search.until > now ? undefined : 'not-found';
  }

  #over(search: Search, end: PortSearchEnd, turn: Turn): void {
    const { member, role, sent, ports } = search;
    this.#current = undefined;
    this.#tellPorts(turn);
    const soon = ENDS_SOON.includes(end);
    const status = { role, sent, of: ports.length, end, sinceMs: 0, againInMs: undefined };
    const againAt = turn.now + (soon ? AGAIN_SOON_MS : AGAIN_MS);
    this.#past.set(member, { status, endedAt: turn.now, againAt });
    const name = this.#host.members.bySessionKey(member)?.record.name ?? '';
    turn.notify('info', 'port-search-over', { member: name, end, sent, of: ports.length });
  }

  /** Tells the engine which ports are wanted: those of the search that runs, and those that paths are from. */
  #tellPorts(turn: Turn): void {
    const wanted = new Map<number, SocketAddress>();
    for (const { paths } of this.#contacts.values())
      for (const { local } of paths.all())
        if (local?.port !== undefined) wanted.set(local.port, { ip: local.ip, port: local.port });
    for (const at of this.#searching()) wanted.set(at.port, at);
    const ports = [...wanted.values()];
    const isOpen = ({ port }: SocketAddress): boolean => this.#opened.some((each) => each.port === port);
    if (ports.length === this.#opened.length && ports.every(isOpen)) return;
    this.#opened = ports;
    this.#lookAt = turn.now + LOOK_MS;
    turn.emit({ type: 'set-ports', ports });
  }

  #searching(): readonly SocketAddress[] {
    const { role, local, ports, sendAt, sent } = this.#current ?? {};
    // Not before the other side has agreed.
    if (role !== 'ports' || local === undefined || (sendAt === undefined && sent === 0)) return [];
    return (ports ?? []).map((port) => ({ ip: local.ip, port }));
  }
}

function outerPorts(count: number, turn: Turn): number[] {
  return randomPorts(FIRST_OUTER_PORT, OUTER_PORTS, count, new Set(), turn);
}

/** `count` of the ports from `first` on, each once, none that is taken. */
function randomPorts(
  first: number,
  among: number,
  count: number,
  taken: ReadonlySet<number>,
  turn: Turn,
): number[] {
  const chosen = new Set<number>();
  while (chosen.size < count) {
    const bytes = turn.random(4 * count);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let at = 0; at < bytes.length && chosen.size < count; at += 4) {
      const port = first + (view.getUint32(at) % among);
      if (!taken.has(port)) chosen.add(port);
    }
  }
  return [...chosen];
}

function endOf(reason: Refusal): PortSearchEnd {
  if (reason === 'ports-vary') return 'both-random';
  return reason === 'busy' ? 'busy' : 'refused';
}
