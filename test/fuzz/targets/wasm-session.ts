// Sessions of the WASM engine with a peer that may say anything inside, over a network that loses, keeps back and
// repeats, with a stranger on it. The input is a program: an instruction, an argument, and what it takes.
//
// What has to hold after every instruction:
//   - what is told of what the peer said is what it said, each time once at most; a stranger is never believed
//   - a stranger is answered by no more bytes than it sent, and moves nobody
//   - whoever waits for the deadline has nothing left to do until then
//   - of a path no more is counted than came and went
// And in the end, when the network is whole again, both are heard by each other.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  EngineError,
  type EngineEvent,
  type PeerConfig,
  type PeerEndpoint,
} from '../../../ts/contract/engine.js';
import { NO_PATH_TIMES, type PathEnds, type PeerPath } from '../../../ts/contract/path-control.js';
import type { Step } from '../../../ts/contract/step.js';
import { Counters } from '../../../ts/engine/wasm/counters.js';
import { CookieJar } from '../../../ts/engine/wasm/cookie.js';
import { endpointAt, type Endpoint } from '../../../ts/engine/wasm/endpoint.js';
import { TYPE_INITIATION } from '../../../ts/engine/wasm/messages.js';
import { localIdentity } from '../../../ts/engine/wasm/noise.js';
import type { SessionOutput } from '../../../ts/engine/wasm/session-output.js';
import { SessionTable } from '../../../ts/engine/wasm/session-table.js';
import { toHex } from '../../../ts/wire/bytes.js';
import { encodePathReport, encodeProbe, encodeProbeAnswer } from '../../../ts/wire/path-frame.js';
import { parsePrefix } from '../../../ts/wire/prefix.js';
import { address } from '../../core/fixtures.js';
import type { FuzzTarget } from '../harness/target.js';

const MOST_INSTRUCTIONS = 50;
/** Type, length: what of a handshake message its first MAC covers. */
const COVERED: Readonly<Record<number, number>> = { 148: 132, 92: 76 };
const OWN = address('192.0.2.1:1');
const STRANGER = address('203.0.113.9:9');
const LOCALS = [address('192.0.2.1:1').ip, address('192.0.2.3:1').ip];
const PREFIX = parsePrefix('192.0.2.0/29') ?? assert.fail();

/** Places the peer is at: two addresses and a leg, from either of this node's. */
function place(number: number): PathEnds {
  const local = LOCALS[(number >> 2) & 1] ?? assert.fail();
  if (number % 4 === 3) return { remote: { leg: 7 }, local: undefined };
  return {
    remote: { address: address(`192.0.2.${8 + (number % 4)}:2`) },
    local: (number & 8) === 0 ? { ip: local, interface: 0 } : undefined,
  };
}

const sizeOf = (outputs: readonly SessionOutput[]): number =>
  outputs.reduce((sum, output) => sum + (output.type === 'datagram' ? output.datagram.length : 0), 0);

const privateKeyOf = (name: string): Uint8Array => createHash('sha256').update(name).digest();

const OWN_IDENTITY = localIdentity(privateKeyOf('own'));
const MOST_PEERS = 4;
const MORE_KEYS = Array.from({ length: MOST_PEERS }, (_, index) =>
  toHex(localIdentity(privateKeyOf(`more ${index}`)).publicKey),
);

/** A payload as it is received: in whole blocks. */
function padded(payload: Uint8Array): string {
  const blocks = new Uint8Array(Math.ceil(payload.length / 16) * 16);
  blocks.set(payload);
  return toHex(blocks);
}

class Node {
  readonly counters = new Counters();
  readonly heard: string[] = [];
  events: EngineEvent[] = [];
  table: SessionTable;

  constructor(readonly name: string) {
    this.table = this.#made();
  }

  /** Everything in memory is lost. */
  restart(): void {
    this.table.destroy();
    this.table = this.#made();
  }

  count(name: string): number {
    return this.counters.snapshot().get(name) ?? 0;
  }

  #made(): SessionTable {
    return new SessionTable(privateKeyOf(this.name), MOST_PEERS, this.counters);
  }
}

class World {
  readonly own = new Node('own');
  readonly peer = new Node('peer');
  /** A stranger, who knows this node's key. */
  readonly other = new Node('other');
  /** How often the peer said what. */
  readonly #said = new Map<string, number>();
  /** What is on its way to `own`, or kept back, and everything that ever was. */
  #onItsWay: Uint8Array[] = [];
  readonly #everything: Uint8Array[] = [];
  #now = 1_000_000;
  #random = 0;
  /** Of the peer, from now on. */
  #from = 0;
  #loses = false;
  #keepsBack = false;
  #key: Uint8Array | undefined;

