// The limits of a relay that are one number: everything about each of them is said in its row here.
// Derived from the table: the keys of [relay] and what they may be, the defaults, the reasons of
// refusals, what `relay reload` may change, the help of `omerta relay`, and the table in
// docs/operators-guide.md (`npm run docs` writes it there).

import { DEFAULT_STUN_PER_SECOND } from '../../contract/engine.js';

/** From when on a changed limit holds. */
export type LimitChange =
  /** At once: `relay reload`. */
  | 'at-once'
  /** At once, but not above what the relay was started with: tables of the engine have room for that. */
  | 'up-to-start'
  /** From the next start on. */
  | 'next-start';

export interface RelayLimitRow {
  /** Under [relay] in the configuration; undefined = it cannot be configured. */
  readonly key: string | undefined;
  readonly unit: string;
  readonly default: number;
  readonly least: number;
  readonly most: number;
  /** What it counts or measures. */
  readonly of: string;
  /** What becomes of that which goes beyond it. */
  readonly beyond: string;
  /**
   * Whether the request that goes beyond it is refused. The answer is `capacity`; it is counted under
   * the key, with "-" for "_".
   */
  readonly refuses: boolean;
  readonly change: LimitChange;
}

/** Every table is bounded by memory long before it. */
const MOST_ENTRIES = 1_000_000;
/** What control messages can carry. */
const LONGEST_LIFETIME_SECONDS = 86_400;
/** What the engine has numbers for. */
export const MAX_WIREGUARD_BINDINGS = 64;

const admissions = {
  unit: 'admissions',
  least: 1,
  most: MOST_ENTRIES,
  beyond: 'admission refused',
  refuses: true,
  change: 'at-once',
} as const;

const circuits = {
  unit: 'circuits',
  least: 1,
  most: MOST_ENTRIES,
  beyond: 'circuit refused',
  refuses: true,
  change: 'at-once',
} as const;

const lifetime = {
  unit: 'seconds',
  least: 60,
  most: LONGEST_LIFETIME_SECONDS,
  refuses: false,
  change: 'at-once',
} as const;

