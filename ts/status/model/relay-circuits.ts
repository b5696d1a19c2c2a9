// What a relay carries, circuit by circuit, and what becomes of it between two looks: rates, order,
// sums by identity or network.

import type { CircuitStatus } from '../../core/runtime/mesh-status.js';
import type { LegStatus } from '../../contract/engine.js';

/** One direction of a circuit, since its leg was installed. */
export interface Carried {
  readonly packets: number;
  readonly bytes: number;
  /** Frames dropped on its leg, whatever the reason. */
  readonly dropped: number;
}

/** One circuit through this relay. */
export interface CarriedCircuit {
  readonly id: string;
  readonly state: 'open' | 'half-open';
  readonly callerPeerId: string;
  readonly calleePeerId: string;
  /** Blinded id, lower-case hex. */
  readonly network: string;
  /** Its name, if this relay is a member. */
  readonly networkName: string | undefined;
  /** Between the caller and this relay, and between this relay and the callee. */
  readonly previousRelays: readonly string[];
  /** `standing`: set up under the callee's standing policy. */
  readonly consent: 'asked' | 'standing';
  readonly nextRelay: string | undefined;
  readonly ageSeconds: number;
  readonly expiresInSeconds: number;
  /** Since the last frame in either direction; undefined = never. */
  readonly idleSeconds: number | undefined;
  readonly fromCaller: Carried;
  readonly fromCallee: Carried;
}

export interface CarriedCircuits {
  /** The daemon's monotonic clock, for rates between two answers. */
  readonly atMs: number;
  readonly circuits: readonly CarriedCircuit[];
}

/** Per second. */
export interface Rate {
  readonly packets: number;
  readonly bytes: number;
  readonly dropped: number;
}

export interface RatedCircuit extends CarriedCircuit {
  /** Both directions together. */
  readonly rate: Rate;
}

const NOTHING: Carried = { packets: 0, bytes: 0, dropped: 0 };
const tenths = (ms: number): number => Math.round(ms / 100) / 10;

/** @param networks names by blinded id. */
export function carriedCircuits(
  circuits: readonly CircuitStatus[],
  legs: readonly LegStatus[],
  networks: ReadonlyMap<string, string>,
  atMs: number,
): CarriedCircuits {
  const legOf = new Map(legs.map((leg) => [leg.id, leg]));
  const carried = circuits.map((circuit): CarriedCircuit => {
    const [caller, callee] = circuit.legs.map((id) => legOf.get(id));
    const idle = [caller?.idleMs, callee?.idleMs].filter((ms) => ms !== undefined);
    const carried = (leg: LegStatus | undefined): Carried =>
      leg === undefined ? NOTHING : { packets: leg.packets, bytes: leg.bytes, dropped: leg.refused };
    return {
      id: circuit.id,
      state: circuit.legs.length === 0 ? 'half-open' : 'open',
      callerPeerId: circuit.callerPeerId,
      calleePeerId: circuit.calleePeerId,
      network: circuit.network,
      networkName: networks.get(circuit.network),
      previousRelays: circuit.previousRelays,
      consent: circuit.consent,
      nextRelay: circuit.nextRelay,
      ageSeconds: tenths(circuit.ageMs),
      expiresInSeconds: tenths(circuit.expiresInMs),
      idleSeconds: idle.length === 0 ? undefined : tenths(Math.min(...idle)),
      fromCaller: carried(caller),
      fromCallee: carried(callee),
    };
  });
  return { atMs, circuits: carried };
}

/** Both directions together. */
export function total({ fromCaller, fromCallee }: CarriedCircuit): Carried {
  return {
    packets: fromCaller.packets + fromCallee.packets,
    bytes: fromCaller.bytes + fromCallee.bytes,
    dropped: fromCaller.dropped + fromCallee.dropped,
  };
}

