// The exit benchmark's results as a table, against the aims, and as a chart.

import { barChart } from './bar-chart.js';
import type { Round, Scenario } from './exit-scenarios.js';
import type { Subject, SubjectName } from './exit-subjects.js';
import { ratio, spread, type Spread } from './spread.js';
import { columns, short, spreadText } from './text-table.js';

/** Rounds by subject, for each scenario. */
export type Results = ReadonlyMap<Scenario, ReadonlyMap<SubjectName, readonly Round[]>>;

export interface Verdict {
  readonly aim: string;
  /** Undefined when who it is measured against is absent. */
  readonly measured: Spread | undefined;
  /** Undefined = it is reported, and nothing is aimed at. */
  readonly atLeast: number | undefined;
}

const TCP = ['tcp-up-ipv4', 'tcp-down-ipv4', 'tcp-up-ipv6', 'tcp-down-ipv6'];

/** Ratios, taken round by round. */
export function verdicts(results: Results): Verdict[] {
  const values = (id: string, name: SubjectName, field: string): number[] | undefined =>
    [...results]
      .find(([scenario]) => scenario.id === id)?.[1]
      .get(name)
      ?.map((round) => round[field] ?? NaN);
  const over = (id: string, own: SubjectName, other: SubjectName, field: string): Spread | undefined =>
    ratio(values(id, own, field), values(id, other, field));
  const added = (name: SubjectName): Spread | undefined => {
    const [own, bare] = [values('round-trip', name, 'p50Ns'), values('round-trip', 'plain', 'p50Ns')];
    return own && bare && spread(own.map((value, round) => (value - (bare[round] ?? NaN)) / 1000));
  };
  return [
    ...TCP.map((id) => ({
      aim: `${id}: the kernel's exit over wireguard-go`,
      measured: over(id, 'kernel', 'wireguard-go', 'bitsPerSecond'),
      atLeast: 3,
    })),
    ...(['namespace', 'stack'] as const).flatMap((own) =>
      (['slirp4netns', 'pasta'] as const).map((other) => ({
        aim: `tcp-up-ipv4: ${own} over wireguard-go and ${other}`,
        measured: over('tcp-up-ipv4', own, other, 'bitsPerSecond'),
        atLeast: undefined,
      })),
    ),
    ...TCP.map((id) => ({
      aim: `${id}: the gateway over the kernel's exit`,
      measured: over(id, 'namespace', 'kernel', 'bitsPerSecond'),
      atLeast: 0.9,
    })),
    ...['line-up', 'line-down'].flatMap((id) =>
      (['namespace', 'stack'] as const).map((name) => ({
        aim: `${id}: ${name} over the kernel's exit`,
        measured: over(id, name, 'kernel', 'bitsPerSecond'),
        atLeast: 0.8,
      })),
    ),
    ...(['kernel', 'namespace', 'stack', 'wireguard-go'] as const).map((name) => ({
      aim: `µs added to a round trip (p50), ${name}`,
      measured: added(name),
      atLeast: undefined,
    })),
  ];
}

/** Median (smallest–largest) of every scenario, then the aims. */
export function table(results: Results, subjects: readonly Subject[]): string {
  const lines = [...results].flatMap(([scenario, measurements]) => [
    '',
    scenario.title,
    ...columns([
      ['', ...scenario.columns.map(({ title }) => title)],
      ...subjects.map(({ name, title }) => [
        title,
        ...scenario.columns.map(({ field, unit }) =>
          measurements.get(name)?.length === 0
            ? 'not measured'
            : spreadText(spread((measurements.get(name) ?? []).map((round) => round[field] ?? NaN)), unit),
        ),
      ]),
    ]),
  ]);
  const judged = verdicts(results).map(({ aim, measured, atLeast }) => {
    const isMet = measured !== undefined && atLeast !== undefined && measured.median >= atLeast;
    const mark = measured === undefined || atLeast === undefined ? ' ' : isMet ? '✓' : '✗';
    return [
      `${mark} ${aim}`,
      measured === undefined ? 'not measured' : spreadText(measured),
      atLeast === undefined ? '' : `≥ ${short(atLeast)}`,
    ];
  });
  return [
    ...lines,
    '',
    'Against the aims, median (smallest–largest) over the rounds',
    ...columns(judged),
  ].join('\n');
}

/** Throughput as bars on a logarithmic scale. */
export function chart(results: Results, subjects: readonly Subject[]): string {
  const groups = [...results].flatMap(([scenario, measurements]) =>
    TCP.includes(scenario.id)
      ? [
          {
            title: scenario.title,
            bars: subjects.map(({ name, title }) => ({
              label: title,
              value:
                spread((measurements.get(name) ?? []).map(({ bitsPerSecond = NaN }) => bitsPerSecond))
                  .median / 1e6,
              own: ['kernel', 'namespace', 'stack'].includes(name),
            })),
          },
        ]
      : [],
  );
  return barChart('By way of an exit: Mbit/s of TCP (logarithmic, longer is better)', groups);
}
