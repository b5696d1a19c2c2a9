// ns per packet of the XDP program by BPF_PROG_TEST_RUN, beside bare forwarders and variants of itself
// (bench/native/xdp_cost.cc). What writing each packet takes has been measured with it and subtracted.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from '../ts/lab/command.js';
import { ratio, spread, type Spread } from './spread.js';

type Rounds = Readonly<Record<string, readonly number[]>>;

export interface Setting {
  readonly title: string;
  readonly options: readonly string[];
}

const LIMITED = ['--limits', 'every'];
const MANY = ['--legs', '10000'];
const MILLION = ['--legs', '1000000'];

/** The relay in these, with every feature. */
export const SETTINGS: readonly Setting[] = [
  { title: '10,000 random legs, no limit configured', options: [...MANY] },
  { title: '10,000, each leg has a rate', options: [...MANY, '--limits', 'leg'] },
  { title: '10,000, every limit configured', options: [...MANY, ...LIMITED] },
  { title: '1,000,000 random legs, each leg has a rate', options: [...MILLION, '--limits', 'leg'] },
  { title: '1,000,000, every limit configured', options: [...MILLION, ...LIMITED] },
];

/** What a feature costs by a difference of traffic or configuration, all at 10,000 legs with every limit. */
const CONFIGURED: readonly Setting[] = [
  { title: 'IPv6 to IPv6', options: ['--from-v6', '--to-v6'] },
  { title: 'IPv4 to IPv6', options: ['--to-v6'] },
  { title: 'IPv6 to IPv4', options: ['--from-v6'] },
  { title: 'next hops not in the cache (65,536 of them)', options: ['--hosts', '65536'] },
];

const FEATURES: Readonly<Record<string, string>> = {
  without_tag_check: 'tag check',
  without_tag_write: 'tag of the next leg',
  without_tags: 'both tags together',
  without_charge: 'limits, accounts and the leg’s counters',
  without_way: 'finding the next hop in the cache',
  without_clock: 'reading the clock',
};

/** In the order of bench/native/xdp/frames.h. */
const GARBAGE = [
  'no protocol of ours',
  'a frame on an unknown leg',
  'from another address',
  'with a wrong tag',
  'WireGuard data for no session',
  'a WireGuard cookie for no session',
  'a WireGuard initiation beyond the budget',
  'a STUN request beyond the budget',
];

export interface ProgramCost {
  readonly title: string;
  readonly relay: Spread;
  /** Of a hash, as anybody would write it. */
  readonly bare: Spread;
  readonly overBare: Spread | undefined;
  /** Of an array, with ids that say where. */
  readonly bareArray: Spread;
  readonly overBareArray: Spread | undefined;
}

export interface FeatureCost {
  readonly title: string;
  readonly ns: Spread;
}

export interface ProgramCosts {
  readonly settings: readonly ProgramCost[];
  readonly features: readonly FeatureCost[];
  /** A dropped datagram of the flood's kinds (bench/native/xdp/frames.h), in turn and each alone. */
  readonly garbage: readonly FeatureCost[];
  readonly driver: Spread;
}

export async function programCosts(tools: string, quick: boolean): Promise<ProgramCosts> {
  const folder = join(tools, 'xdp');
  // 1,000,000 repeats in ten rounds that count.
  const length = quick ? ['--repeat', '20000', '--rounds', '6'] : ['--repeat', '100000', '--rounds', '11'];
  const run = async (options: readonly string[], subjects: readonly string[]): Promise<Rounds> =>
    JSON.parse(
      await mustRun(join(folder, 'xdp_cost'), [...length, ...options, ...subjects], { timeoutMs: 300_000 }),
    ) as Rounds;
  const cost = (title: string, rounds: Rounds): ProgramCost => ({
    title,
    relay: spread(rounds['relay'] ?? []),
    bare: spread(rounds['bare'] ?? []),
    overBare: ratio(rounds['relay'], rounds['bare']),
    bareArray: spread(rounds['bare-array'] ?? []),
    overBareArray: ratio(rounds['relay'], rounds['bare-array']),
  });
  const settings: ProgramCost[] = [];
  for (const { title, options } of SETTINGS)
    settings.push(cost(title, await run(options, ['relay', 'bare', 'bare-array'])));

  const variants = readdirSync(folder).filter((name) => /^without_.*\.bpf\.o$/.test(name));
  const base = await run([...MANY, ...LIMITED], ['relay', ...variants.map((name) => join(folder, name))]);
  const whole = base['relay'] ?? [];
  const difference = (title: string, of: readonly number[], less: readonly number[]): FeatureCost => ({
    title,
    ns: spread(of.map((value, at) => value - (less[at] ?? NaN))),
  });
  const features = Object.entries(FEATURES).flatMap(([name, title]) => {
    const rounds = base[name];
    return rounds === undefined ? [] : [difference(title, whole, rounds)];
  });
  const plain = await run([...MANY], ['relay']);
  features.push(difference('of these, limits that are configured', whole, plain['relay'] ?? []));
  for (const { title, options } of CONFIGURED) {
    const rounds = await run([...MANY, ...LIMITED, ...options], ['relay']);
    features.push(difference(`${title}, more than IPv4 to IPv4`, rounds['relay'] ?? [], whole));
  }
  const garbage: FeatureCost[] = [];
  for (const [at, title] of ['all in turn', ...GARBAGE].entries()) {
    const kind = at === 0 ? '--garbage' : `--garbage=${at - 1}`;
    const rounds = await run([...MANY, kind], ['relay']);
    garbage.push({ title, ns: spread(rounds['relay'] ?? []) });
  }
  return { settings, features, garbage, driver: spread(base['nothing'] ?? []) };
}
