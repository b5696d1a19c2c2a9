// The relay benchmark's results as a table, against the targets, and as a chart.

import { barChart } from './bar-chart.js';
import { slotsFor } from './relay-legs.js';
import { ratioOf, spreadOf, type Measurements, type Round, type Scenario } from './relay-rounds.js';
import { TITLES, type SubjectName } from './relay-subjects.js';
import { spread, type Spread } from './spread.js';
import { columns, short, spreadText } from './text-table.js';

type Results = ReadonlyMap<Scenario, Measurements>;

export interface Verdict {
  readonly target: string;
  /** Undefined when a peer was absent. */
  readonly measured: Spread | undefined;
  readonly limit: number;
  readonly atLeast: boolean;
  readonly met: boolean | undefined;
}

const cpu = (round: Round): number | undefined => round.nsPerPacket;
const rate = (round: Round): number => round.packetsPerSecond;

function of(results: Results, id: string): Measurements | undefined {
  return [...results].find(([scenario]) => scenario.id === id)?.[1];
}

/** Memory: resident bytes of the relay with 1,000 and with 1,000,000 legs, without JavaScript's heap. */
export function targets(
  results: Results,
  memory: { readonly thousand: number; readonly million: number },
): Verdict[] {
  const verdict = (
    target: string,
    measured: Spread | undefined,
    limit: number,
    atLeast = false,
  ): Verdict => ({
    ...{ target, measured, limit, atLeast },
    met: measured && (atLeast ? measured.median >= limit : measured.median <= limit),
  });
  const reported = (target: string, measured: Spread | undefined): Verdict => ({
    ...{ target: `${target} (reported)`, measured, limit: NaN, atLeast: false, met: undefined },
  });
  const [single, batched] = [of(results, 'single'), of(results, 'batched')];
  const latency = of(results, 'latency');
  const room = slotsFor(1_000_000) - slotsFor(1_000);
  const perLeg = (memory.million - memory.thousand) / room;
  return [
    verdict('single: CPU over coturn', ratioOf(single, 'engine', 'coturn', cpu), 0.6),
    verdict('single: CPU over recvfrom/sendto', ratioOf(single, 'engine', 'single', cpu), 1.15),
    verdict('bursts from sendmmsg: ns', spreadOf(batched, 'engine', cpu), 1000),
    verdict('bursts arriving at once: ns', spreadOf(of(results, 'mixed'), 'engine', cpu), 1000),
    verdict(
      'bursts from sendmmsg, tuned veth: ns',
      spreadOf(of(results, 'batched-tuned'), 'engine', cpu),
      1000,
    ),
    verdict('bulk 64 B: ns', spreadOf(of(results, 'bulk-64'), 'engine', cpu), 120),
    verdict('bulk 1,300 B: ns', spreadOf(of(results, 'bulk-1300'), 'engine', cpu), 250),
    ...['bulk-64', 'bulk-1300'].flatMap((id) => [
      verdict(`${id}: packets/s over coturn`, ratioOf(of(results, id), 'engine', 'coturn', rate), 20, true),
      verdict(`${id}: packets/s over recvmmsg`, ratioOf(of(results, id), 'engine', 'batch', rate), 3, true),
      reported(
        `${id}: CPU over GRO and GSO, checking nothing`,
        ratioOf(of(results, id), 'engine', 'coalesced', cpu),
      ),
    ]),
    verdict(
      'latency p50 over recvfrom/sendto',
      ratioOf(latency, 'engine', 'single', (round) => round.p50Ns),
      1,
    ),
    verdict(
      'latency p99 over recvfrom/sendto',
      ratioOf(latency, 'engine', 'single', (round) => round.p99Ns),
      1,
    ),
    verdict(
      '1,000,000 legs over 1,000: single',
      ratioOf(of(results, 'legs-single'), 'engine-1m', 'engine-1k', cpu),
      2,
    ),
    verdict(
      '1,000,000 legs over 1,000: bulk, a leg each',
      ratioOf(of(results, 'legs-bulk'), 'engine-1m', 'engine-1k', cpu),
      2,
    ),
    // Its interfaces have an address each, so its return addresses are in it; `judge` has the parts.
    reported('process without JavaScript per leg, bytes, of those there is room for', {
      median: perLeg,
      min: perLeg,
      max: perLeg,
    }),
  ];
}

/** Median (smallest–largest) of every scenario, then the targets. */
export function table(results: Results, verdicts: readonly Verdict[]): string {
  const lines: string[] = [];
  for (const [scenario, measurements] of results) {
    const latency = scenario.rate !== undefined;
    const rows = [
      latency
        ? ['', 'p50 µs', 'p99 µs', 'CPU ns/packet', 'loss']
        : ['', 'CPU ns/packet', 'packets/s', 'loss', 'busy'],
    ];
    for (const name of measurements.keys()) {
      const text = (field: (round: Round) => number | undefined, unit?: number): string =>
        spreadText(spreadOf(measurements, name, field), unit);
      const percent = (field: (round: Round) => number | undefined): string => {
        const value = spreadOf(measurements, name, field)?.median;
        return value === undefined ? '' : `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
      };
      const loss = percent((round) => round.loss);
      rows.push(
        latency
          ? [
              TITLES[name],
              text((round) => round.p50Ns, 1000),
              text((round) => round.p99Ns, 1000),
              text(cpu),
              loss,
            ]
          : [TITLES[name], text(cpu), text(rate), loss, percent((round) => round.busy)],
      );
    }
    lines.push('', scenario.title, ...columns(rows));
  }
  const rows = verdicts.map(({ target, measured, limit, atLeast, met }) => [
    `${met === undefined ? ' ' : met ? '✓' : '✗'} ${target}`,
    measured === undefined ? 'not measured' : spreadText(measured),
    Number.isNaN(limit) ? '' : `${atLeast ? '≥' : '≤'} ${short(limit)}`,
  ]);
  const accounting = [...results.values()].flatMap((measurements) =>
    [...measurements.values()].flat().flatMap((round) => round.accounting ?? []),
  );
  lines.push(
    '',
    `Omerta's own getrusage over the scheduler's sum used above: ${spreadText(spread(accounting))}`,
  );
  lines.push('', 'Against the targets, median (smallest–largest) over the rounds', ...columns(rows));
  return lines.join('\n');
}

/** CPU per relayed datagram as bars on a logarithmic scale. */
export function chart(results: Results): string {
  const groups: { title: string; bars: { label: string; value: number; own: boolean }[] }[] = [];
  for (const id of ['single', 'batched', 'mixed', 'bulk-64', 'bulk-1300']) {
    const entry = [...results].find(([scenario]) => scenario.id === id);
    if (entry === undefined) continue;
    const [scenario, measurements] = entry;
    const names: SubjectName[] = ['engine', 'single', 'batch', 'dgram', 'coturn'];
    groups.push({
      title: scenario.title,
      bars: names.flatMap((name) => {
        const value = spreadOf(measurements, name, cpu)?.median;
        return value === undefined ? [] : [{ label: TITLES[name], value, own: name === 'engine' }];
      }),
    });
  }
  return barChart('CPU per relayed packet, ns (logarithmic, shorter is better)', groups);
}
