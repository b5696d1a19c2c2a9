// What the session engine is told of each peer. A peer may be several things at once: a bootstrap we
// use, a client we serve, a member of our networks; one session key has one entry.
//
// Sessions between a bootstrap and its client have no preshared key (they meet before either knows
// what networks the other is in); a member among them gets its routes after a membership proof.

import type { PeerEndpoint, SessionKey } from '../../contract/engine.js';
import type { Transit } from '../../contract/exit-control.js';
import type { PeerShaping } from '../../contract/shaping-control.js';
import { toHex } from '../../wire/bytes.js';
import type { Turn } from './turn.js';

export type SessionRole = 'bootstrap' | 'client';

export interface MemberSession {
  readonly presharedKey: Uint8Array;
  /** CIDR prefixes, by the network (blinded id, hex) that gives the right to them. */
  readonly routes: ReadonlyMap<string, readonly string[]>;
  /** Undefined: its packets go as they are. */
  readonly shaping?: PeerShaping | undefined;
}

/** What a peer may send to besides this node: what an exit forwards, a LAN behind it. */
export type TransitRight = 'exit' | 'lan';

/** What is sent to an exit, or a LAN behind a peer, and taken from it: prefixes, by the network (blinded id, hex) that gives the right to them. */
export interface ExitRoutes {
  readonly network: string;
  readonly prefixes: readonly string[];
}

interface Entry {
  readonly roles: Set<SessionRole>;
  member: MemberSession | undefined;
  /** Networks (hex) whose key the peer of a bootstrap-client session has shown to know. */
  readonly proven: Set<string>;
  readonly rights: Set<TransitRight>;
  /** Where packets go that are for no member. */
  readonly beyond: Map<TransitRight, ExitRoutes>;
  /** Whether no data may go to it as a member at present. */
  barred: boolean;
  /** What the engine was last told, endpoint aside. */
  told: string | undefined;
  /** Likewise of its shaping. */
  toldShaping: PeerShaping | undefined;
}

function transitOf(rights: ReadonlySet<TransitRight>): Transit {
  if (rights.size === 2) return 'exit-and-lan';
  return [...rights][0] ?? 'none';
}

const unshaped = (peer: SessionKey): PeerShaping => ({ peer, paddedSizes: [], paddingBudget: undefined });

export class PeerTable {
  readonly #entries = new Map<SessionKey, Entry>();

  /** Whether the session with this peer is one of bootstrap and client. */
  hasRole(key: SessionKey): boolean {
    return (this.#entries.get(key)?.roles.size ?? 0) > 0;
  }

  isProven(key: SessionKey, network: string): boolean {
    return this.#entries.get(key)?.proven.has(network) === true;
  }

  /** Whether the session with this peer is one of a member of the network: by its preshared key, or a proof. */
  isMember(key: SessionKey, network: string): boolean {
    const entry = this.#entries.get(key);
    if (entry?.member?.routes.has(network) !== true) return false;
    return entry.roles.size === 0 || entry.proven.has(network);
  }

  /** What packets of the peer may be for besides this node; nothing for who is no peer. */
  setTransit(key: SessionKey, right: TransitRight, isHeld: boolean, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    if (isHeld) entry.rights.add(right);
    else entry.rights.delete(right);
    this.#tell(key, entry, undefined, turn);
  }

  /** Sends what these hold to the peer, an exit, or where a LAN is behind; undefined: no more. */
  setExitRoutes(key: SessionKey, kind: TransitRight, routes: ExitRoutes | undefined, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    if (routes === undefined) entry.beyond.delete(kind);
    else entry.beyond.set(kind, routes);
    this.#tell(key, entry, undefined, turn);
  }

  addRole(key: SessionKey, role: SessionRole, endpoint: PeerEndpoint | undefined, turn: Turn): void {
    const entry = this.#entry(key);
    entry.roles.add(role);
    this.#tell(key, entry, endpoint, turn);
  }

  removeRole(key: SessionKey, role: SessionRole, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry?.roles.delete(role) !== true) return;
    if (entry.roles.size === 0) entry.proven.clear();
    this.#tell(key, entry, undefined, turn);
  }

