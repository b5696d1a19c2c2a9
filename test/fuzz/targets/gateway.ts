// What guests of a gateway have open, against a plain count; and where they may send, against a plain reading of the
// rules. The input is a program of three bytes each: what, argument, another.
//
// What has to hold after every instruction:
//   - a flow begins where its guest is one, has a token, and neither its bounds nor all guests' nor descriptors are used up
//   - a guest is told of what went no further while it has a token for that, and nobody else is
//   - flows of who is no guest any more have ended, each once, and take no place of others
//   - of the rules that hold an address the longest decides, of equal ones the last; an IPv4 address inside an IPv6 one
//     counts as well

import assert from 'node:assert/strict';
import type { ExitRule } from '../../../ts/contract/exit-control.js';
import { TokenBucket } from '../../../ts/engine/wasm/token-bucket.js';
import { ALL_BOUNDS, GatewayFlows, GUEST_BOUNDS } from '../../../ts/exit/gateway-flows.js';
import { Permitted } from '../../../ts/exit/permitted.js';
import type { FuzzTarget } from '../harness/target.js';

const MOST_INSTRUCTIONS = 100;
/** A connection takes four, a port of a guest one. */
const DESCRIPTORS = 6000;
const KINDS = ['tcp', 'connecting', 'udp'] as const;
type Kind = (typeof KINDS)[number];
const ADDRESSES = ['100.64.0.1', '100.64.0.2', 'fd00::3'] as const;

/** Addresses as bits, and prefixes of them: what rules are made of. */
const PLACES = [
  ['10.1.2.3', '10.0.0.0/8', '10.1.0.0/16', '10.1.2.3/32', '0.0.0.0/0'],
  ['203.0.113.9', '203.0.113.0/24', '203.0.113.8/31', '0.0.0.0/0', '0.0.0.0/1'],
  ['2001:db8::1', '2001:db8::/32', '::/0', '2001:db8::1/128', '2000::/3'],
  ['64:ff9b::a01:203', '64:ff9b::/96', '10.0.0.0/8', '::/0', '10.1.2.0/24'],
  ['2002:a01:203::1', '2002::/16', '10.1.0.0/16', '::/0', '0.0.0.0/0'],
] as const;
/** Which of a place's prefixes hold it, and which hold the IPv4 address inside, with their lengths. */
const HOLDS: readonly (readonly (readonly [at: number, length: number, inside: boolean])[])[] = [
  [
    [1, 8, false],
    [2, 16, false],
    [3, 32, false],
    [4, 0, false],
  ],
  [
    [1, 24, false],
    [2, 31, false],
    [3, 0, false],
  ],
  [
    [1, 32, false],
    [2, 0, false],
    [3, 128, false],
    [4, 3, false],
  ],
  [
    [1, 96, false],
    [2, 8, true],
    [3, 0, false],
    [4, 24, true],
  ],
  [
    [1, 16, false],
    [2, 16, true],
    [3, 0, false],
    [4, 0, true],
  ],
];

interface Flow {
  readonly guest: string;
  readonly kind: Kind;
  readonly left: () => void;
  /** How often its end was asked for. */
  ended: number;
  open: boolean;
}

class World {
  #now = 0;
  readonly #flows = new GatewayFlows(() => this.#now, DESCRIPTORS);
  readonly #tokens = new Map<string, TokenBucket>();
  /** Of what guests are told. */
  readonly #told = new Map<string, TokenBucket>();
  #all: Flow[] = [];
  #refused = 0;

