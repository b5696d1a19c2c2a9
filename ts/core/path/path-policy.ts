// What the operator has decided about the ways to members. It is this node's alone: nothing that a member, a
// relay or a record says changes it.

import type { Prefix } from '../../wire/prefix.js';
import type { PortSearchLimits } from './port-search-limits.js';

/** `direct-only`: relays carry what two members say to find each other, and no data; `relay-only`: the reverse. */
export const PATH_USES = ['any', 'direct-only', 'relay-only'] as const;
export type PathUse = (typeof PATH_USES)[number];

/** Ways of one kind. */
export type WayPattern =
  /** Direct ones, by the interface they leave by and where they lead; undefined = any. */
  | { readonly interface: string | undefined; readonly remote: Prefix | undefined }
  /** Those over the relay of this identity (lower-case hex). */
  | { readonly relay: string };

/** Of one member. */
export interface PathRules {
  readonly use: PathUse;
  /** Where there is one, data goes by ways that match one of these, and by no other. */
  readonly pin: readonly WayPattern[];
  /** Of ways that work those that match are used first, in this order. */
  readonly prefer: readonly WayPattern[];
  /**
   * Ways that match carry no data and no probe, and a probe that comes by one is not answered, so that the member does
   * not prove it; of a relay no circuit is asked for or accepted. What the member sends by one is still taken.
   */
  readonly forbid: readonly WayPattern[];
  /**
   * Data goes by direct ways of several interfaces at once, in proportion to these weights of theirs, by name (1 where
   * none is given); undefined = by one at a time.
   */
  readonly split: ReadonlyMap<string, number> | undefined;
}

export interface PathPolicy {
  /** Of members that have none of their own. */
  readonly rules: PathRules;
  /** By identity (lower-case hex). */
  readonly members: ReadonlyMap<string, PathRules>;
  /** Default: DEFAULT_PORT_SEARCH. */
  readonly search?: PortSearchLimits | undefined;
}

export const OPEN_RULES: PathRules = { use: 'any', pin: [], prefer: [], forbid: [], split: undefined };
export const OPEN_POLICY: PathPolicy = { rules: OPEN_RULES, members: new Map() };

/** Whether they let data go directly by some way. */
export function admitDirect({ use, pin }: PathRules): boolean {
  return use !== 'relay-only' && (pin.length === 0 || pin.some((pattern) => !('relay' in pattern)));
}

/** Whether they let data go over some relay. */
export function admitRelayed({ use, pin }: PathRules): boolean {
  return use !== 'direct-only' && (pin.length === 0 || pin.some((pattern) => 'relay' in pattern));
}

/** Whether they say nothing against any direct way: then a member may roam as any WireGuard peer. */
export function admitAllDirect({ use, pin, forbid }: PathRules): boolean {
  return use !== 'relay-only' && pin.length === 0 && forbid.every((pattern) => 'relay' in pattern);
}

/** Whether a member may be reached directly at all: else the record need not say that this node can. */
export function admitsAnyDirect({ rules, members }: PathPolicy): boolean {
  return admitDirect(rules) || [...members.values()].some(admitDirect);
}