export const RELAY_LIMITS = {
  admissions: {
    ...admissions,
    key: 'admissions',
    default: 4096,
    of: 'admitted clients in total, with or without a session',
    change: 'up-to-start',
  },
  admissionsPerIdentity: {
    ...admissions,
    key: 'admissions_per_identity',
    default: 4,
    of: 'those of one identity',
  },
  admissionsPerNetwork: {
    ...admissions,
    key: 'admissions_per_network',
    default: 4096,
    of: 'those that have shown to be in one network',
  },
  admissionsPerPrefix: {
    ...admissions,
    key: 'admissions_per_prefix',
    default: 256, // an office or a carrier NAT shares one address
    of: 'those of one IPv4 address or IPv6 /64',
  },
  admissionsPerSite: {
    ...admissions,
    key: 'admissions_per_site',
    default: 1024,
    of: 'those of one IPv4 /24 or IPv6 /48',
  },
  registrations: {
    key: 'registrations',
    unit: 'records',
    default: 4096,
    least: 1,
    most: MOST_ENTRIES,
    of: 'registered records in total',
    beyond: 'registration refused',
    refuses: true,
    change: 'at-once',
  },
  circuits: {
    ...circuits,
    key: 'circuits',
    default: 16_384,
    of: 'circuits in total, those that wait for consent included',
    change: 'up-to-start',
  },
  circuitsPerIdentity: {
    ...circuits,
    key: 'circuits_per_identity',
    default: 256,
    of: 'those of one identity, at either end',
  },
  circuitsPerNetwork: {
    ...circuits,
    key: 'circuits_per_network',
    default: 16_384,
    of: 'those of one network',
  },
  circuitsPerPrefix: {
    ...circuits,
    key: 'circuits_per_prefix',
    default: 1024,
    of: 'those that callers at one IPv4 address or IPv6 /64 asked for',
  },
  circuitsPerSite: {
    ...circuits,
    key: 'circuits_per_site',
    default: 4096,
    of: 'those that callers at one IPv4 /24 or IPv6 /48 asked for',
  },
  circuitsPerRelay: {
    ...circuits,
    key: 'circuits_per_relay',
    default: 4096,
    of: 'those that come from, or go on to, one neighbouring relay',
  },
  halfOpen: {
    ...circuits,
    key: 'half_open',
    default: 1024,
    of: 'those that wait for the callee\u2019s consent',
  },
  halfOpenPerIdentity: {
    ...circuits,
    key: 'half_open_per_identity',
    default: 128,
    of: 'those of one caller that wait for consent',
  },
  halfOpenPerPrefix: {
    ...circuits,
    key: 'half_open_per_prefix',
    default: 256,
    of: 'those of callers at one IPv4 address or IPv6 /64 that wait for consent',
  },
  halfOpenPerSite: {
    ...circuits,
    key: 'half_open_per_site',
    default: 512,
    of: 'those of callers at one IPv4 /24 or IPv6 /48 that wait for consent',
  },
  halfOpenPerRelay: {
    ...circuits,
    key: 'half_open_per_relay',
    default: 512,
    of: 'those that one neighbouring relay asked for and that wait for consent',
  },
  admissionSeconds: {
    ...lifetime,
    key: undefined,
    default: 60,
    of: 'an admission without a session',
    beyond: 'it ends',
  },
  leaseSeconds: {
    ...lifetime,
    key: 'lease_seconds',
    default: 600,
    of: 'a registration without renewal',
    beyond: 'it ends',
  },
  circuitSeconds: {
    ...lifetime,
    key: 'circuit_seconds',
    default: 3600,
    of: 'a circuit without a refresh',
    beyond: 'it ends',
  },
  wireguardBindings: {
    key: 'wireguard_bindings',
    unit: 'members',
    default: 0,
    least: 0,
    most: MAX_WIREGUARD_BINDINGS,
    of: 'members whose stock WireGuard clients are relayed; wireguard_servers count too',
    beyond: 'binding refused',
    refuses: true,
    change: 'at-once',
  },
  wireguardBindingsPerPrefix: {
    key: 'wireguard_bindings_per_prefix',
    unit: 'members',
    default: 16,
    least: 1,
    most: MAX_WIREGUARD_BINDINGS,
    of: 'those of one IPv4 address or IPv6 /64',
    beyond: 'binding refused',
    refuses: true,
    change: 'at-once',
  },
  wireguardBindingsPerSite: {
    key: 'wireguard_bindings_per_site',
    unit: 'members',
    default: 32,
    least: 1,
    most: MAX_WIREGUARD_BINDINGS,
    of: 'those of one IPv4 /24 or IPv6 /48',
    beyond: 'binding refused',
    refuses: true,
    change: 'at-once',
  },
  wireguardSessions: {
    key: 'wireguard_sessions',
    unit: 'sessions',
    default: 2048, // two for each stock client, since one is renewed before it ends
    least: 1,
    most: MOST_ENTRIES,
    of: 'relayed sessions of stock WireGuard clients, two for each client',
    beyond: 'handshake dropped',
    refuses: false,
    change: 'next-start',
  },
  stunPerSecond: {
    key: 'stun_per_second',
    unit: 'answers a second',
    default: DEFAULT_STUN_PER_SECOND,
    least: 0,
    most: MOST_ENTRIES,
    of: 'STUN answers to one IPv4 /24 or IPv6 /48; 0 = none at all',
    beyond: 'no answer',
    refuses: false,
    change: 'next-start',
  },
} as const satisfies Readonly<Record<string, RelayLimitRow>>;

type Rows = typeof RELAY_LIMITS;
export type RelayLimitName = keyof Rows;
export const RELAY_LIMIT_NAMES = Object.keys(RELAY_LIMITS) as readonly RelayLimitName[];

/** A key of [relay] that is one of these limits. */
export type RelayLimitKey = Exclude<Rows[RelayLimitName]['key'], undefined>;

/** The limits of one relay. */
export type RelayLimits = { readonly [Name in RelayLimitName]: number };

export const DEFAULT_RELAY_LIMITS = Object.fromEntries(
  RELAY_LIMIT_NAMES.map((name) => [name, RELAY_LIMITS[name].default]),
) as RelayLimits;

type Dashed<Key extends string> = Key extends `${infer Head}_${infer Tail}` ? `${Head}-${Dashed<Tail>}` : Key;
type Refusing = { [Name in RelayLimitName]: Rows[Name]['refuses'] extends true ? Name : never };

/** A limit as it is counted when it turns somebody down; they are told `capacity`. */
export type Cap = Dashed<Rows[Refusing[RelayLimitName]]['key']>;

/** The names limits are counted under; the order of the table. */
export const CAPS: readonly Cap[] = Object.values<RelayLimitRow>(RELAY_LIMITS)
  .filter(({ refuses }) => refuses)
  .map(({ key }) => String(key).replaceAll('_', '-') as Cap);

export function isCap(reason: string): reason is Cap {
  return CAPS.some((cap) => cap === reason);
}

/** What a limit may be, in words. */
export function rangeOf({ least, most }: RelayLimitRow): string {
  return `a whole number from ${least} to ${most}`;
}

/** @throws RangeError that names the limit and what it may be. */
export function checkRelayLimits(limits: RelayLimits): void {
  for (const name of RELAY_LIMIT_NAMES) {
    const [value, row] = [limits[name], RELAY_LIMITS[name]];
    if (!Number.isInteger(value) || value < row.least || value > row.most)
      throw new RangeError(`relay limit ${name}: ${value} given, must be ${rangeOf(row)}`);
  }
}