  act(what: number, argument: number, more: number): void {
    const guest = ADDRESSES[argument % 3] ?? ADDRESSES[0];
    const kind = KINDS[more % 3] ?? 'udp';
    switch (what % 6) {
      case 0:
        this.#setGuests(ADDRESSES.filter((_, index) => (argument >> index) & 1));
        break;
      case 1:
        for (let left = more; left >= 0; left--) this.#begin(guest, kind === 'udp' ? 'udp' : 'tcp');
        break;
      case 2:
        for (let left = more * 4; left >= 0; left--) this.#enter(guest, kind);
        break;
      case 3:
        this.#leave(argument, more);
        break;
      case 4:
        this.#now += argument * 8;
        for (let left = more; left >= 0; left--)
          assert.equal(this.#flows.mayTell(guest), this.#told.get(guest)?.take(this.#now) === true);
        break;
      case 5:
        permit(argument, more);
    }
    this.#check();
  }

  #setGuests(guests: readonly string[]): void {
    this.#flows.setGuests(guests);
    for (const guest of guests)
      for (const buckets of [this.#tokens, this.#told])
        if (!buckets.has(guest)) buckets.set(guest, new TokenBucket(200, 200, this.#now));
    for (const buckets of [this.#tokens, this.#told])
      for (const guest of [...buckets.keys()]) if (!guests.includes(guest)) buckets.delete(guest);
    for (const flow of this.#all) {
      const isLost = !this.#tokens.has(flow.guest);
      assert.equal(flow.ended, isLost ? 1 : 0, 'ended once, and by nothing else');
    }
    this.#all = this.#all.filter(({ open }) => open);
  }

  #begin(guest: string, kind: 'tcp' | 'udp'): void {
    const kinds: readonly Kind[] = kind === 'tcp' ? ['tcp', 'connecting'] : ['udp'];
    const isFree =
      this.#tokens.has(guest) &&
      4 * (this.#count('tcp') + 1) + this.#count('udp') <= DESCRIPTORS &&
      kinds.every((each) => this.#count(each, guest) < GUEST_BOUNDS[each]) &&
      kinds.every((each) => this.#count(each) < ALL_BOUNDS[each]) &&
      this.#tokens.get(guest)?.take(this.#now) === true;
    if (!isFree) this.#refused++;
    assert.equal(this.#flows.mayBegin(guest, kind), isFree);
  }

  #enter(guest: string, kind: Kind): void {
    const flow: { -readonly [K in keyof Flow]: Flow[K] } = {
      guest,
      kind,
      left: () => undefined,
      ended: 0,
      open: true,
    };
    flow.left = this.#flows.enter(guest, kind, () => {
      flow.ended++;
      flow.left();
      flow.open = false;
    });
    if (this.#tokens.has(guest)) this.#all.push(flow);
    else assert.equal(flow.ended, 1, 'who is no guest has nothing open');
  }

  #leave(first: number, count: number): void {
    for (const flow of this.#all.slice(first, first + count)) {
      flow.left();
      flow.left();
    }
    this.#all.splice(first, count);
  }

  #count(kind: Kind, guest?: string): number {
    return this.#all.filter((flow) => flow.kind === kind && (guest === undefined || flow.guest === guest))
      .length;
  }

  #check(): void {
    for (const guest of ADDRESSES) assert.equal(this.#flows.isGuest(guest), this.#tokens.has(guest));
    for (const kind of KINDS) assert.equal(this.#flows.all[kind], this.#count(kind));
    assert.equal(this.#flows.refused, this.#refused);
  }
}

/** Rules of one place, in the order and of the kinds that the numbers say. */
function permit(which: number, more: number): void {
  const place = which % PLACES.length;
  const [address, ...prefixes] = PLACES[place] ?? PLACES[0];
  const order = which & 8 ? [4, 3, 2, 1, 4] : [1, 2, 3, 4, 1];
  const chosen = order.filter((_, index) => (more >> index) & 1);
  const rules = chosen.map((at, index): ExitRule => ({
    prefix: prefixes[at - 1] ?? '',
    denied: ((which >> (3 + index)) & 1) === 1,
  }));
  const decides = (inside: boolean): boolean => {
    let longest = -1;
    let isDenied = false;
    chosen.forEach((at, index) => {
      const length = HOLDS[place]?.find(([holder, , of]) => holder === at && of === inside)?.[1] ?? -1;
      if (length < 0 || length < longest) return;
      longest = length;
      isDenied = rules[index]?.denied === true;
    });
    return !isDenied;
  };
  assert.equal(
    new Permitted(rules).permits(address),
    decides(false) && decides(true),
    `${address} ${JSON.stringify(rules)}`,
  );
}

const target: FuzzTarget = {
  timed: false, // it counts thousands of flows one by one
  seeds: () =>
    [
      '0 3 0 1 0 5 2 0 9 2 1 200 3 1 9 0 2 0',
      '0 7 0 1 0 255 4 200 0 1 0 9 1 1 0',
      '0 7 0 2 0 128 1 0 2 2 1 130 1 1 2 0 0 0',
      '5 0 31 5 9 15 5 18 21 5 27 31 5 211 31 5 4 30 5 252 29',
      '2 0 3 0 1 0 2 0 254 2 0 252 1 0 0 2 2 255',
    ].map((text) => Uint8Array.from(text.split(' ').map(Number))),
  run(input) {
    const world = new World();
    for (let at = 0; at + 2 < input.length && at < 3 * MOST_INSTRUCTIONS; at += 3)
      world.act(...([...input.subarray(at, at + 3)] as [number, number, number]));
  },
};
export default target;
