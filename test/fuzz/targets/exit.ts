// Both sides of an exit in one node, while members ask, grant, refuse, withdraw, go and come back, rights are given
// and taken back, and time passes. The input is a program of three bytes each: what, argument, another.
//
// What has to hold after every instruction:
//   - a request is answered once, and granted only to a member who has the right, and for no longer than that
//   - the engine lets go on what comes from guests, and from nobody else; the host is told of the same
//   - traffic goes to the exit in use alone: one that granted, of those that were named, and that is no way back
//   - LANs behind this node are let on for whom they were granted; one behind a member is that member's who granted what
//     was accepted of it, and no other prefix is anybody's
//   - whoever waits for the deadline has something to do then, and nothing left afterwards

import assert from 'node:assert/strict';
import type { SessionKey } from '../../../ts/contract/engine.js';
import { ExitAgent, type ExitSettings } from '../../../ts/core/exit/exit-agent.js';
import { MAX_CHOICE } from '../../../ts/core/exit/exit-client.js';
import { LEASE_MS } from '../../../ts/core/exit/lease-timing.js';
import {
  EXIT_CAPABILITY,
  MAX_RIGHTS,
  ROUTE_CAPABILITY,
  type ExitRight,
  type ExitService,
  type RouteService,
} from '../../../ts/core/exit/exit-rights.js';
import { MAX_ACCEPTED } from '../../../ts/core/exit/route-client.js';
import { MemberTable } from '../../../ts/core/members/member-table.js';
import { decodeControlFrame } from '../../../ts/core/protocol/control-frame.js';
import { decodeMessage, type Envelope } from '../../../ts/core/protocol/control-message.js';
import { MAX_EXIT_HOPS, MAX_LAN_PREFIXES } from '../../../ts/core/protocol/message-limits.js';
import { REFUSALS } from '../../../ts/core/protocol/refusal.js';
import { blindedNetworkId, type Network } from '../../../ts/core/protocol/network.js';
import type { Effect } from '../../../ts/core/runtime/effect.js';
import { PeerTable } from '../../../ts/core/runtime/peer-table.js';
import { RequestTable } from '../../../ts/core/runtime/request-table.js';
import { Turn } from '../../../ts/core/runtime/turn.js';
import { nodePrimitives } from '../../../ts/engine/node-primitives.js';
import { sameBytes, toHex } from '../../../ts/wire/bytes.js';
import { parsePrefix, type Prefix } from '../../../ts/wire/prefix.js';
import { bytes, keys, recordFields, WALL_CLOCK, type Keys } from '../../core/fixtures.js';
import type { FuzzTarget } from '../harness/target.js';

const MOST_INSTRUCTIONS = 60;
const EVERYTHING = ['0.0.0.0/0', '::/0'];
const self = keys();
const others = [keys(), keys(), keys()] as const;
const network: Network = { id: bytes(16), name: 'n', key: bytes(32), bootstraps: [] };
const blinded = blindedNetworkId(nodePrimitives, network);
const lan = [parsePrefix('192.168.7.0/24') ?? assert.fail()] as const;
/** What is accepted, and what members say that they have. */
const ACCEPTED = ['10.1.2.0/24', 'fd12::/64'] as const;
const OFFERED = [parsePrefix('10.1.0.0/16') ?? assert.fail(), parsePrefix('fd12::/48') ?? assert.fail()];

/** What the engine and the host were told last. */
interface Told {
  readonly peers: Map<SessionKey, { readonly transit: string; readonly allowedIps: readonly string[] }>;
  guests: readonly SessionKey[];
  routeGuests: readonly SessionKey[];
  use: Uint8Array | undefined;
}

class World {
  readonly #peers = new PeerTable();
  readonly #requests = new RequestTable();
  readonly #members: MemberTable;
  readonly #agent: ExitAgent;
  readonly #told: Told = { peers: new Map(), guests: [], routeGuests: [], use: undefined };
  /** Requests of this node that nobody answered yet, by whom they went to. */
  readonly #asked = new Map<SessionKey, Envelope>();
  readonly #askedRoutes = new Map<SessionKey, Envelope>();
  #routeService: RouteService | undefined;
  #accepted: readonly (readonly [prefix: string, from: Keys])[] = [];
  #service: ExitService | undefined;
  #choice: readonly Keys[] = [];
  #hops = 1;
  #now = 0;
  #sequence = 0;
  #random = 1;