/** The later answer's circuits, with their rates since the earlier one; one that is new counts whole. */
export function withRates(before: CarriedCircuits, after: CarriedCircuits): RatedCircuit[] {
  const seconds = Math.max(after.atMs - before.atMs, 1) / 1000;
  const earlier = new Map(before.circuits.map((circuit) => [circuit.id, total(circuit)]));
  return after.circuits.map((circuit) => {
    const [now, then = NOTHING] = [total(circuit), earlier.get(circuit.id)];
    // A leg installed anew counts from zero.
    const rate = (part: keyof Carried): number => Math.max(0, now[part] - then[part]) / seconds;
    return { ...circuit, rate: { packets: rate('packets'), bytes: rate('bytes'), dropped: rate('dropped') } };
  });
}

/** What circuits are sorted by; the largest first, of `expiry` the soonest. */
export const SORT_KEYS = ['rate', 'packet-rate', 'bytes', 'packets', 'drops', 'age', 'expiry'] as const;
export type SortKey = (typeof SORT_KEYS)[number];

export function sorted(circuits: readonly RatedCircuit[], key: SortKey): RatedCircuit[] {
  const valueOf = (circuit: RatedCircuit): number => {
    switch (key) {
      case 'rate':
        return circuit.rate.bytes;
      case 'packet-rate':
        return circuit.rate.packets;
      case 'bytes':
        return total(circuit).bytes;
      case 'packets':
        return total(circuit).packets;
      case 'drops':
        return total(circuit).dropped;
      case 'age':
        return circuit.ageSeconds;
      case 'expiry':
        return -circuit.expiresInSeconds;
    }
  };
  return circuits.toSorted((a, b) => valueOf(b) - valueOf(a) || (a.id < b.id ? -1 : 1));
}

/** Those that have an end whose peer id begins so, and are of this network (its name, or its id's beginning). */
export function filtered<Circuit extends CarriedCircuit>(
  circuits: readonly Circuit[],
  { peer, network }: { readonly peer?: string | undefined; readonly network?: string | undefined },
): Circuit[] {
  const begins = (peerId: string): boolean =>
    peer === undefined || peerId.startsWith(peer) || peerId.startsWith(`omerta1${peer}`);
  return circuits.filter(
    (circuit) =>
      (begins(circuit.callerPeerId) || begins(circuit.calleePeerId)) &&
      (network === undefined || circuit.networkName === network || circuit.network.startsWith(network)),
  );
}

export const GROUPS = ['circuit', 'identity', 'network'] as const;
export type Group = (typeof GROUPS)[number];

/** Several circuits as one row. */
export interface RelayTotal extends Carried {
  /** A circuit's or a blinded network's id, or a peer id. */
  readonly key: string;
  readonly name: string | undefined;
  readonly circuits: number;
  readonly rate: Rate;
}

/** Sums, the largest rate first. By identity a circuit counts for both of its ends. */
export function totals(circuits: readonly RatedCircuit[], group: Group): RelayTotal[] {
  const rows = new Map<string, RelayTotal>();
  const keysOf = ({ id, callerPeerId, calleePeerId, network }: RatedCircuit): readonly string[] => {
    if (group === 'circuit') return [id];
    return group === 'identity' ? [callerPeerId, calleePeerId] : [network];
  };
  for (const circuit of circuits)
    for (const key of new Set(keysOf(circuit))) {
      const row = rows.get(key);
      const { packets, bytes, dropped } = total(circuit);
      rows.set(key, {
        key,
        name: group === 'network' ? circuit.networkName : undefined,
        circuits: (row?.circuits ?? 0) + 1,
        packets: (row?.packets ?? 0) + packets,
        bytes: (row?.bytes ?? 0) + bytes,
        dropped: (row?.dropped ?? 0) + dropped,
        rate: {
          packets: (row?.rate.packets ?? 0) + circuit.rate.packets,
          bytes: (row?.rate.bytes ?? 0) + circuit.rate.bytes,
          dropped: (row?.rate.dropped ?? 0) + circuit.rate.dropped,
        },
      });
    }
  return [...rows.values()].sort((a, b) => b.rate.bytes - a.rate.bytes || (a.key < b.key ? -1 : 1));
}