  constructor() {
    this.meet();
    const own = {
      sessionKey: this.own.table.sessionKey,
      presharedKey: undefined,
      allowedIps: [],
      persistentKeepalive: 0,
    };
    this.#take(this.other, this.other.table.setPeers([{ ...own, endpoint: { address: OWN } }], this.step));
  }

  get step(): Step {
    return {
      now: this.#now,
      wallClock: 1_800_000_000_000 + this.#now,
      random: (length) => {
        const blocks = Array.from({ length: Math.ceil(length / 32) }, () =>
          createHash('sha256').update(`${this.#random++}`).digest(),
        );
        return new Uint8Array(Buffer.concat(blocks).subarray(0, length));
      },
    };
  }

  /** Each knows the other. */
  meet(changed: Partial<PeerConfig> = {}): void {
    const config = (of: Node, endpoint: PeerEndpoint | undefined): PeerConfig => ({
      sessionKey: of.table.sessionKey,
      presharedKey: this.#key,
      allowedIps: [],
      endpoint,
      persistentKeepalive: 0,
      ...changed,
    });
    this.#take(this.own, this.own.table.setPeers([config(this.peer, place(0).remote)], this.step));
    this.#take(this.peer, this.peer.table.setPeers([config(this.own, { address: OWN })], this.step));
  }

