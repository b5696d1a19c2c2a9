// Which of this host's addresses each remote last sent to, as in native/udp/return_addresses.h: a NAT or
// firewall lets in only what comes from the address its client talked to.

import type { SocketAddress } from '../../wire/socket-address.js';
import type { LocalAddress } from './local-address.js';

export class ReturnAddresses {
  readonly #capacity: number;
  readonly #locals = new Map<string, LocalAddress>();
  readonly #avoided = new Set<LocalAddress>();

  /** @param capacity remotes remembered; one more forgets the one that has gone longest without a change */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** @param local undefined: routing is to choose */
  learn(remote: SocketAddress, local: LocalAddress | undefined): void {
    const key = keyOf(remote);
    if (this.#locals.get(key) === local) return;
    this.#locals.delete(key);
    if (local === undefined) return;
    if (this.#locals.size >= this.#capacity) {
      for (const oldest of this.#locals.keys()) {
        this.#locals.delete(oldest);
        break;
      }
    }
    this.#locals.set(key, local);
  }

  /** What to send from; undefined: routing chooses. */
  find(remote: SocketAddress): LocalAddress | undefined {
    const local = this.#locals.get(keyOf(remote));
    return local !== undefined && this.#avoided.has(local) ? undefined : local;
  }

  /** The host has this address no more. */
  forget(local: LocalAddress): void {
    for (const [key, known] of this.#locals) if (known === local) this.#locals.delete(key);
  }

  /**
   * Whether nothing is to be sent from this address of ours until further notice, though remotes talk to it: what it is
   * sent by now is not what it was (route-watch.ts). Routing chooses then.
   */
  avoid(local: LocalAddress, isAvoided: boolean): void {
    if (isAvoided) this.#avoided.add(local);
    else this.#avoided.delete(local);
  }

  avoids(local: LocalAddress): boolean {
    return this.#avoided.has(local);
  }
}

/** Word by word, because spreading the bytes takes four times as long; it is made for every frame. */
function keyOf({ ip, port }: SocketAddress): string {
  const view = new DataView(ip.buffer, ip.byteOffset, 16);
  return String.fromCharCode(
    view.getUint16(0),
    view.getUint16(2),
    view.getUint16(4),
    view.getUint16(6),
    view.getUint16(8),
    view.getUint16(10),
    view.getUint16(12),
    view.getUint16(14),
    port,
  );
}
