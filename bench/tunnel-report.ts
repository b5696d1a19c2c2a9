// The tunnel benchmark's results as a table, against the aims, and as a chart.

import { barChart } from './bar-chart.js';
import { ratio, spread, type Spread } from './spread.js';
import { columns, short, spreadText } from './text-table.js';
import type { Column, Round, Scenario } from './tunnel-scenarios.js';
import type { Implementation, ImplementationName } from './wireguard-implementations.js';

/** Rounds by implementation, for each scenario. */
export type Results = ReadonlyMap<Scenario, ReadonlyMap<ImplementationName, readonly Round[]>>;

export interface Verdict {
  readonly aim: string;
  /** Undefined when who it is measured against is absent. */
  readonly measured: Spread | undefined;
  readonly limit: number;
  readonly atLeast: boolean;
  readonly met: boolean | undefined;
}

function values(results: Results, id: string, name: ImplementationName, field: string): number[] | undefined {
  const rounds = [...results].find(([scenario]) => scenario.id === id)?.[1].get(name);
  return rounds?.map((round) => round[field] ?? NaN);
}

/** The aims, each a ratio taken round by round unless it says otherwise. */
export function verdicts(results: Results): Verdict[] {
  const over = (
    id: string,
    field: string,
    other: ImplementationName,
    own: ImplementationName = 'omerta',
  ): Spread | undefined => ratio(values(results, id, own, field), values(results, id, other, field));
  const atLeast = (aim: string, measured: Spread | undefined, limit: number): Verdict => ({
    ...{ aim, measured, limit, atLeast: true },
    met: measured && measured.median >= limit,
  });
  const atMost = (aim: string, measured: Spread | undefined, limit: number): Verdict => ({
    ...{ aim, measured, limit, atLeast: false },
    met: measured && measured.median <= limit,
  });
  const resident = values(results, 'handshake', 'omerta', 'residentBytes');
  return [
    ...['tcp-1', 'tcp-8'].flatMap((id) => [
      atLeast(`${id}: over the newest wireguard-go`, over(id, 'bitsPerSecond', 'newest'), 2),
      atLeast(
        `${id}: the same, both with ChaCha20-Poly1305`,
        over(id, 'bitsPerSecond', 'newest', 'omerta-chacha'),
        2,
      ),
      atLeast(`${id}: over Debian's`, over(id, 'bitsPerSecond', 'debian'), 5),
    ]),
    ...['udp-64-burst', 'udp-64-bulk', 'udp-1300-burst', 'udp-1300-bulk'].flatMap((id) => [
      atLeast(`${id}: packets/s over the newest`, over(id, 'packetsPerSecond', 'newest'), 2),
      atLeast(
        `${id}: the same, both with ChaCha20-Poly1305`,
        over(id, 'packetsPerSecond', 'newest', 'omerta-chacha'),
        2,
      ),
    ]),
    ...['p50Ns', 'p99Ns'].map((field) =>
      atMost(`ping ${field.slice(0, 3)} over the newest`, over('ping', field, 'newest'), 1),
    ),
    atMost('MB resident with 10,000 peers', resident && spread(resident.map((bytes) => bytes / 1e6)), 150),
    atLeast(
      'handshakes per second and core over the newest (reported)',
      over('handshake', 'perCore', 'newest'),
      NaN,
    ),
  ].map((verdict) => (Number.isNaN(verdict.limit) ? { ...verdict, met: undefined } : verdict));
}

function cell(rounds: readonly Round[], { field, unit }: Column): string {
  const found = spread(rounds.map((round) => round[field] ?? NaN));
  return unit === 'percent' ? `${(found.median * 100).toFixed(1)} %` : spreadText(found, unit);
}

/** Median (smallest–largest) of every scenario, then the aims. */
export function table(
  results: Results,
  judged: readonly Verdict[],
  implementations: readonly Implementation[],
): string {
  const lines: string[] = [];
  for (const [scenario, measurements] of results) {
    const rows = [['', ...scenario.columns.map(({ title }) => title)]];
    for (const { name, title } of implementations)
      rows.push([title, ...scenario.columns.map((column) => cell(measurements.get(name) ?? [], column))]);
    lines.push('', scenario.title, ...columns(rows));
  }
  const rows = judged.map(({ aim, measured, limit, atLeast, met }) => [
    `${met === undefined ? ' ' : met ? '✓' : '✗'} ${aim}`,
    measured === undefined ? 'not measured' : spreadText(measured),
    Number.isNaN(limit) ? '' : `${atLeast ? '≥' : '≤'} ${short(limit)}`,
  ]);
  lines.push('', 'Against the aims, median (smallest–largest) over the rounds', ...columns(rows));
  return lines.join('\n');
}

/** What crossed the tunnel as bars on a logarithmic scale. */
export function chart(results: Results, implementations: readonly Implementation[]): string {
  const groups = [...results].flatMap(([scenario, measurements]) => {
    const [first] = scenario.columns;
    if (first === undefined || typeof first.unit === 'string' || !/^(tcp|udp)-/.test(scenario.id)) return [];
    const { field, unit } = first;
    const bars = implementations.map(({ name, title }) => ({
      label: title,
      value: spread((measurements.get(name) ?? []).map((round) => round[field] ?? NaN)).median / unit,
      own: name === 'omerta' || name === 'omerta-chacha',
    }));
    return [{ title: `${scenario.title}: ${first.title}`, bars }];
  });
  return barChart(
    'Through a tunnel: Mbit/s of TCP, thousand datagrams/s of UDP (logarithmic, longer is better)',
    groups,
  );
}
