// Which ports a NAT will give next, from those it gave: one that gives another to each destination
// (RFC 4787, address-dependent mapping) often gives the next in line.

import { sameBytes } from '../../wire/bytes.js';
import { formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';

/** So many are told in a contact. */
export const PREDICTED_PORTS = 16;
/** Ports that lie further apart were not given one after the other. */
const LONGEST_STEP = 8;
const LAST_PORT = 65_535;

/**
 * The addresses the next new destinations will see, in the order they are sent to; none when the NAT gives
 * all destinations one port, or ports at random, or fewer than two destinations have told.
 * @param observed where destinations saw this node, each another one
 * @param since new destinations it has sent to since then
 */
export function predictedAddresses(observed: readonly SocketAddress[], since: number): SocketAddress[] {
  const [first] = observed;
  const step = portStep(observed);
  if (first === undefined || step === undefined) return [];
  const last = Math.max(...observed.map(({ port }) => port));
  return Array.from({ length: PREDICTED_PORTS }, (_, index) => last + step * (since + index + 1))
    .filter((port) => port <= LAST_PORT)
    .map((port) => ({ ip: first.ip, port }));
}

/**
 * How far apart the ports lie that a NAT gives one after the other.
 * @returns undefined when it gives one port to all, or ports at random, or fewer than two destinations have told
 */
export function portStep(observed: readonly SocketAddress[]): number | undefined {
  const [first] = observed;
  if (first === undefined || observed.some(({ ip }) => !sameBytes(ip, first.ip))) return undefined;
  const ports = [...new Set(observed.map(({ port }) => port))].toSorted((a, b) => a - b);
  const steps = ports.slice(1).map((port, index) => port - (ports[index] ?? port));
  return steps.length === 0 || Math.max(...steps) > LONGEST_STEP ? undefined : Math.min(...steps);
}

/** What this node's NAT is expected to give it next: counts the destinations that may have had a port since. */
export class PortPrediction {
  #since = 0;
  #observed = '';

  /** Something was sent where nothing had been sent before. */
  newDestination(): void {
    this.#since++;
  }

  /** @param observed where relays see this node: that they see it elsewhere begins the count anew */
  addresses(observed: readonly SocketAddress[]): SocketAddress[] {
    const text = observed.map(formatSocketAddress).join(' ');
    if (text !== this.#observed) this.#since = 0;
    this.#observed = text;
    return predictedAddresses(observed, this.#since);
  }
}