  /** The peer of a bootstrap-client session has proven that it knows the network key. */
  prove(key: SessionKey, network: string, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.roles.size === 0) return;
    entry.proven.add(network);
    this.#tell(key, entry, undefined, turn);
  }

  setMember(key: SessionKey, member: MemberSession | undefined, turn: Turn): void {
    if (member === undefined && !this.#entries.has(key)) return;
    const entry = this.#entry(key);
    entry.member = member;
    this.#tell(key, entry, undefined, turn);
  }

  /** Where the next handshake goes, and all else, if no session runs. */
  setEndpoint(key: SessionKey, endpoint: PeerEndpoint, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.#tell(key, entry, endpoint, turn);
  }

  /** All that is sent goes there from now on: the way so far is one no longer. */
  redirect(key: SessionKey, endpoint: PeerEndpoint, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.#tell(key, entry, endpoint, turn, true);
  }

  /** Nothing is routed to it as a member, and nothing accepted: its session carries control messages alone. */
  bar(key: SessionKey, turn: Turn): void {
    this.#setBarred(key, true, turn);
  }

  lift(key: SessionKey, turn: Turn): void {
    this.#setBarred(key, false, turn);
  }

  isBarred(key: SessionKey): boolean {
    return this.#entries.get(key)?.barred === true;
  }

  /** Ends the session and forgets the endpoint: the next packet asks for a path. */
  resetPath(key: SessionKey, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry?.told === undefined) return;
    turn.emit({ type: 'remove-peer', peer: key });
    entry.told = entry.toldShaping = undefined;
    this.#tell(key, entry, undefined, turn);
  }

  #setBarred(key: SessionKey, barred: boolean, turn: Turn): void {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.barred === barred) return;
    entry.barred = barred;
    this.#tell(key, entry, undefined, turn);
  }

  #entry(key: SessionKey): Entry {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = {
        roles: new Set(),
        member: undefined,
        proven: new Set(),
        rights: new Set(),
        beyond: new Map(),
        barred: false,
        told: undefined,
        toldShaping: undefined,
      };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  /** As long as the engine was told nothing, it shapes nothing. */
  #tellShaping(key: SessionKey, entry: Entry, turn: Turn): void {
    const wanted = entry.member?.shaping;
    const { toldShaping } = entry;
    if (wanted === toldShaping || JSON.stringify(wanted) === JSON.stringify(toldShaping)) return;
    this.#emitShaping(key, entry, turn);
  }

  #emitShaping(key: SessionKey, entry: Entry, turn: Turn): void {
    const wanted = entry.member?.shaping;
    entry.toldShaping = wanted;
    turn.emit({ type: 'set-shaping', shaping: wanted ?? unshaped(key) });
  }

  #tell(
    key: SessionKey,
    entry: Entry,
    endpoint: PeerEndpoint | undefined,
    turn: Turn,
    redirect = false,
  ): void {
    const { roles, member, proven, rights, beyond, barred } = entry;
    if (roles.size === 0 && member === undefined) {
      this.#entries.delete(key);
      if (entry.told !== undefined) turn.emit({ type: 'remove-peer', peer: key });
      return;
    }
    const presharedKey = roles.size > 0 ? undefined : member?.presharedKey;
    const isBelieved = (network: string): boolean => (roles.size === 0 ? !barred : proven.has(network));
    const routes = [...(member?.routes ?? [])].flatMap(([network, own]) => (isBelieved(network) ? own : []));
    const others = [...beyond.values()].flatMap(({ network, prefixes }) =>
      member !== undefined && isBelieved(network) ? prefixes : [],
    );
    const allowedIps = [...routes, ...others];
    const transit = transitOf(rights);
    const told = `${transit} ${presharedKey === undefined ? '' : toHex(presharedKey)} ${allowedIps.join(' ')}`;
    if (told === entry.told && endpoint === undefined) {
      this.#tellShaping(key, entry, turn);
      return;
    }
    // With the peer each time: what was told before of a peer the engine had no room for was lost.
    if (member?.shaping !== undefined) this.#emitShaping(key, entry, turn);
    else this.#tellShaping(key, entry, turn);
    entry.told = told;
    turn.emit({
      type: 'set-peer',
      peer: {
        sessionKey: key,
        presharedKey,
        allowedIps,
        endpoint,
        redirect,
        persistentKeepalive: 0,
        transit,
      },
    });
  }
}
