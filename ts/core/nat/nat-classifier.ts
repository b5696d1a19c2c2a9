// What kind of NAT or firewall is in front of each of a node's addresses, for either family apart. It sends
// nothing: what relays and members see, and what comes in, is put together here.
//
//   relays: registered, observed ─┐                         ┌─► reports: for people, and for the record
//   members: probe answers ───────┼─► one place for each ───┼─► filtering: what is worth trying
//   members: probes, paths ───────┘   address and family    └─► a change: what was known is void
//
// A change is one that a relay reports: members are witnesses too, but who lies begins nothing anew.

import { sameBytes } from '../../wire/bytes.js';
import type { LocalSource } from '../../contract/path-control.js';
import { formatIp, formatSocketAddress, isIPv4, sameSocketAddress } from '../../wire/socket-address.js';
import type { LocalInterface } from '../path/local-interface.js';
import type { Family, NatWitness } from '../path/nat-witness.js';
import { NatBehaviour } from '../protocol/peer-record.js';
import {
  found,
  type Dependence,
  type Finding,
  type NatStatus,
  type Translation,
} from '../runtime/nat-status.js';
import { FilteringBehaviour } from './filtering-behaviour.js';
import { dependsOnAddress, mappingOf, observersAt, ofOneOutside } from './mapping-behaviour.js';
import { MappingLifetime } from './mapping-lifetime.js';
import { Observations, type Observation } from './observation.js';
import { portAllocationOf, preservesPort } from './port-allocation.js';
import { translationOf } from './translation.js';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** Addresses that everybody who saw this node agrees on are told again no sooner. */
const ANEW_AT_MOST_EVERY_MS = 10_000;
/** A member that has said nothing for so long may see something else by now. */
const MEMBER_REMEMBERED_MS = 180_000;
/** Shown of those. */
const MOST_SEEN = 4;

/** What is known of one local address that no observation tells. */
class Place {
  readonly filtering = new FilteringBehaviour();
  readonly lifetime = new MappingLifetime();
  hairpins: boolean | undefined;
}

export class NatClassifier implements NatWitness {
  readonly #relays = new Observations();
  readonly #members = new Observations();
  /** By local IP (hex text of it), or family where it is not known. */
  #places = new Map<string, Place>();
  #interfaces: readonly LocalInterface[];
  /** Since when what is seen is of the present NAT. */
  #since = -Infinity;

  constructor(interfaces: readonly LocalInterface[]) {
    this.#interfaces = interfaces;
  }

