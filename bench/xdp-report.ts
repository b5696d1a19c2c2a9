// The XDP benchmark's results as tables, and against the aims.

import { TITLES } from './relay-subjects.js';
import { DEFERRALS, type Cost, type EndToEnd } from './xdp-end-to-end.js';
import type { DaemonUnderFlood, Flood } from './xdp-flood.js';
import type { ProgramCosts } from './xdp-program.js';
import type { Changes } from './xdp-upgrade.js';
import type { Spread } from './spread.js';
import { columns, short, spreadText } from './text-table.js';

export interface Results {
  readonly program: ProgramCosts;
  readonly endToEnd: readonly EndToEnd[];
  /** ns of the attached program alone. */
  readonly programNs: number;
  /** With garbage as fast as the generator goes, and with less. */
  readonly floods: readonly Flood[];
  readonly upgrades: {
    readonly rate: number;
    /** SIGKILL and restart, another build, and back. */
    readonly upgrade: Changes;
    /** A build of another layout, and back. */
    readonly migration: Changes;
  };
  readonly daemon: DaemonUnderFlood;
  readonly manyLegs: {
    readonly legs: number;
    /** Seconds of CPU. */
    readonly installed: number;
    readonly adopted: number;
    readonly taken: number;
    readonly removed: number;
  };
}

export interface Verdict {
  readonly aim: string;
  readonly measured: Spread | number | undefined;
  readonly limit: number;
  readonly atLeast: boolean;
  readonly met: boolean | undefined;
}

const MEGABYTE = 1e6;
const percent = (value: number): string => `${(value * 100).toFixed(value < 0.1 ? 2 : 1)} %`;

export function verdictsOf(results: Results): Verdict[] {
  const verdict = (
    aim: string,
    measured: Spread | number | undefined,
    limit: number,
    atLeast = false,
  ): Verdict => {
    const value = typeof measured === 'number' ? measured : measured?.median;
    return {
      ...{ aim, measured, limit, atLeast },
      met: value === undefined ? undefined : atLeast ? value >= limit : value <= limit,
    };
  };
  const { program, endToEnd, floods, daemon, manyLegs } = results;
  const { upgrade, migration } = results.upgrades;
  const setting = (start: string): ProgramCosts['settings'][number] | undefined =>
    program.settings.find(({ title }) => title.startsWith(start));
  const of = (name: string): EndToEnd | undefined => endToEnd.find((row) => row.name === name);
  const xdp = of('xdp');
  const userspace = of('engine');
  const over = (cost: Cost | undefined, other: Cost | undefined): number | undefined =>
    cost && other && cost.nsPerPacket.median / other.nsPerPacket.median;
  return [
    verdict('program, 10,000 legs, each has a rate: ns', setting('10,000, each')?.relay, 200),
    verdict('program, 10,000 legs, every limit configured: ns', setting('10,000, every')?.relay, 200),
    verdict('program, 1,000,000 legs with a rate, over bare', setting('1,000,000 random')?.overBare, 1.3),
    verdict('program, 1,000,000 legs, every limit, over bare', setting('1,000,000, every')?.overBare, 1.3),
    verdict('CPU per packet over user space', over(xdp?.atItsHighest, userspace?.atItsHighest), 0.2),
    ...DEFERRALS.map((by, at) =>
      verdict(
        `the same, at a rate user space manages, polls deferred by ${by}`,
        over(xdp?.atEqualRate[at], userspace?.atEqualRate[at]),
        0.2,
      ),
    ),
    verdict('lost through SIGKILL, restart, upgrade to another build and back', upgrade.lost, 0),
    verdict('lost through an upgrade to another layout and back', migration.lost, 0),
    verdict('circuit under a flood at full rate over undisturbed', floods[0]?.kept, 0.9, true),
    verdict('circuit under the lesser flood', floods[1]?.kept, 0.9, true),
    verdict('daemon’s CPU under a flood, of a core', daemon.cpuShare, 0.05),
    verdict('daemon’s memory after a flood over before', daemon.residentAfter / daemon.residentBefore, 1.02),
    verdict('legs installed per second of CPU', manyLegs.legs / manyLegs.installed, 200_000, true),
    verdict('legs removed per second of CPU', manyLegs.legs / manyLegs.removed, 200_000, true),
    verdict(`${short(manyLegs.legs)} legs adopted, seconds of CPU`, manyLegs.taken, 5),
  ];
}

const COST_COLUMNS = ['', 'packets/s', 'CPU ns/packet', 'of these, process', 'loss', 'p50 µs', 'p99 µs'];

