// The node's own standing policy, one for each of its relays: signed when what it says has changed or
// half its validity is over, given to the relay with legs to receive the next circuits on.

import { MAX_POLICY_IDENTITIES, MAX_POLICY_NETWORKS } from '../protocol/message-limits.js';
import type { SessionKey } from '../../contract/engine.js';
import type { LegKey } from '../../wire/leg.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import type { Uplink } from '../uplink/uplink.js';
import { toHex } from '../../wire/bytes.js';
import { decodeCbor, encodeCbor, isInteger } from '../protocol/cbor.js';
import type { Primitives } from '../../contract/primitives.js';
import type { LegIds } from '../runtime/leg-ids.js';
import type { JoinedNetwork } from '../members/joined-networks.js';
import type { StandingPolicyStatus } from '../runtime/mesh-status.js';
import { isName } from '../protocol/network.js';
import { encodePeerId } from '../protocol/peer-id.js';
import type { RequestTable } from '../runtime/request-table.js';
import {
  accepts,
  PREPARED_LEGS,
  signStandingPolicy,
  type AcceptedCallers,
  type StandingPolicy,
} from '../protocol/standing-policy.js';
import type { Turn } from '../runtime/turn.js';

const SERIAL_KEY = 'node/policy-serial';
/** A day below what relays accept, for clocks that differ. */
const VALIDITY_SECONDS = 6 * 24 * 3600;

/** Whom this node accepts without being asked. */
export interface Consent {
  /** Members of all its networks, or of those with these names. */
  readonly networks: 'own' | readonly string[];
  readonly identities: readonly Uint8Array[];
  /** Seconds since 1970; undefined = as long as the node runs. */
  readonly until: number | undefined;
}

/** @throws RangeError that names the field and what it may be. */
export function checkConsent({ networks, identities, until }: Consent): void {
  if (networks !== 'own' && (networks.length > MAX_POLICY_NETWORKS || !networks.every(isName)))
    throw new RangeError(`consent networks: must be at most ${MAX_POLICY_NETWORKS} names of networks`);
  if (identities.length > MAX_POLICY_IDENTITIES || identities.some(({ length }) => length !== 32))
    throw new RangeError(
      `consent identities: must be at most ${MAX_POLICY_IDENTITIES} identities of 32 bytes`,
    );
  if (until !== undefined && !isInteger(until, 1, Number.MAX_SAFE_INTEGER))
    throw new RangeError('consent until: must be whole seconds since 1970');
}

/** What the node lends to its standing policy. */
export interface PolicyHost {
  readonly primitives: Primitives;
  readonly identitySeed: Uint8Array;
  readonly identity: Uint8Array;
  readonly requests: RequestTable;
  readonly legs: LegIds;
  /** Joined networks by blinded id (hex). */
  networks(): ReadonlyMap<string, JoinedNetwork>;
}

/** The policy as one relay has it, or is being given it. */
interface Given {
  readonly relay: Uplink;
  policy: StandingPolicy;
  /** What it says, apart from serial and time. */
  content: string;
  state: StandingPolicyStatus['state'];
  /** Made up by us and not used yet, by id. */
  readonly legs: Map<number, LegKey>;
  asking: boolean;
  again: boolean;
}

export class OwnPolicy {
  readonly #host: PolicyHost;
  readonly #consent: Consent;
  readonly #given = new Map<SessionKey, Given>();
  #serial = 0;

  constructor(consent: Consent, host: PolicyHost) {
    this.#consent = consent;
    this.#host = host;
  }

  restore(restored: ReadonlyMap<string, Uint8Array>): void {
    const serial = decodeCbor(restored.get(SERIAL_KEY) ?? new Uint8Array(0), 16);
    if (isInteger(serial, 0, Number.MAX_SAFE_INTEGER - 1)) this.#serial = serial;
  }

  /** A relay took our registration. `fresh`: it may have forgotten the policy. */
  relayReady(relay: Uplink, fresh: boolean, turn: Turn): void {
    const given = this.#given.get(relay.sessionKey);
    const forgotten = fresh && given?.state !== 'withdrawn';
    const settled = given !== undefined && given.state !== 'unanswered' && !this.#isOutdated(given, turn);
    if (forgotten || !settled) this.#give(relay, turn);
  }

  /** This node uses a relay no longer. */
  relayGone(relay: SessionKey, turn: Turn): void {
    const given = this.#given.get(relay);
    if (given !== undefined) this.#freeLegs(given, turn);
    this.#given.delete(relay);
  }

