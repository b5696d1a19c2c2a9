// What guests of an exit have open in the gateway, within bounds of each and of all (EXIT limits): at one of them the
// others are unharmed.

import { TokenBucket } from '../engine/wasm/token-bucket.js';
import { JOINED_DESCRIPTORS } from './relayed-stream.js';

export const GUEST_BOUNDS = { tcp: 1024, connecting: 128, udp: 512 } as const;
export const ALL_BOUNDS = { tcp: 16_384, connecting: 4096, udp: 16_384 } as const;
/** New flows of one guest. */
const NEW_PER_SECOND = 200;
/** What one guest is told of that went no further (RFC 4443 2.4 f). */
const TOLD_PER_SECOND = 200;

type Kind = keyof typeof GUEST_BOUNDS;

interface Guest {
  readonly open: Record<Kind, number>;
  readonly fresh: TokenBucket;
  readonly told: TokenBucket;
  /** What ends each of its flows. */
  readonly ends: Set<() => void>;
}

const none = (): Record<Kind, number> => ({ tcp: 0, connecting: 0, udp: 0 });

export class GatewayFlows {
  readonly #guests = new Map<string, Guest>();
  readonly all = none();
  refused = 0;
  /** Sockets that answers to datagrams are sent by. */
  answerers = 0;

  /**
   * @param now monotonic ms
   * @param descriptors all that guests may have open together
   */
  constructor(
    private readonly now: () => number,
    private readonly descriptors = Infinity,
  ) {}

  /** Whether there is room for one more connection. */
  get hasDescriptors(): boolean {
    const open = JOINED_DESCRIPTORS * this.all.tcp + this.all.udp + this.answerers;
    return open + JOINED_DESCRIPTORS <= this.descriptors;
  }

  /** Whoever is no guest any more has nothing open. */
  setGuests(addresses: readonly string[]): void {
    for (const address of addresses)
      if (!this.#guests.has(address))
        this.#guests.set(address, {
          open: none(),
          fresh: new TokenBucket(NEW_PER_SECOND, NEW_PER_SECOND, this.now()),
          told: new TokenBucket(TOLD_PER_SECOND, TOLD_PER_SECOND, this.now()),
          ends: new Set(),
        });
    for (const [address, { ends }] of this.#guests) {
      if (addresses.includes(address)) continue;
      this.#guests.delete(address);
      for (const end of [...ends]) end();
    }
  }

  /** Whether a guest may begin another flow; it counts as refused where not. */
  mayBegin(address: string, kind: 'tcp' | 'udp'): boolean {
    const guest = this.#guests.get(address);
    const kinds: readonly Kind[] = kind === 'tcp' ? ['tcp', 'connecting'] : ['udp'];
    const isFree =
      guest !== undefined &&
      this.hasDescriptors &&
      kinds.every((each) => guest.open[each] < GUEST_BOUNDS[each] && this.all[each] < ALL_BOUNDS[each]) &&
      guest.fresh.take(this.now());
    if (!isFree) this.refused++;
    return isFree;
  }

  isGuest(address: string): boolean {
    return this.#guests.has(address);
  }

  /** Whether a guest is told that something went no further. */
  mayTell(address: string): boolean {
    return this.#guests.get(address)?.told.take(this.now()) === true;
  }

  /** One is open. @param end is called when its guest is none any more. @returns what says that it has ended */
  enter(address: string, kind: Kind, end?: () => void): () => void {
    const guest = this.#guests.get(address);
    if (guest === undefined) {
      end?.();
      return () => undefined;
    }
    guest.open[kind]++;
    this.all[kind]++;
    if (end !== undefined) guest.ends.add(end);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      guest.open[kind]--;
      this.all[kind]--;
      if (end !== undefined) guest.ends.delete(end);
    };
  }
}