function costCells(cost: Cost): string[] {
  return [
    spreadText(cost.packetsPerSecond),
    spreadText(cost.nsPerPacket),
    spreadText(cost.processNsPerPacket),
    percent(cost.loss.median),
    spreadText(cost.p50),
    spreadText(cost.p99),
  ];
}

export function report(results: Results, verdicts: readonly Verdict[]): string {
  const { program, endToEnd, programNs, floods, daemon, manyLegs, upgrades } = results;
  const lines: string[] = [];
  const table = (title: string, rows: readonly (readonly string[])[]): void =>
    void lines.push('', title, ...columns(rows));

  table('The program alone (BPF_PROG_TEST_RUN, one core), ns per packet, median (smallest–largest)', [
    ['', 'relay', 'bare, of a hash', 'relay over it', 'bare, of an array', 'relay over it'],
    ...program.settings.map(({ title, relay, bare, overBare, bareArray, overBareArray }) => [
      title,
      spreadText(relay),
      spreadText(bare),
      spreadText(overBare),
      spreadText(bareArray),
      spreadText(overBareArray),
    ]),
  ]);
  table('What a feature costs at 10,000 legs with every limit, ns per packet', [
    ...program.features.map(({ title, ns }) => [title, spreadText(ns)]),
    ['writing the packet for a repeat (subtracted above)', spreadText(program.driver)],
  ]);
  table('What dropping a datagram of the flood costs at 10,000 legs, ns', [
    ...program.garbage.map(({ title, ns }) => [title, spreadText(ns)]),
  ]);
  table('End to end, single packets of mixed flows, 64 B, at the highest rate that loses at most 1 %', [
    COST_COLUMNS,
    ...endToEnd.map(({ name, atItsHighest }) => [TITLES[name], ...costCells(atItsHighest)]),
  ]);
  table('The same at a rate user space manages, by who defers polls', [
    COST_COLUMNS,
    ...DEFERRALS.flatMap((by, at) =>
      endToEnd.flatMap(({ name, atEqualRate }) => {
        const cost = atEqualRate[at];
        return cost === undefined ? [] : [[`${by}: ${TITLES[name]}`, ...costCells(cost)]];
      }),
    ),
  ]);
  lines.push(`the XDP program's own time of these (kernel.bpf_stats_enabled): ${short(programNs)} ns`);
  table('Spoofed garbage beside a circuit, packets/s', [
    ['garbage', 'circuit undisturbed', 'circuit under the flood', 'of undisturbed', 'of what was sent'],
    ...floods.map(({ garbagePerSecond, undisturbed, flooded, kept, delivered }) => [
      spreadText(garbagePerSecond),
      spreadText(undisturbed),
      spreadText(flooded),
      spreadText(kept),
      percent(delivered.median),
    ]),
  ]);
  table('omerta relay --accel xdp under the flood at full rate', [
    ['garbage', `${short(daemon.garbage)} in ${short(daemon.seconds)} s`],
    ['CPU of a core', `${percent(daemon.cpuShare)} (idle ${percent(daemon.idleCpuShare)})`],
    [
      'memory before and after',
      `${(daemon.residentBefore / MEGABYTE).toFixed(1)} MB, ${(daemon.residentAfter / MEGABYTE).toFixed(1)} MB`,
    ],
  ]);
  table(`The daemon replaced under ${short(upgrades.rate)} numbered frames/s`, [
    ['', 'SIGKILL, restart, another build, and back', 'another layout, and back'],
    ...(
      [
        ['programs that forwarded them, by tag', ({ programs }) => programs.map(({ tag }) => tag).join(' ')],
        ['sent', ({ sent }) => short(sent)],
        ['lost', ({ lost }) => short(lost)],
        ['not in the legs’ counters', ({ uncounted }) => short(uncounted)],
        ['no room in the cable before, behind', ({ refused: { before, behind } }) => `${before}, ${behind}`],
      ] as [string, (changes: Changes) => string][]
    ).map(([title, of]) => [title, of(upgrades.upgrade), of(upgrades.migration)]),
  ]);
  table(`${short(manyLegs.legs)} legs from TypeScript, seconds of CPU`, [
    ['installed, program attached', short(manyLegs.installed)],
    [`${short(manyLegs.adopted)} adopted by the next process after SIGKILL`, short(manyLegs.taken)],
    ['removed', short(manyLegs.removed)],
  ]);
  table(
    'Against the aims',
    verdicts.map(({ aim, measured, limit, atLeast, met }) => [
      `${met === undefined ? ' ' : met ? '✓' : '✗'} ${aim}`,
      measured === undefined
        ? 'not measured'
        : typeof measured === 'number'
          ? short(measured)
          : spreadText(measured),
      `${atLeast ? '≥' : '≤'} ${short(limit)}`,
    ]),
  );
  return lines.join('\n');
}
