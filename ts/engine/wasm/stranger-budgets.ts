// What those who have no leg and no session may cost: control frames for the contact leg, STUN requests. An address
// that has proven itself has a budget of its own before that, so that no flood of strangers keeps members and clients
// out that come again. The native engine has the same (native/engine/stranger_budgets.h).

import { DEFAULT_STUN_PER_SECOND, type EngineOptions } from '../../contract/engine.js';
import type { Step } from '../../contract/step.js';
import { SIPHASH_KEY_SIZE } from '../../wire/siphash.js';
import { KnownAddresses } from './known-addresses.js';
import { PrefixBuckets, type PrefixRate } from './prefix-buckets.js';
import { TokenBucket } from './token-bucket.js';

const ADDRESS = { ipv4Bits: 32, ipv6Bits: 64 };
const SITE = { ipv4Bits: 24, ipv6Bits: 48 };
/** Of each known address, as the kernel path lets through. */
const OF_KNOWN: PrefixRate = { perSecond: 50, burst: 200, ...ADDRESS };
/** Of all of them together, for one who has a session may be seen at many addresses; a quarter of it of one site. */
const ALL_KNOWN_PER_SECOND = 2000;
const OF_KNOWN_SITE: PrefixRate = {
  perSecond: ALL_KNOWN_PER_SECOND / 4,
  burst: ALL_KNOWN_PER_SECOND / 4,
  ...SITE,
};

export class StrangerBudgets {
  readonly #control: TokenBucket;
  /** An eighth of it, so that no one source takes all. */
  readonly #controlOfAddress: PrefixBuckets;
  /** A quarter of it: one site has many addresses. */
  readonly #controlOfSite: PrefixBuckets;
  readonly #controlOfKnown: PrefixBuckets;
  readonly #controlOfKnownSite: PrefixBuckets;
  readonly #controlOfAllKnown: TokenBucket;
  readonly #known = new KnownAddresses();
  /** Undefined: STUN is switched off. It is the one reply larger than its request: what one site may be sent. */
  readonly #stun: PrefixBuckets | undefined;

  /** @param step its time is ms of performance.now(), as below */
  constructor(
    options: Pick<EngineOptions, 'controlFramesPerSecond' | 'stunPerSecond'>,
    { now, random }: Pick<Step, 'now' | 'random'>,
  ) {
    const buckets = (rate: PrefixRate): PrefixBuckets => new PrefixBuckets(rate, random(SIPHASH_KEY_SIZE));
    const stun = options.stunPerSecond ?? DEFAULT_STUN_PER_SECOND;
    if (stun > 0) this.#stun = buckets({ perSecond: stun, burst: stun, ...SITE });
    const rate = options.controlFramesPerSecond;
    const part = (divisor: number): number => Math.max(1, Math.floor(rate / divisor));
    this.#control = new TokenBucket(rate, part(4), now);
    this.#controlOfAllKnown = new TokenBucket(ALL_KNOWN_PER_SECOND, ALL_KNOWN_PER_SECOND, now);
    this.#controlOfKnown = buckets(OF_KNOWN);
    this.#controlOfKnownSite = buckets(OF_KNOWN_SITE);
    this.#controlOfAddress = buckets({ perSecond: part(8), burst: part(16), ...ADDRESS });
    this.#controlOfSite = buckets({ perSecond: part(4), burst: part(8), ...SITE });
  }

  /** The address (16 bytes, IPv4 mapped) has proven itself: by a session, or as the source of a leg. */
  know(ip: Uint8Array, now: number): void {
    this.#known.add(ip, now);
  }

  /** Whether a control frame from this address may be taken; it is charged then. */
  takesControl(ip: Uint8Array, now: number): boolean {
    const isKnown =
      this.#known.has(ip, now) &&
      this.#controlOfKnown.take(ip, now) &&
      this.#controlOfKnownSite.take(ip, now) &&
      this.#controlOfAllKnown.take(now);
    if (isKnown) return true;
    return (
      this.#controlOfAddress.take(ip, now) && this.#controlOfSite.take(ip, now) && this.#control.take(now)
    );
  }

  /** The same of a STUN request. */
  takesStun(ip: Uint8Array, now: number): boolean {
    return this.#stun?.take(ip, now) === true;
  }
}
