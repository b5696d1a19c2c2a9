// The policy on single ways: which of them may carry data to a member, and which of those come first.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { PathEnds, ProbeRule } from '../../contract/path-control.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import { containsIp } from '../../wire/prefix.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { MemberTable } from '../members/member-table.js';
import type { Ruling } from '../runtime/way-status.js';
import type { OwnAddresses } from './contact-addresses.js';
import { interfaceOf, routedInterface, type LocalInterface } from './local-interface.js';
import {
  admitAllDirect,
  admitDirect,
  admitRelayed,
  type PathPolicy,
  type PathRules,
  type WayPattern,
} from './path-policy.js';
import { DEFAULT_PORT_SEARCH, type PortSearchLimits } from './port-search-limits.js';

/** The relay a leg leads over. */
export interface LegRelay {
  readonly identity: Uint8Array;
  readonly address: SocketAddress;
  /** It will go. */
  readonly isDraining: boolean;
}

/** What the node lends to the policy. */
export interface RulesHost {
  readonly members: Pick<MemberTable, 'bySessionKey'>;
  interfaces(): readonly LocalInterface[];
  /** Of one of our circuits with the member; undefined = it is gone. */
  relayOf(member: SessionKey, leg: number): LegRelay | undefined;
}

export class RuledWays {
  readonly #host: RulesHost;

  constructor(
    public policy: PathPolicy,
    host: RulesHost,
  ) {
    this.#host = host;
  }

  get search(): PortSearchLimits {
    return this.policy.search ?? DEFAULT_PORT_SEARCH;
  }

  rules(member: SessionKey): PathRules {
    const { rules, members } = this.policy;
    if (members.size === 0) return rules;
    const identity = this.#host.members.bySessionKey(member)?.identity;
    return (identity && members.get(toHex(identity))) ?? rules;
  }

  admitDirect(member: SessionKey): boolean {
    return admitDirect(this.rules(member));
  }

  admitRelayed(member: SessionKey): boolean {
    return admitRelayed(this.rules(member));
  }

  /** Whether the member may be heard and answered anywhere. */
  admitAllDirect(member: SessionKey): boolean {
    return admitAllDirect(this.rules(member));
  }

  /** Whether a circuit with the member may lead over this relay: one that carries no data serves to find a direct path. */
  admitCircuit(member: SessionKey, relay: Uint8Array): boolean {
    const { pin, forbid } = this.rules(member);
    const isIt = (pattern: WayPattern): boolean => 'relay' in pattern && pattern.relay === toHex(relay);
    const pinned = pin.filter((pattern) => 'relay' in pattern);
    return !forbid.some(isIt) && (pinned.length === 0 || pinned.some(isIt));
  }

  /** Place of a relay among those preferred for the member, lower first. */
  relayPreference(member: SessionKey, relay: Uint8Array): number {
    const relays = this.rules(member).prefer.filter((pattern) => 'relay' in pattern);
    const place = relays.findIndex((pattern) => pattern.relay === toHex(relay));
    return place < 0 ? relays.length : place;
  }