  /** A relay says where it sees this node. @returns whether all is begun anew: others are worth asking again. */
  relayObserved(observation: Observation): boolean {
    const before = this.#relays.add(observation);
    const { seen, at } = observation;
    if (before === undefined || sameSocketAddress(before, seen) || at < this.#since + ANEW_AT_MOST_EVERY_MS)
      return false;
    this.#anew(at);
    return true;
  }

  memberObserved(observation: Observation): void {
    this.#members.add(observation);
  }

  /** A relay is asked no more, or a member is gone. */
  forget(observer: string): void {
    this.#relays.forget(observer);
    this.#members.forget(observer);
  }

  /** Another network: nothing of what was known holds. */
  interfacesChanged(interfaces: readonly LocalInterface[], now: number): void {
    this.#interfaces = interfaces;
    this.#relays.clear();
    this.#members.clear();
    this.#anew(now);
  }

  filtering(local: LocalSource | undefined, family: Family): FilteringBehaviour {
    return this.#place(local?.ip, family).filtering;
  }

  silence(local: LocalSource | undefined, family: Family, ms: number, outcome: 'kept' | 'forgotten'): void {
    const { lifetime } = this.#place(local?.ip, family);
    if (outcome === 'kept') lifetime.held(ms);
    else lifetime.gone(ms);
  }

  dependsOnDestination(family: Family, now: number): boolean | undefined {
    const known = this.reports(now).filter((report) => report.family === family && report.observers > 0);
    const depends = known.map(({ mapping }) => dependsOnAddress(mapping));
    return depends.includes(true) ? true : depends.find((each) => each !== undefined);
  }

  mayGiveRandomPorts(family: Family, now: number): boolean {
    return this.reports(now).some(
      ({ family: of, ports, preservesPort: preserves }) =>
        of === family &&
        (found(ports) === 'random' ||
          ('unknown' in ports && ports.unknown === 'one-observer' && found(preserves) === false)),
    );
  }

  admitsOtherPorts(family: Family): boolean {
    const admits = this.#filteringOf(family).map(({ finding }) => found(finding));
    return (
      admits.length > 0 &&
      admits.every((each) => each === 'endpoint-independent' || each === 'address-dependent')
    );
  }

  hairpinned(local: LocalSource | undefined, family: Family, worked: boolean): void {
    this.#place(local?.ip, family).hairpins = worked;
  }

  /** One for each address, and for a family without one, when there is something to say. */
  reports(now: number): NatStatus[] {
    const families = FAMILIES.flatMap((family) => {
      const own = this.#ofFamily(family);
      const places: readonly (LocalInterface | undefined)[] = own.length > 0 ? own : [undefined];
      return places.map((place) => this.#report(family, place, now));
    });
    return families.filter(({ local, observers }) => local !== undefined || observers > 0);
  }

  /** What the record says: of IPv4, where there are observations, as that is where most NATs are. */
  behaviour(now: number): NatBehaviour {
    for (const family of FAMILIES) {
      const reports = this.reports(now).filter((report) => report.family === family && report.observers > 0);
      for (const { translation, mapping } of reports) {
        if (found(translation) === 'none') return NatBehaviour.none;
        const behaviour = behaviourOf(mapping);
        if (behaviour !== NatBehaviour.unknown) return behaviour;
      }
    }
    return NatBehaviour.unknown;
  }

  #report(family: Family, place: LocalInterface | undefined, now: number): NatStatus {
    const observations = this.#observations(family, place, now);
    const { filtering, lifetime, hairpins } = this.#place(place?.source.ip, family);
    const translation = this.#translation(family, place, observations);
    const outside = ofOneOutside(this.#translated(family, observations, translation));
    const mapping = mappingBehind(outside, translation);
    const port = place?.port ?? this.#interfaces[0]?.port ?? 0;
    const seen = new Set(observations.map((each) => formatSocketAddress(each.seen)));
    return {
      family,
      interface: place?.name,
      local: place && formatSocketAddress({ ip: place.source.ip, port: place.port }),
      seen: [...seen].slice(0, MOST_SEEN),
      observers: observersAt(observations),
      translation,
      mapping,
      preservesPort: preservesPort(outside, port),
      ports: portAllocationOf(outside, port, mapping),
      filtering: filtering.finding,
      hairpinning: hairpins === undefined ? { unknown: 'nobody-inside' } : { value: hairpins },
      lifetime: lifetime.bounds,
    };
  }

  /** What was seen of this address, and of whichever routing chose where there is one it can be. */
  #observations(family: Family, place: LocalInterface | undefined, now: number): Observation[] {
    const recently = Math.max(this.#since, now - MEMBER_REMEMBERED_MS);
    const own = place?.source.ip;
    const routed = [
      ...this.#relays.of(family, undefined, this.#since),
      ...this.#members.of(family, undefined, recently),
    ].filter(({ seen }) => {
      const is = this.#ofFamily(family).find(({ source }) => sameBytes(source.ip, seen.ip));
      // It says itself which address it was.
      if (is !== undefined) return is === place;
      return own === undefined || this.#ofFamily(family).length === 1;
    });
    if (own === undefined) return routed;
    return [...routed, ...this.#members.of(family, own, recently)];
  }

  #translation(
    family: Family,
    place: LocalInterface | undefined,
    observations: readonly Observation[],
  ): Finding<Translation> {
    const [newest] = ofOneOutside(observations);
    if (newest === undefined) {
      const others = this.#relays.of(family, undefined, this.#since).length;
      return { unknown: others > 0 ? 'which-address' : 'not-observed' };
    }
    const local = place && { ip: place.source.ip, port: place.port };
    if (local === undefined) return { unknown: 'which-address' };
    const own = this.#ofFamily(family).map(({ source }) => source.ip);
    return { value: translationOf(local, own, newest.seen) };
  }

  /** Without what members see that are met inside. */
  #translated(
    family: Family,
    observations: readonly Observation[],
    translation: Finding<Translation>,
  ): readonly Observation[] {
    if (found(translation) === 'none') return observations;
    const own = this.#ofFamily(family).map(({ source }) => source.ip);
    return observations.filter(({ seen }) => !own.some((ip) => sameBytes(ip, seen.ip)));
  }

  #ofFamily(family: Family): LocalInterface[] {
    return this.#interfaces.filter(({ source }) => isIPv4(source.ip) === (family === 'ipv4'));
  }

  #filteringOf(family: Family): FilteringBehaviour[] {
    return this.#ofFamily(family).map(({ source }) => this.#place(source.ip, family).filtering);
  }

  /** Where routing chooses and there is one address, it is that. */
  #place(ip: Uint8Array | undefined, family: Family): Place {
    const own = this.#ofFamily(family);
    const of = ip ?? (own.length === 1 ? own[0]?.source.ip : undefined);
    const known = of !== undefined && own.some(({ source }) => sameBytes(source.ip, of));
    const key = known ? formatIp(of) : family;
    let place = this.#places.get(key);
    if (place === undefined) {
      place = new Place();
      this.#places.set(key, place);
    }
    return place;
  }

  #anew(now: number): void {
    this.#since = now;
    this.#places = new Map();
  }
}

function mappingBehind(
  outside: readonly Observation[],
  translation: Finding<Translation>,
): Finding<Dependence> {
  if (found(translation) === 'none') return { value: 'endpoint-independent' };
  return outside.length === 0 && 'unknown' in translation ? translation : mappingOf(outside);
}

function behaviourOf(mapping: Finding<Dependence>): NatBehaviour {
  switch (found(mapping)) {
    case 'endpoint-independent':
      return NatBehaviour.endpointIndependent;
    case 'address-dependent':
      return NatBehaviour.addressDependent;
    case 'address-and-port-dependent':
      return NatBehaviour.addressAndPortDependent;
    case undefined:
      // On the port too, for all who have to get through: what is not known is not counted on.
      return dependsOnAddress(mapping) === true ? NatBehaviour.addressAndPortDependent : NatBehaviour.unknown;
  }
}