  constructor() {
    this.#members = new MemberTable({
      primitives: nodePrimitives,
      identity: self.identity,
      sessionKey: toHex(self.sessionKey),
      peers: this.#peers,
      removed: (peer, turn) => this.#agent.memberGone(peer, turn),
    });
    this.#agent = new ExitAgent({
      identity: self.identity,
      members: this.#members,
      peers: this.#peers,
      requests: this.#requests,
    });
    this.#do((turn) => this.#members.addNetwork(network, turn));
    for (const each of others) this.#learn(each, true, 3600);
  }

  act(what: number, argument: number, more: number): void {
    const other = others[argument % others.length] ?? others[0];
    const peer = toHex(other.sessionKey);
    switch (what % 16) {
      case 10:
        this.#askRoutes(other, more);
        break;
      case 11:
        this.#setRoutes(argument, more);
        break;
      case 12:
        this.#answerRoutes(other, more);
        break;
      case 13:
        this.#do((turn) => assert.ok(this.#agent.handleNotice(peer, { type: 'route-released' }, turn)));
        assert.ok(!this.#told.routeGuests.includes(peer));
        break;
      case 14: {
        const reason = REFUSALS[more % REFUSALS.length] ?? 'denied';
        this.#do((turn) => this.#agent.handleNotice(peer, { type: 'route-withdrawn', reason }, turn));
        break;
      }
      case 15:
        this.#do((turn) => this.#agent.surveyRoutes(turn));
        break;
      case 0:
        this.#ask(other, more);
        break;
      case 1:
        this.#do((turn) => {
          assert.ok(this.#agent.handleNotice(peer, { type: 'exit-released' }, turn));
          assert.ok(
            !this.#agent.handleNotice(peer, { type: 'exit-request', network: blinded, hops: 1 }, turn),
          );
        });
        break;
      case 2: {
        const reason = REFUSALS[more % REFUSALS.length] ?? 'denied';
        this.#do((turn) => this.#agent.handleNotice(peer, { type: 'exit-withdrawn', reason }, turn));
        break;
      }
      case 3:
        this.#set(argument, more);
        break;
      case 4:
        this.#answer(other, more);
        break;
      case 5:
        this.#pass((argument + 1) * 2 ** (more % 10));
        break;
      case 6:
        this.#learn(other, more % 2 === 0, 1 + (more >> 1) * 30);
        break;
      case 7:
        this.#do((turn) => this.#agent.sessionLost(peer, turn));
        if (more & 1) this.#do((turn) => this.#agent.reached(peer, turn));
        break;
      case 9:
        this.#setWrong(more);
        break;
      case 8: // Nobody is a member any more, then those that are named are.
        this.#do((turn) => this.#members.removeNetwork(toHex(blinded), turn));
        this.#do((turn) => this.#members.addNetwork(network, turn));
        others.forEach((each, index) => {
          if ((more >> index) & 1) this.#learn(each, true, 3600);
        });
    }
    this.#check();
  }

  #do(work: (turn: Turn) => void): readonly Effect[] {
    const turn = new Turn({
      now: this.#now,
      wallClock: WALL_CLOCK + this.#now,
      random: (length) =>
        new Uint8Array(length).map(() => (this.#random = (this.#random * 69_069 + 1) >>> 0) >>> 24),
    });
    work(turn);
    for (const effect of turn.effects) this.#take(effect);
    return turn.effects;
  }

  #take(effect: Effect): void {
    const { peers } = this.#told;
    if (effect.type === 'set-peer') {
      const { sessionKey, transit = 'any', allowedIps } = effect.peer;
      peers.set(sessionKey, { transit, allowedIps });
      // One prefix is never at two peers, at no moment.
      for (const prefix of [...EVERYTHING, ...ACCEPTED])
        assert.ok([...peers.values()].filter((each) => each.allowedIps.includes(prefix)).length < 2);
    } else if (effect.type === 'remove-peer') peers.delete(effect.peer);
    else if (effect.type === 'exit-guests')
      this.#told.guests = effect.guests.map((guest) => guest.sessionKey);
    else if (effect.type === 'route-guests')
      this.#told.routeGuests = effect.guests.map((guest) => guest.sessionKey);
    else if (effect.type === 'exit-in-use') this.#told.use = effect.use?.identity;
    else if (effect.type === 'send-control') {
      const sent = messageOf(effect);
      if (sent.message.type === 'exit-request') this.#asked.set(effect.peer, sent);
      if (sent.message.type === 'route-request') this.#askedRoutes.set(effect.peer, sent);
    }
  }

  #ask(other: Keys, more: number): void {
    const peer = toHex(other.sessionKey);
    const request = 1 + more;
    const hops = 1 + (more % 3);
    const asked = more < 240 ? blinded : bytes(16);
    const before = this.#told.guests.includes(peer);
    const effects = this.#do((turn) =>
      this.#agent.handleRequest(peer, request, { type: 'exit-request', network: asked, hops }, turn),
    );
    const answers = effects.flatMap((effect) => {
      const sent = effect.type === 'send-control' && effect.peer === peer ? messageOf(effect) : undefined;
      return sent?.request === request ? [sent.message] : [];
    });
    assert.equal(answers.length, 1);
    const [answer] = answers;
    const until = this.#rightOf(other);
    if (answer?.type !== 'exit-granted') {
      assert.equal(answer?.type, 'refused');
      assert.ok(!this.#told.guests.includes(peer), 'who is refused is no guest');
      return;
    }
    assert.ok(this.#service !== undefined && until > WALL_CLOCK + this.#now && asked === blinded);
    assert.ok(answer.lifetime >= 1 && answer.lifetime * 1000 <= Math.max(1000, LEASE_MS));
    assert.ok(answer.lifetime === 1 || answer.lifetime * 1000 <= until - WALL_CLOCK - this.#now);
    assert.ok(
      !answer.path.some((identity) => sameBytes(identity, other.identity)),
      'no way back to the guest',
    );
    assert.ok(answer.path.length + 1 <= hops);
    assert.ok(this.#choice.length === 0 || this.#service.chain);
    assert.ok(before || this.#told.guests.includes(peer));
  }

  #askRoutes(other: Keys, more: number): void {
    const peer = toHex(other.sessionKey);
    const hold = more % 2 === 0;
    const before = this.#told.routeGuests.includes(peer);
    const effects = this.#do((turn) =>
      this.#agent.handleRouteRequest(
        peer,
        1 + more,
        { type: 'route-request', network: more < 240 ? blinded : bytes(16), hold },
        turn,
      ),
    );
    const answers = effects.flatMap((effect) => {
      const sent = effect.type === 'send-control' && effect.peer === peer ? messageOf(effect) : undefined;
      return sent?.request === 1 + more ? [sent.message] : [];
    });
    assert.equal(answers.length, 1);
    const isGuest = this.#told.routeGuests.includes(peer);
    if (answers[0]?.type !== 'route-granted') {
      assert.ok(answers[0]?.type === 'refused' && !isGuest);
      return;
    }
    assert.ok(this.#rightOf(other, this.#routeService) > WALL_CLOCK + this.#now && more < 240);
    assert.equal(isGuest, before || hold, 'who only asks is no guest');
  }

  #setRoutes(argument: number, more: number): void {
    const until = argument & 1 ? WALL_CLOCK + this.#now + (argument >> 1) * 1000 : undefined;
    const subjects = [others[0].identity, others[1].identity].filter((_, index) => (more >> index) & 1);
    const rights = subjects.map((identity) => ({ subject: { identity }, until }));
    const service = more & 4 ? { rights, prefixes: lan } : undefined;
    const accepted = ACCEPTED.flatMap((prefix, index) =>
      [others[2], others[argument % 2] ?? others[0]]
        .filter((_, of) => (more >> (3 + 2 * index + of)) & 1)
        .map((from) => [prefix, from] as const),
    );
    const routes = accepted.map(([text, { identity }]) => ({
      prefix: parsePrefix(text) ?? assert.fail(),
      from: identity,
    }));
    if (more === 255) {
      const many = new Array<(typeof routes)[number]>(MAX_ACCEPTED + 1).fill(routes[0] ?? assert.fail());
      assert.throws(
        () => this.#do((turn) => this.#agent.setRoutes({ service, accepted: many }, turn)),
        RangeError,
      );
      return;
    }
    this.#routeService = service;
    this.#accepted = accepted;
    this.#do((turn) => this.#agent.setRoutes({ service, accepted: routes }, turn));
  }

  #answerRoutes(other: Keys, more: number): void {
    const peer = toHex(other.sessionKey);
    const asked = this.#askedRoutes.get(peer);
    this.#askedRoutes.delete(peer);
    const message =
      more & 1
        ? ({
            type: 'route-granted',
            prefixes: OFFERED.filter((_, index) => (more >> (1 + index)) & 1),
            lifetime: 1 + (more >> 5) * 20,
          } as const)
        : ({
            type: 'refused',
            reason: REFUSALS[more % REFUSALS.length] ?? 'denied',
            what: 'route-request',
          } as const);
    this.#do((turn) => this.#requests.handleAnswer(peer, asked?.request ?? more, message, turn));
  }

  /** When the right of this member ends, milliseconds since 1970; 0 = there is none. */
  #rightOf(other: Keys, service: Pick<ExitService, 'rights'> | undefined = this.#service): number {
    const rights = (service?.rights ?? []).filter(({ subject }) =>
      'identity' in subject
        ? sameBytes(subject.identity, other.identity)
        : 'network' in subject
          ? sameBytes(subject.network, network.id)
          : subject.sessionKey === toHex(other.sessionKey),
    );
    return Math.max(0, ...rights.map(({ until }) => until ?? Infinity));
  }

  #set(argument: number, more: number): void {
    const until = argument & 1 ? WALL_CLOCK + this.#now + (argument >> 1) * 1000 : undefined;
    const subjects: readonly ExitRight['subject'][] = [
      { identity: others[0].identity },
      { sessionKey: toHex(others[1].sessionKey) },
      { network: network.id },
    ];
    const rights = subjects.filter((_, index) => (more >> index) & 1).map((subject) => ({ subject, until }));
    this.#service =
      more & 8
        ? {
            rights,
            ipv4: argument % 3 !== 0,
            ipv6: argument % 5 !== 0,
            dns: true,
            lan,
            chain: (more & 16) !== 0,
          }
        : undefined;
    const order = [others[2], others[argument % 2] ?? others[0]];
    this.#choice = more & 32 ? order : more & 64 ? order.toReversed() : [];
    this.#hops = 1 + (more >> 7);
    const choice =
      this.#choice.length === 0
        ? undefined
        : { exits: this.#choice.map(({ identity }) => identity), hops: this.#hops };
    this.#do((turn) => this.#agent.set({ service: this.#service, choice }, turn));
  }

  /** The last request that went there is answered, or another that was never asked. */
  #answer(other: Keys, more: number): void {
    const peer = toHex(other.sessionKey);
    const asked = this.#asked.get(peer);
    this.#asked.delete(peer);
    const path = [self.identity, others[0].identity, bytes(32)].filter(
      (_, index) => (more >> (3 + index)) & 1,
    );
    const message =
      more & 1
        ? ({
            type: 'exit-granted',
            ipv4: (more & 2) !== 0,
            ipv6: (more & 4) !== 0,
            dns: true,
            lan: [],
            lifetime: 1 + (more >> 6) * 40,
            path,
          } as const)
        : ({
            type: 'refused',
            reason: REFUSALS[more % REFUSALS.length] ?? 'denied',
            what: 'exit-request',
          } as const);
    this.#do((turn) => this.#requests.handleAnswer(peer, asked?.request ?? more, message, turn));
  }

  /** What its record says: that it serves an exit and LANs, or neither. */
  #learn(other: Keys, serves: boolean, seconds: number): void {
    const fields = recordFields(other, {
      networks: [blinded],
      capabilities: serves ? [EXIT_CAPABILITY, ROUTE_CAPABILITY] : [],
      sequence: ++this.#sequence,
      notAfter: Math.ceil((WALL_CLOCK + this.#now) / 1000) + seconds,
    });
    this.#do((turn) => this.#members.learnOpened({ ...fields, bytes: bytes(8) }, turn, this.#now));
  }

  /** Wakes at each deadline on the way. */
  #pass(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const at = Math.min(this.#agent.deadline() ?? Infinity, this.#requests.deadline() ?? Infinity);
      if (at > end) break;
      assert.ok(at > this.#now || this.#now === 0, 'what was due is done');
      this.#now = Math.max(this.#now, at);
      this.#wake();
    }
    this.#now = end;
    this.#do((turn) => this.#members.expire(turn));
    this.#wake();
  }

  #wake(): void {
    this.#do((turn) => {
      this.#requests.handleTimeout(turn);
      this.#agent.handleTimeout(turn);
    });
    assert.ok((this.#agent.deadline() ?? Infinity) > this.#now);
  }

  /** Settings that cannot be are refused, and change nothing. */
  #setWrong(more: number): void {
    const before = JSON.stringify(this.#agent.status(this.#now));
    const right = { subject: { network: network.id }, until: undefined };
    const service = { rights: [], ipv4: true, ipv6: true, dns: true, lan: [], chain: true };
    const wrong: ExitSettings[] = [
      {
        service: { ...service, rights: new Array<ExitRight>(MAX_RIGHTS + 1).fill(right) },
        choice: undefined,
      },
      {
        service: { ...service, lan: new Array<Prefix>(MAX_LAN_PREFIXES + 1).fill(lan[0]) },
        choice: undefined,
      },
      { service, choice: { exits: [], hops: 1 } },
      { service, choice: { exits: new Array<Uint8Array>(MAX_CHOICE + 1).fill(self.identity), hops: 1 } },
      { service, choice: { exits: [self.identity], hops: more % 2 === 0 ? 0 : MAX_EXIT_HOPS + 1 } },
    ];
    const settings = wrong[more % wrong.length] ?? assert.fail();
    assert.throws(() => this.#do((turn) => this.#agent.set(settings, turn)), RangeError);
    assert.equal(JSON.stringify(this.#agent.status(this.#now)), before);
  }

  #check(): void {
    assert.deepEqual(this.#agent.capabilities, [
      ...(this.#service === undefined ? [] : ['exit']),
      ...(this.#routeService === undefined ? [] : ['routes']),
    ]);
    this.#checkRoutes();
    const { guests, choice } = this.#agent.status(this.#now);
    const { peers, use } = this.#told;
    assert.equal(guests.length, this.#told.guests.length);
    for (const { expiresInMs } of guests) assert.ok(expiresInMs <= LEASE_MS);
    const letOn = [...peers].filter(([, { transit }]) => transit.startsWith('exit')).map(([key]) => key);
    assert.deepEqual(letOn.toSorted(), [...this.#told.guests].toSorted());
    for (const key of this.#told.guests) {
      const guest = others.find(({ sessionKey }) => toHex(sessionKey) === key);
      assert.ok(guest !== undefined && this.#rightOf(guest) > 0, 'a guest has a right');
      assert.ok(this.#peers.isMember(key, toHex(blinded)), 'a guest is a member');
    }
    assert.ok(this.#service !== undefined || guests.length === 0);
    const active = choice.filter(({ isActive }) => isActive);
    assert.ok(active.length <= 1);
    const [exit] = active;
    const used = [...peers].filter(([, { allowedIps }]) =>
      EVERYTHING.some((each) => allowedIps.includes(each)),
    );
    assert.equal(use !== undefined, exit !== undefined);
    if (exit === undefined || use === undefined) {
      assert.equal(used.length, 0, 'nobody is sent everything while no exit is used');
      return;
    }
    const chosen = this.#choice.find(({ identity }) => sameBytes(identity, use));
    assert.ok(chosen !== undefined, 'the operator named it');
    assert.ok((exit.expiresInMs ?? 0) > 0 && exit.via.length + 1 <= this.#hops);
    const families = [exit.ipv4, exit.ipv6];
    assert.deepEqual(
      used.map(([key]) => key),
      families.includes(true) ? [toHex(chosen.sessionKey)] : [],
    );
    for (const [, { allowedIps }] of used)
      assert.deepEqual(
        EVERYTHING.map((prefix) => allowedIps.includes(prefix)),
        families,
      );
  }

  #checkRoutes(): void {
    const { guests, accepted } = this.#agent.routeStatus(this.#now);
    const { peers, routeGuests } = this.#told;
    assert.equal(guests.length, routeGuests.length);
    const letOn = [...peers].filter(([, { transit }]) => transit.endsWith('lan')).map(([key]) => key);
    assert.deepEqual(letOn.toSorted(), [...routeGuests].toSorted());
    for (const key of routeGuests) {
      const guest = others.find(({ sessionKey }) => toHex(sessionKey) === key);
      assert.ok(guest !== undefined && this.#rightOf(guest, this.#routeService) > 0, 'a guest has a right');
    }
    for (const prefix of ACCEPTED) {
      const holders = [...peers].filter(([, { allowedIps }]) => allowedIps.includes(prefix));
      const active = accepted.filter((route) => route.prefix === prefix && route.isActive);
      assert.ok(active.length <= 1 && holders.length === active.length);
      for (const [key] of holders)
        assert.ok(
          this.#accepted.some(([text, { sessionKey }]) => text === prefix && toHex(sessionKey) === key),
          'the operator accepted it of this member',
        );
    }
    for (const [, { allowedIps }] of peers)
      assert.ok(
        !allowedIps.includes('10.1.0.0/16') && !allowedIps.includes('fd12::/48'),
        'and no more than that',
      );
  }
}

function messageOf({ payload }: { readonly payload: Uint8Array }): Envelope {
  const frame = decodeControlFrame(payload);
  return (frame && decodeMessage(frame.body)) ?? assert.fail('what is sent is read');
}

const target: FuzzTarget = {
  timed: false, // sixty instructions are more than sixty messages
  seeds: () => [
    // Asked in vain until nobody answers, and asked again as soon as it is reached.
    Uint8Array.of(3, 0, 32, 11, 0, 124, 5, 255, 7, 5, 255, 7, 7, 2, 1, 4, 2, 7, 7, 2, 3, 7, 0, 1),
    Uint8Array.of(3, 0, 15, 0, 0, 1, 0, 1, 1, 5, 255, 8, 1, 0, 0),
    Uint8Array.of(3, 21, 15, 0, 0, 1, 5, 255, 6, 0, 0, 1, 5, 255, 9),
    Uint8Array.of(3, 0, 32, 4, 2, 7, 5, 100, 6, 4, 2, 7, 2, 2, 3, 5, 255, 9),
    Uint8Array.of(3, 0, 64, 4, 0, 1, 4, 0, 15, 6, 2, 1, 5, 255, 7, 7, 2, 0),
    Uint8Array.of(9, 0, 0, 9, 0, 1, 9, 0, 2, 9, 0, 3, 9, 0, 4, 9, 0, 9),
    Uint8Array.of(3, 0, 191, 0, 0, 1, 4, 2, 7, 0, 0, 1, 0, 2, 1, 8, 0, 3),
    Uint8Array.of(11, 0, 7, 10, 0, 0, 10, 0, 1, 10, 1, 0, 5, 255, 8, 13, 0, 0, 11, 0, 0, 15, 0, 0),
    Uint8Array.of(11, 0, 124, 12, 2, 7, 12, 0, 3, 14, 2, 0, 5, 100, 6, 12, 2, 39, 7, 2, 0, 11, 0, 255),
    Uint8Array.of(11, 1, 127, 10, 0, 0, 3, 0, 15, 0, 0, 1, 5, 255, 9, 12, 1, 231, 5, 255, 6, 8, 0, 3),
  ],
  run(input) {
    const world = new World();
    for (let at = 0; at + 2 < input.length && at < 3 * MOST_INSTRUCTIONS; at += 3)
      world.act(...([...input.subarray(at, at + 3)] as [number, number, number]));
  },
};
export default target;