  act(what: number, argument: number, input: () => number): void {
    const { own, peer } = this;
    const key = peer.table.sessionKey;
    switch (what % 22) {
      case 0: // anything at all
        this.#say(Uint8Array.from({ length: argument % 80 }, input));
        break;
      case 1:
        this.#say(this.#frame(argument));
        break;
      case 2:
        this.#take(
          own,
          own.table.sendControl(key, Uint8Array.of(0xc0, 1, 4, 0, argument, 2, 3, 4), this.step),
        );
        break;
      case 3:
        this.#take(own, own.table.startHandshake(key, this.step));
        break;
      case 4:
        this.#take(peer, peer.table.startHandshake(own.table.sessionKey, this.step));
        break;
      case 5:
        this.pass(argument);
        break;
      case 6:
        this.pass(argument * 1000);
        break;
      case 7:
        this.#loses = (argument & 1) !== 0;
        this.#keepsBack = (argument & 2) !== 0;
        break;
      case 8:
        this.#from = argument;
        break;
      case 9: // again, from wherever
        this.#again(argument, input());
        break;
      case 10:
        this.#change(argument, input(), input());
        break;
      case 11:
        this.#fromStranger(Uint8Array.from({ length: argument }, input));
        break;
      case 12:
        this.setPaths(argument, input);
        break;
      case 13:
        this.#say(pathFrame(argument, input()));
        break;
      case 14:
        this.#probe(argument, input());
        break;
      case 15:
        this.#configure(argument);
        break;
      case 16:
        this.#legOrAddressGone(argument);
        break;
      case 17:
        this.#flood();
        break;
      case 18:
        this.#change(argument, input(), input(), true);
        break;
      case 19: // more than is taken at a time
        for (let left = argument; left >= 0; left--)
          this.#say(argument % 2 === 0 ? this.#frame(0) : pathFrame(argument >> 1, left));
        break;
      case 20: // somebody whom this node does not know, and the other way round
        this.#take(this.other, this.other.table.startHandshake(own.table.sessionKey, this.step));
        this.#take(own, own.table.sendControl(this.other.table.sessionKey, this.#frame(0), this.step));
        break;
      case 21:
        this.#cannotBePeers(argument);
    }
    this.#settle();
    this.#check();
  }

  /** Something with a number of its own, a ping, an offer of a suite, or a cover. */
  #frame(argument: number): Uint8Array {
    const number = Array.from({ length: 12 }, () => (this.#random++ * 37) & 0xff);
    const header =
      [
        [0xc0, 1, 8, 0],
        [0xc0, 2, 8, 0],
        [0xc0, 4, 12, 0],
        [0xc0, 9, 0, 0],
      ][argument % 4] ?? assert.fail();
    return Uint8Array.of(
      ...header,
      ...number.slice(0, argument % 4 === 1 ? 8 : 12),
      ...(argument % 4 === 1 ? [0, 0, 0, 0] : []),
    );
  }

  /** More than there may be, or one that nobody can be: then none of them is one. */
  #cannotBePeers(argument: number): void {
    const keys = argument % 2 === 0 ? ['00'.repeat(32)] : MORE_KEYS;
    const before = this.own.table.peers(this.#now).length;
    const configs = keys.map((sessionKey) => ({
      sessionKey,
      presharedKey: undefined,
      allowedIps: [],
      endpoint: undefined,
      persistentKeepalive: 0,
    }));
    assert.throws(() => this.own.table.setPeers(configs, this.step), EngineError);
    assert.equal(this.own.table.peers(this.#now).length, before);
  }

  setPaths(argument: number, input: () => number): void {
    const paths = Array.from({ length: argument % 4 }, (_, index): PeerPath => ({
      id: 1 + ((index + (argument >> 6)) % 4),
      ...place(input()),
    }));
    this.#take(
      this.own,
      this.own.table.setPaths(
        [
          {
            peer: this.peer.table.sessionKey,
            paths: argument % 16 === 15 ? undefined : paths,
            silentAfterMs: ((argument >> 2) % 3) * 100,
            leastRoundTripMs: ((argument >> 4) % 3) * 40,
            silentBetweenReportsMs: ((argument >> 5) % 3) * 50,
            reportEveryMs: (argument % 5) * 20,
            probeRules:
              argument % 7 === 3
                ? [
                    {
                      local: argument & 8 ? LOCALS[1] : undefined,
                      from: argument & 16 ? PREFIX : undefined,
                      answered: false,
                    },
                  ]
                : undefined,
          },
        ],
        this.step,
      ),
    );
  }

  /** Stops at every deadline on the way. */
  pass(ms: number): void {
    const end = this.#now + ms;
    this.#settle();
    for (;;) {
      const next = Math.min(this.own.table.deadline() ?? Infinity, this.peer.table.deadline() ?? Infinity);
      if (next > end) break;
      this.#now = Math.max(this.#now, next);
      this.#settle();
    }
    this.#now = end;
    this.#settle();
  }

  /** The network is whole, nobody has paths, and each knows where the other is: they hear each other. */
  end(): void {
    this.#loses = this.#keepsBack = false;
    this.#from = 0;
    this.#onItsWay = [];
    this.#key = undefined;
    const key = this.peer.table.sessionKey;
    this.#take(this.own, this.own.table.setPaths([{ peer: key, paths: [], ...NO_PATH_TIMES }], this.step));
    this.meet({ redirect: true });
    this.pass(100_000);
    this.meet({ redirect: true });
    const mine = Uint8Array.of(0xc0, 77, 4, 0, 1, 2, 3, 4);
    const its = Uint8Array.of(0xc0, 78, 4, 0, 5, 6, 7, 8);
    const areHeard = (): boolean =>
      this.own.heard.includes(padded(its)) && this.peer.heard.includes(padded(mine));
    // What was sent under keys that only one of them has is lost: the next is not.
    for (let attempt = 0; attempt < 8 && !areHeard(); attempt++) {
      this.#take(this.own, this.own.table.sendControl(key, mine, this.step));
      this.#say(its);
      this.pass(5000);
    }
    this.#check();
    assert.ok(areHeard(), 'both are heard');
  }

  #say(payload: Uint8Array): void {
    const text = padded(payload);
    this.#said.set(text, (this.#said.get(text) ?? 0) + 1);
    this.#take(this.peer, this.peer.table.sendControl(this.own.table.sessionKey, payload, this.step));
  }

  #again(which: number, from: number): void {
    const datagram = this.#everything[which % Math.max(1, this.#everything.length)];
    if (datagram !== undefined) this.#give(datagram, endpointAt(place(from)));
  }

  /**
   * A real message with one byte changed. What is not changed in what its authentication covers is left alone: of a
   * handshake message the second MAC, and the indices where whoever knows the receiver's key made the first one anew.
   */
  #change(which: number, at: number, to: number, signed = false): void {
    const datagram = this.#everything[which % Math.max(1, this.#everything.length)]?.slice();
    if (datagram === undefined) return;
    const covered = COVERED[datagram.length];
    const begin = !signed ? 0 : datagram[0] === TYPE_INITIATION ? 8 : 12;
    const index = begin + (at % ((covered ?? datagram.length) - begin));
    if (datagram[index] === to || (signed && covered === undefined)) return;
    datagram[index] = to;
    if (signed && to === 0) datagram.fill(0, begin, begin + 32); // an ephemeral key that nobody can have
    if (signed) new CookieJar(OWN_IDENTITY).sign(datagram, this.#now);
    this.#fromStranger(datagram);
  }

  #fromStranger(datagram: Uint8Array): void {
    // What waits for a turn is worked off before, so that nothing of it is counted here.
    this.#settle();
    const received = this.own.count('transport_received');
    const outputs = [
      ...this.own.table.handleMessage(datagram.slice(), { address: STRANGER }, this.step),
      ...this.own.table.handleTimeout(this.step),
    ];
    assert.equal(this.own.count('transport_received'), received, 'a stranger is not believed');
    assert.ok(sizeOf(outputs) <= datagram.length, 'a stranger is answered no more than it sent');
    this.#take(this.own, outputs);
    const [known] = this.own.table.peers(this.#now);
    assert.notDeepEqual(known?.endpoint, { address: STRANGER }, 'a stranger moves nobody');
  }

  /** One initiation over and over, which may be the first time that it arrives: those who come then prove their address. */
  #flood(): void {
    const initiation = this.#everything.findLast((datagram) => datagram[0] === TYPE_INITIATION);
    if (initiation === undefined) return;
    let taken = 0;
    let given = 0;
    for (let count = 0; count < 70; count++) {
      const outputs = this.own.table.handleMessage(initiation.slice(), endpointAt(place(1)), this.step);
      taken += initiation.length;
      given += sizeOf(outputs);
    }
    // Who proves its address is heard, and no more often than anybody may.
    const jar = new CookieJar(OWN_IDENTITY);
    const message = initiation.slice();
    message[8] = (message[8] ?? 0) ^ 1;
    for (let count = 0; count < 30; count++) {
      jar.sign(message, this.#now);
      for (const output of this.own.table.handleMessage(message.slice(), { address: STRANGER }, this.step)) {
        assert.ok(output.type === 'datagram' && output.datagram.length <= message.length);
        jar.consumeReply(output.datagram, this.#now);
      }
    }
    assert.ok(given <= taken);
  }

  #probe(to: number, token: number): void {
    const { table } = this.own;
    const sent = this.own.count('path_probes_sent') + this.own.count('drop_probe_unsent');
    const probe = {
      peer: this.peer.table.sessionKey,
      token: new Uint8Array(8).fill(token),
      to: place(to),
      size: to >= 128 ? 1200 : 0,
    };
    this.#take(this.own, table.sendProbe(probe, this.step));
    assert.equal(this.own.count('path_probes_sent') + this.own.count('drop_probe_unsent'), sent + 1);
  }

  #configure(argument: number): void {
    const { own, peer } = this;
    switch (argument % 6) {
      case 0:
        own.table.removePeers([peer.table.sessionKey]);
        this.meet();
        break;
      case 1:
        peer.restart();
        this.meet();
        break;
      case 2:
        own.restart();
        this.meet();
        break;
      case 3:
        this.#key = argument >= 128 ? new Uint8Array(32).fill(argument) : undefined;
        this.meet();
        break;
      case 4:
        this.meet({ persistentKeepalive: argument >> 4 });
        break;
      case 5:
        this.#take(
          own,
          own.table.setPeers(
            [
              {
                sessionKey: peer.table.sessionKey,
                presharedKey: this.#key,
                allowedIps: [],
                endpoint: argument >= 64 ? place(argument >> 4).remote : undefined,
                persistentKeepalive: 0,
                redirect: argument >= 128,
              },
            ],
            this.step,
          ),
        );
    }
  }

  #legOrAddressGone(argument: number): void {
    if (argument % 2 === 0) this.#take(this.own, this.own.table.forgetLeg(7, this.step));
    else {
      const gone = argument & 2 ? '192.0.2.1' : '192.0.2.3';
      this.own.table.forgetLocal((_, local) => local === gone);
    }
  }

  #give(datagram: Uint8Array, from: Endpoint): void {
    this.#take(this.own, this.own.table.handleMessage(datagram.slice(), from, this.step));
  }

  #take(node: Node, outputs: readonly SessionOutput[]): void {
    for (const output of outputs) {
      if (output.type === 'event') {
        node.events.push(output.event);
        if (output.event.type === 'control') node.heard.push(toHex(output.event.payload));
      }
      if (output.type !== 'datagram' || this.#loses) continue;
      if (node === this.other) this.#fromStranger(output.datagram.slice());
      else if (node === this.peer) {
        this.#onItsWay.push(output.datagram.slice());
        this.#everything.push(output.datagram.slice());
      } else
        this.#take(
          this.peer,
          this.peer.table.handleMessage(output.datagram.slice(), { address: OWN }, this.step),
        );
    }
  }

  /** Everything on its way arrives, and what is due is done, until nothing moves. */
  #settle(): void {
    for (let turns = 0; ; turns++) {
      assert.ok(turns < 1000, 'nothing is due without end');
      const arrives = this.#keepsBack ? undefined : this.#onItsWay.shift();
      if (arrives !== undefined) this.#give(arrives, endpointAt(place(this.#from)));
      const due = [this.own, this.peer].filter(({ table }) => (table.deadline() ?? Infinity) <= this.#now);
      for (const node of due) this.#take(node, node.table.handleTimeout(this.step));
      if (arrives === undefined && due.length === 0) return;
    }
  }

  #check(): void {
    const { own } = this;
    const counted = new Map<string, number>();
    for (const text of own.heard) counted.set(text, (counted.get(text) ?? 0) + 1);
    for (const [text, times] of counted) assert.ok(times <= (this.#said.get(text) ?? 0), `heard ${text}`);
    for (const event of own.events)
      if (event.type === 'session' || event.type === 'endpoint')
        assert.notDeepEqual(event.endpoint, { address: STRANGER });
    own.events = [];
    const peers = own.table.peers(this.#now);
    assert.ok(peers.length === 1);
    for (const { sentPackets, receivedPackets } of own.table.pathCounts(
      this.peer.table.sessionKey,
      this.#now,
    )) {
      assert.ok(receivedPackets <= own.count('transport_received'));
      assert.ok(sentPackets <= own.count('transport_sent') + own.count('path_duplicates_sent'));
    }
  }
}

/** As engines send them, and with tokens and times that nobody asked for. */
function pathFrame(argument: number, more: number): Uint8Array {
  const token = new Uint8Array(8).fill(more);
  const stamp = BigInt(argument) * 1_000_000_000_000n;
  if (argument % 3 === 0) return encodeProbe(token, stamp, 48 + (argument >> 6) * 16);
  if (argument % 3 === 1) {
    const observed = more & 1 ? STRANGER : undefined;
    return encodeProbeAnswer({ token, stamp }, observed, more * 8);
  }
  return encodePathReport(BigInt(argument) << BigInt(more % 60));
}

const program = (text: string): Uint8Array => Uint8Array.from(text.split(' ').map(Number));

const target: FuzzTarget = {
  timed: false,
  seeds: () => [
    program('1 0 2 1 5 20 0 20 192 2 8 0 5 200 1 0'),
    program('3 0 4 0 5 50 4 0 9 0 1 9 1 2 10 0 60 1 10 2 5 7'),
    // Two paths, data, silence, reports, probes and their answers, and data again.
    program('4 0 12 78 0 1 2 1 1 0 5 30 2 2 13 2 3 13 4 5 5 255 2 3 13 0 1 14 1 9 14 129 9 5 100'),
    program('4 0 12 15 13 0 1 13 2 2 12 24 8 5 13 0 1 8 1 13 0 1 1 0'),
    program('4 0 8 3 1 0 16 0 2 1 15 255 2 2 6 5 8 4 1 0 16 1 16 3'),
    program('7 1 2 1 3 0 6 100 7 0 6 30 2 1 6 200 15 1 15 2 15 3 15 131 1 0'),
    program('4 0 7 2 1 0 1 0 1 0 9 3 0 9 4 0 7 0 15 52 6 60 15 0'),
    program('4 0 3 0 18 0 9 1 18 0 90 1 18 0 70 1 18 1 40 2 18 2 13 2 18 3 60 9 2 1'),
    program('4 0 17 0 15 1 4 0 2 1 5 200 6 20 4 0 11 3 1 2 3'),
    program('7 2 3 0 18 0 30 7 18 0 1 0 4 0 18 1 40 2 18 1 0 0 7 0 2 1 20 0 21 0 21 1'),
    program('4 0 1 0 12 68 19 254 19 254 5 9 19 255 19 255 5 9 19 251 5 9 19 253 19 253 1 1 1 2 1 3'),
    program('3 0 6 166 1 0 1 1 6 40 15 65 6 200 2 1 4 0 15 119 16 0 2 1 15 0 2 1 15 119 2 2'),
    program('4 0 17 0 1 0 17 0 5 200 4 0 7 1 19 200 7 0 1 0 9 0 0 9 2 0'),
    // Where it is said to be counts once the session is over.
    program('3 0 5 50 15 83 7 1 6 200 7 0 2 1 15 83 6 200 2 1'),
    // The session is renewed by whoever began it, and wears out where nobody answers.
    program('2 0 6 130 2 1 1 0 6 50 1 0 6 130 1 1 7 1 6 200 2 0 6 255 6 255 6 100'),
  ],
  run(input) {
    const world = new World();
    let at = 0;
    const next = (): number => input[at++] ?? 0;
    for (let count = 0; at < input.length && count < MOST_INSTRUCTIONS; count++)
      world.act(next(), next(), next);
    world.end();
  },
};
export default target;