  /** Why no data may go to the member by this way; undefined = it may. */
  ruling(member: SessionKey, ends: PathEnds): Ruling | undefined {
    const { use, pin, forbid } = this.rules(member);
    const isRelayed = 'leg' in ends.remote;
    if (use === (isRelayed ? 'direct-only' : 'relay-only')) return use;
    if (forbid.some((pattern) => this.#matches(pattern, member, ends))) return 'forbidden';
    if (pin.length > 0 && !pin.some((pattern) => this.#matches(pattern, member, ends))) return 'not-pinned';
    return undefined;
  }

  /**
   * Which of the member's probes are answered, the first that is of one counts: a way that may carry nothing is not
   * proven for the other side either.
   */
  probeRules(member: SessionKey): ProbeRule[] {
    const { use, pin, forbid } = this.rules(member);
    const rest: ProbeRule = { local: undefined, from: undefined, answered: false };
    if (use === 'relay-only') return [rest];
    const forbidden = forbid.flatMap((pattern) => this.#probesBy(pattern, false));
    if (pin.length === 0) return forbidden;
    return [...forbidden, ...pin.flatMap((pattern) => this.#probesBy(pattern, true)), rest];
  }

  /** What counts before all that was measured, lower first: place among the preferred, then rank of the interface. */
  cost(member: SessionKey, ends: PathEnds): readonly [preference: number, rank: number] {
    const { prefer } = this.rules(member);
    const place = prefer.findIndex((pattern) => this.#matches(pattern, member, ends));
    return [place < 0 ? prefer.length : place, this.interface(member, ends)?.rank ?? 0];
  }

  /** Whether messages of the control plane have an order of interfaces of their own. */
  get ordersControl(): boolean {
    return this.#host.interfaces().some(({ controlRank }) => controlRank !== undefined);
  }

  /** As `cost`, for messages of the control plane: the order of interfaces alone. */
  controlCost(member: SessionKey, ends: PathEnds): readonly [preference: number, rank: number] {
    const { rank = 0, controlRank = rank } = this.interface(member, ends) ?? {};
    return [0, controlRank];
  }

  /** Whether a way leads over a relay that will go. */
  isDraining(member: SessionKey, { remote }: PathEnds): boolean {
    return 'leg' in remote && this.#host.relayOf(member, remote.leg)?.isDraining === true;
  }

  /** What a datagram by this way leaves by, as far as is known. */
  interface(member: SessionKey, { remote, local }: PathEnds): LocalInterface | undefined {
    const interfaces = this.#host.interfaces();
    if (local !== undefined) return interfaceOf(local, interfaces);
    const to = 'leg' in remote ? this.#host.relayOf(member, remote.leg)?.address : remote.address;
    return to && routedInterface(to, interfaces);
  }

  /** Of our addresses those that the member may be told: of no interface by which nothing may go to it. */
  told<Own extends Omit<OwnAddresses, 'predicted'>>(member: SessionKey, own: Own): Own {
    const { pin, forbid } = this.rules(member);
    const covers = (pattern: WayPattern, { name }: LocalInterface): boolean =>
      !('relay' in pattern) && (pattern.interface === undefined || pattern.interface === name);
    const isOut = (each: LocalInterface): boolean =>
      forbid.some(
        (pattern) => covers(pattern, each) && 'remote' in pattern && pattern.remote === undefined,
      ) ||
      (pin.length > 0 && !pin.some((pattern) => covers(pattern, each)));
    const out = own.interfaces.filter(isOut);
    const at = ({ ip }: SocketAddress): LocalInterface | undefined =>
      own.interfaces.find(({ source }) => sameBytes(source.ip, ip));
    const isIn = (place: LocalInterface | undefined): boolean => place === undefined || !out.includes(place);
    // Relays and gateways are reached by the interface that routing chooses, and see what a NAT in front of it makes of it.
    const isSeenIn = (address: SocketAddress): boolean =>
      isIn(at(address) ?? routedInterface(address, own.interfaces));
    return {
      ...own,
      interfaces: own.interfaces.filter(isIn),
      announced: own.announced.filter((address) => isIn(at(address))),
      mapped: own.mapped.filter(isSeenIn),
      observed: own.observed.filter(isSeenIn),
    };
  }

  #probesBy(pattern: WayPattern, answered: boolean): ProbeRule[] {
    if ('relay' in pattern) return [];
    const { interface: name, remote: from } = pattern;
    if (name === undefined) return [{ local: undefined, from, answered }];
    return this.#host
      .interfaces()
      .filter((each) => each.name === name)
      .map(({ source }) => ({ local: source.ip, from, answered }));
  }

  #matches(pattern: WayPattern, member: SessionKey, ends: PathEnds): boolean {
    const { remote } = ends;
    if ('relay' in pattern) {
      const relay = 'leg' in remote ? this.#host.relayOf(member, remote.leg) : undefined;
      return relay !== undefined && toHex(relay.identity) === pattern.relay;
    }
    if ('leg' in remote) return false;
    if (pattern.remote !== undefined && !containsIp(pattern.remote, remote.address.ip)) return false;
    return pattern.interface === undefined || this.interface(member, ends)?.name === pattern.interface;
  }
}

/** A way that has no path yet. */
export const endsAt = (remote: PeerEndpoint): PathEnds => ({ remote, local: undefined });
