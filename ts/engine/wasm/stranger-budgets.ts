// What those who have no leg and no session may cost: control frames for the contact leg, STUN requests. The
// native engine has the same (native/engine/shared.h).

import { DEFAULT_STUN_PER_SECOND, type EngineOptions } from '../../contract/engine.js';
import { PrefixRateLimiter } from './prefix-rate-limiter.js';
import { TokenBucket } from './token-bucket.js';

/** A source's share of what strangers may cost is an eighth; less at once than a second's worth. */
const CONTROL_PREFIXES = { ipv4Bits: 32, ipv6Bits: 64, capacity: 4096 };
/** STUN is the one reply larger than its request: what one prefix may be sent, as in the native engine. */
const STUN_PREFIXES = { ipv4Bits: 24, ipv6Bits: 48, capacity: 4096 };

export class StrangerBudgets {
  readonly #control: TokenBucket;
  /** So that no one source takes all of it. */
  readonly #controlOfPrefix: PrefixRateLimiter;
  /** Undefined: STUN is switched off. */
  readonly #stun: PrefixRateLimiter | undefined;

  /** @param now ms of performance.now(), here and below */
  constructor(options: Pick<EngineOptions, 'controlFramesPerSecond' | 'stunPerSecond'>, now: number) {
    const stun = options.stunPerSecond ?? DEFAULT_STUN_PER_SECOND;
    if (stun > 0) this.#stun = new PrefixRateLimiter({ perSecond: stun, burst: stun, ...STUN_PREFIXES });
    const rate = options.controlFramesPerSecond;
    const part = (divisor: number): number => Math.max(1, Math.floor(rate / divisor));
    this.#control = new TokenBucket(rate, part(4), now);
    this.#controlOfPrefix = new PrefixRateLimiter({
      perSecond: part(8),
      burst: part(16),
      ...CONTROL_PREFIXES,
    });
  }

  /** Whether a control frame from this address (16 bytes, IPv4 mapped) may be taken; it is charged then. */
  takesControl(ip: Uint8Array, now: number): boolean {
    return this.#controlOfPrefix.allow(ip, now) && this.#control.take(now);
  }

  /** The same of a STUN request. */
  takesStun(ip: Uint8Array, now: number): boolean {
    return this.#stun?.allow(ip, now) === true;
  }
}
