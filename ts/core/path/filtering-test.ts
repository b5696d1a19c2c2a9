// Who a NAT or firewall in front of this node lets in (RFC 4787, section 5; RFC 5780, section 4.4), without a server
// that has two addresses: a member that this node has never sent to is asked to send to it. That comes before the
// contact with it, in the time its answer is under way; afterwards it is too late, as this node has sent there.
//
// Of two members only one finds out something at a time: the other has to be the first to send.
//
//   asked before the contact:  nothing was sent to the member     it arrives: anybody is let in
//   with a port it has not:    another port of its was sent to    it arrives: by address, not by port
//
// That something did not arrive counts only when the member is reached by that way afterwards, and could not have
// been late. What it sends goes where the asker says it is: as much as in a contact, within the same budget.

import type { SessionKey } from '../../contract/engine.js';
import { NO_PATH_TIMES, type PathEnds } from '../../contract/path-control.js';
import { sameBytes } from '../../wire/bytes.js';
import { isPrivate, Reach, reachOf } from '../../wire/reach.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import { MAX_MEMBERS, type Member } from '../members/member-table.js';
import { AnswerTable, type RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { isReachable, type OwnAddresses } from './contact-addresses.js';
import type { Contact } from './contact.js';
import { familyOf, type Family, type NatWitness, type SentBefore } from './nat-witness.js';
import type { SentAddresses } from './sent-addresses.js';
import type { TrackedPath } from './tracked-path.js';

/** What the record of a node says that answers these requests. */
export const FILTERING_TESTS_CAPABILITY = 'filtering-tests';

/** Sent for one request: one may be lost. */
const PROBES = 2;
/** What was sent before the answer has arrived so long after it, if it does; the contact begins no sooner. */
const LATE_MS = 20;
const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** One that is under way, or has been answered and not been understood yet. */
export interface FilteringTest {
  readonly family: Family;
  readonly before: SentBefore;
  readonly askedAt: number;
  answeredAt: number | undefined;
}

/** What the node lends to its tests. */
export interface FilteringTestHost {
  readonly requests: RequestTable;
  readonly nat: NatWitness;
  own(): Omit<OwnAddresses, 'predicted'>;
  /** Where its relays are: it sends to them all the time. */
  relays(): readonly SocketAddress[];
}

/** Who sends a probe by no path. @returns false when that is not allowed now */
export type ProbeOnce = (member: SessionKey, address: SocketAddress, turn: Turn) => boolean;

export class FilteringTests {
  readonly #host: FilteringTestHost;
  readonly #sent: SentAddresses;
  readonly #probeOnce: ProbeOnce;
  readonly #answers = new AnswerTable(() => MAX_MEMBERS);

  constructor(host: FilteringTestHost, sent: SentAddresses, probeOnce: ProbeOnce) {
    this.#host = host;
    this.#sent = sent;
    this.#probeOnce = probeOnce;
  }

  /** A session with a member is up, and no contact has been made: it is asked, where that may show something. */
  begin(member: SessionKey, { record }: Member, contact: Contact, turn: Turn): void {
    if (!record.capabilities.includes(FILTERING_TESTS_CAPABILITY)) return;
    for (const family of FAMILIES) {
      if (contact.filteringTests.some((test) => test.family === family)) continue;
      const address = this.#reachedAt(family);
      const theirs = record.endpoints
        .map((endpoint) => endpoint.address)
        .filter((each) => familyOf(each) === family && this.#isOutside(each));
      const filtering = this.#host.nat.filtering(undefined, family);
      const before = filtering.wanted;
      const [there] = theirs;
      if (address === undefined || before === undefined || there === undefined) continue;
      if (theirs.some((each) => this.#sentBefore(each, turn.now) !== 'nothing')) continue;
      if (before === 'other-port') {
        // To each destination another port: the one that is asked to be sent to is not the one this opens.
        if (this.#host.nat.dependsOnDestination(family, turn.now) !== false) continue;
        const port = there.port === 65_535 ? there.port - 1 : there.port + 1;
        if (theirs.some((each) => each.port === port)) continue;
        if (!this.#probeOnce(member, { ip: there.ip, port }, turn)) continue;
      }
      filtering.tried();
      this.#ask(member, contact, { family, before, askedAt: turn.now, answeredAt: undefined }, address, turn);
    }
  }

  /** A member asks to be sent to, there. */
  handle(
    peer: SessionKey,
    request: number,
    address: SocketAddress,
    contact: Contact | undefined,
    turn: Turn,
  ): void {
    if (!this.#answers.begin(peer, request, turn)) return;
    const isOwn = this.#host.own().interfaces.some(({ source }) => sameBytes(source.ip, address.ip));
    // One more port of a NAT that gives one after the other would be missing in the row that is predicted.
    const spoils = this.#host.nat.dependsOnDestination(familyOf(address), turn.now) === true;
    const own = contact?.filteringTests.filter(({ family }) => family === familyOf(address)) ?? [];
    // Of two only one can find out, as the other has to send to it first: the lower identity.
    const isOurs = own.length > 0 && contact?.first === true;
    if (contact !== undefined && own.length > 0 && !isOurs)
      contact.filteringTests = contact.filteringTests.filter((test) => !own.includes(test));
    const may = isReachable(address) && !isOwn && !spoils && !isOurs;
    let sent = 0;
    while (may && sent < PROBES && this.#probeOnce(peer, address, turn)) sent++;
    this.#answers.answer(
      peer,
      request,
      sent > 0
        ? { type: 'filtering-tested' }
        : { type: 'refused', reason: 'no-consent', what: 'filtering-test' },
      turn,
    );
  }

  /** A probe came in that no path is for. */
  arrived(member: SessionKey, { remote, local }: PathEnds, turn: Turn): void {
    if ('leg' in remote || !this.#isOutside(remote.address)) return;
    const { address } = remote;
    const before = this.#sentBefore(address, turn.now);
    if (before !== undefined) this.#host.nat.filtering(local, familyOf(address)).arrived(before);
    this.#sent.add(member, address, turn.now); // it has been answered
  }

  /** A direct path to the member works: what did not come by it before was refused. */
  reached(member: Member, contact: Contact, path: TrackedPath): void {
    const { remote, local } = path;
    if (contact.filteringTests.length === 0 || 'leg' in remote) return;
    const { address } = remote;
    const known = member.record.endpoints.some((each) => sameBytes(each.address.ip, address.ip));
    const tests = contact.filteringTests.filter(({ family }) => family === familyOf(address));
    if (!known || tests.length === 0) return;
    contact.filteringTests = contact.filteringTests.filter((test) => !tests.includes(test));
    for (const { family, before, askedAt, answeredAt } of tests) {
      const first = this.#sent.since(address, before === 'nothing' ? 'any' : 'this', path.answeredAt ?? 0);
      const { rttMs } = path.quality;
      if (answeredAt === undefined || first === undefined || rttMs === undefined) continue;
      const late = Math.max(0, (rttMs - (answeredAt - askedAt)) / 2);
      const filtering = this.#host.nat.filtering(local, family);
      if (filtering.wanted === before && first >= answeredAt + late + LATE_MS / 2) filtering.refused(before);
    }
  }

  forget(member: SessionKey): void {
    this.#answers.forget(member);
  }

  #ask(member: SessionKey, contact: Contact, test: FilteringTest, address: SocketAddress, turn: Turn): void {
    contact.filteringTests = [...contact.filteringTests, test];
    // Its probes are to be told of; nothing is sent by a path yet.
    contact.tested = true;
    if (!contact.agreed)
      turn.emit({
        type: 'set-paths',
        paths: { peer: member, paths: [], ...NO_PATH_TIMES },
      });
    this.#host.requests.send(member, { type: 'filtering-test', address }, turn, (answer, later) => {
      if (answer?.type !== 'filtering-tested') {
        contact.filteringTests = contact.filteringTests.filter((each) => each !== test);
        return;
      }
      test.answeredAt = later.now;
      contact.quietUntil = later.now + LATE_MS;
    });
  }

  /** Where this node is reached, as far as it knows. */
  #reachedAt(family: Family): SocketAddress | undefined {
    const { observed, interfaces } = this.#host.own();
    const seen = observed.find((address) => familyOf(address) === family);
    if (seen !== undefined || family === 'ipv4') return seen;
    return interfaces
      .map(({ source, port }) => ({ ip: source.ip, port }))
      .find((address) => familyOf(address) === family && isGlobal(address.ip));
  }

  /** Undefined = it was sent to this very port, or that is not known. */
  #sentBefore(address: SocketAddress, now: number): SentBefore | undefined {
    const relays = this.#host.relays().filter(({ ip }) => sameBytes(ip, address.ip));
    if (this.#sent.since(address, 'this', now) !== undefined) return undefined;
    if (relays.some(({ port }) => port === address.port)) return undefined;
    return this.#sent.since(address, 'any', now) !== undefined || relays.length > 0
      ? 'other-port'
      : 'nothing';
  }

  /** Whether it is beyond what is in front of this node: not of a private network, nor of its own IPv6 prefix. */
  #isOutside({ ip }: SocketAddress): boolean {
    const isNear = this.#host
      .own()
      .interfaces.some(({ source }) => !isIPv4(ip) && sameBytes(source.ip.subarray(0, 8), ip.subarray(0, 8)));
    return isGlobal(ip) && !isNear;
  }
}

/** Of the Internet, and not of a network within it. */
const isGlobal = (ip: Uint8Array): boolean => reachOf(ip) === Reach.network && !isPrivate(ip);