  /** Time has passed or networks have changed: what has to be said anew is. */
  renew(turn: Turn): void {
    for (const given of this.#given.values())
      if (given.relay.usable && this.#isOutdated(given, turn)) this.#give(given.relay, turn);
  }

  /** Whether the policy held at a relay accepts a caller in circuits of this network. */
  accepts(relay: SessionKey, caller: Uint8Array, network: Uint8Array): boolean {
    const given = this.#given.get(relay);
    return given !== undefined && accepts(given.policy, caller, network);
  }

  /** The relay asked although the policy accepts the caller: it has no legs left. */
  ranOut(relay: Uplink, turn: Turn): void {
    this.#give(relay, turn);
  }

  /** The prepared leg of this id. */
  leg(relay: SessionKey, id: number): LegKey | undefined {
    return this.#given.get(relay)?.legs.get(id);
  }

  /** A prepared leg is a circuit's now. @returns the one that takes its place. */
  replaceLeg(relay: SessionKey, id: number, turn: Turn): LegKey {
    const leg = this.#host.legs.create(turn);
    const legs = this.#given.get(relay)?.legs;
    if (legs?.delete(id) === true) legs.set(leg.id, leg);
    return leg;
  }

  status(): StandingPolicyStatus[] {
    return [...this.#given.values()].map(({ relay, policy, state, legs }) => ({
      relayPeerId: encodePeerId(relay.bootstrap.identity),
      address: formatSocketAddress(relay.address),
      state,
      serial: policy.serial,
      notAfter: policy.notAfter,
      preparedLegs: legs.size,
    }));
  }

  #callers(turn: Turn): AcceptedCallers {
    const { networks, identities, until } = this.#consent;
    if (until !== undefined && until * 1000 <= turn.step.wallClock) return { identities: [], networks: [] };
    const joined = [...this.#host.networks().values()].filter(
      ({ network }) => networks === 'own' || networks.includes(network.name),
    );
    return { identities, networks: joined.map(({ blindedId }) => blindedId) };
  }

  #isOutdated({ policy, content, state }: Given, turn: Turn): boolean {
    if (content !== contentOf(this.#callers(turn))) return true;
    const left = policy.notAfter - turn.step.wallClock / 1000;
    return state === 'held' && policy.notAfter !== this.#consent.until && left < VALIDITY_SECONDS / 2;
  }

  /** The policy for this relay that says what holds now. */
  #policyFor(relay: Uplink, turn: Turn): { policy: StandingPolicy; content: string } {
    const callers = this.#callers(turn);
    const content = contentOf(callers);
    const given = this.#given.get(relay.sessionKey);
    if (given !== undefined && !this.#isOutdated(given, turn)) return { policy: given.policy, content };
    // Wall-clock milliseconds, so that a node whose store was lost still counts upwards.
    this.#serial = Math.max(this.#serial + 1, turn.step.wallClock);
    turn.emit({ type: 'persist', key: SERIAL_KEY, value: encodeCbor(this.#serial) });
    const longest = Math.floor(turn.step.wallClock / 1000) + VALIDITY_SECONDS;
    const { until } = this.#consent;
    const policy = signStandingPolicy(this.#host.primitives, this.#host.identitySeed, {
      ...callers,
      identity: this.#host.identity,
      relay: relay.bootstrap.identity,
      serial: this.#serial,
      // A policy that accepts nobody takes an earlier one back, so `until` does not shorten it.
      notAfter: until === undefined || isNobody(callers) ? longest : Math.min(until, longest),
    });
    return { policy, content };
  }

  #give(relay: Uplink, turn: Turn): void {
    const { sessionKey } = relay;
    const present = this.#given.get(sessionKey);
    if (present?.asking === true) {
      present.again = true;
      return;
    }
    const { policy, content } = this.#policyFor(relay, turn);
    const nobody = isNobody(policy);
    if (nobody && present === undefined) return; // nothing to take back
    const given: Given = present ?? {
      relay,
      policy,
      content,
      state: 'asking',
      legs: new Map(),
      asking: false,
      again: false,
    };
    this.#given.set(sessionKey, given);
    given.policy = policy;
    given.content = content;
    given.asking = true;
    if (nobody) this.#freeLegs(given, turn);
    while (!nobody && given.legs.size < PREPARED_LEGS) {
      const leg = this.#host.legs.create(turn);
      given.legs.set(leg.id, leg);
    }
    const message = {
      type: 'standing-policy',
      policy: policy.bytes,
      legs: [...given.legs.values()],
    } as const;
    this.#host.requests.send(sessionKey, message, turn, (answer, later) => {
      if (this.#given.get(sessionKey) !== given) return;
      given.asking = false;
      const held = nobody ? 'withdrawn' : 'held';
      const state = answer?.type === 'policy-held' ? held : (answer?.reason ?? 'unanswered');
      if (state !== given.state && state !== held)
        later.notify('warn', 'standing-policy-refused', { reason: state });
      given.state = state;
      if (answer?.type === 'refused') this.#freeLegs(given, later);
      if (given.again) {
        given.again = false;
        this.#give(relay, later);
      }
    });
  }

  #freeLegs({ legs }: Given, turn: Turn): void {
    for (const id of legs.keys()) this.#host.legs.remove(id, turn);
    legs.clear();
  }
}

const isNobody = ({ identities, networks }: AcceptedCallers): boolean =>
  identities.length + networks.length === 0;

const contentOf = ({ identities, networks }: AcceptedCallers): string =>
  toHex(encodeCbor([identities, networks]));
