// A study of paths for people: tables whose rows say what should be, and a chart of the distributions.

import { formatMs, formatTable } from '../lab/report.js';
import { percentile } from '../lab/statistics.js';
import { KEEPALIVE_MS } from '../core/uplink/uplink.js';
import type { Kind } from '../sim/mesh/pair-world.js';
import type { ContactCell, FaultCell, FaultName, IdleRun, PathStudy } from './path-study.js';

/** What the data plane promises (docs/benchmarks.md, "Direct paths, many times over"). */
const MARKS = {
  firstPacketRtts: 3,
  directMs: 1000,
  punchMs: 500,
  /** Of runs that end on the direct path, where ports can be predicted. */
  predicted: 0.9,
  failoverMs: { p50: 150, p99: 400 },
  /** Probes leave so often when a way is silent. */
  probeMs: 250,
  idlePackets: 1,
} as const;

/** One row of a table, and whether what was promised was kept; undefined = nothing is promised. */
interface Judged {
  readonly cells: readonly string[];
  readonly met: boolean | undefined;
}

/** Runs without a result count as longer than any. */
const at = (values: readonly (number | undefined)[], fraction: number): number | undefined => {
  const value = percentile(
    values.map((each) => each ?? Infinity),
    fraction,
  );
  return value === Infinity ? undefined : value;
};
const within = (value: number | undefined, most: number): boolean => value !== undefined && value < most;
const spread = (values: readonly (number | undefined)[]): string =>
  [0.5, 0.95, 1].map((fraction) => formatMs(at(values, fraction))).join(' / ');

/** How many runs of a pair should end on the direct path, 0–1; undefined: as many as do. */
function shareOf(from: Kind, to: Kind): number | undefined {
  const hard: readonly Kind[] = ['port-R', 'symmetric', 'sequential', 'preserving'];
  const bySymmetric = from !== 'port-R' || to !== 'port-R';
  if (![from, to].every((kind) => hard.includes(kind)) || !bySymmetric) return 1;
  return [from, to].includes('symmetric') ? undefined : MARKS.predicted;
}

function judgeContact({ from, to, runs }: ContactCell): Judged {
  const direct = runs.filter(({ directMs }) => directMs !== undefined);
  const rtts = runs.map(({ firstPacketMs, relayRttMs }) =>
    firstPacketMs === undefined ? undefined : firstPacketMs / relayRttMs,
  );
  const directMs = direct.map((run) => run.directMs);
  const punchMs = direct.map((run) => run.punchMs);
  const lost = runs.reduce((sum, run) => sum + run.lost, 0);
  const pings = runs.reduce((sum, run) => sum + run.pings, 0);
  const share = shareOf(from, to);
  const fast = within(at(directMs, 0.95), MARKS.directMs) && within(at(punchMs, 0.95), MARKS.punchMs);
  const found = direct.length >= (share ?? 0) * runs.length;
  return {
    met: lost === 0 && found && within(at(rtts, 1), MARKS.firstPacketRtts) && (share === undefined || fast),
    cells: [
      `${from} → ${to}`,
      `${direct.length} of ${runs.length}`,
      share === undefined ? 'as found' : `${Math.ceil(share * runs.length)}`,
      [0.5, 1].map((fraction) => (at(rtts, fraction) ?? Infinity).toFixed(2)).join(' / '),
      direct.length === 0 ? '' : spread(directMs),
      direct.length === 0 ? '' : spread(punchMs),
      `${lost} of ${pings}`,
    ],
  };
}

/** Of which nothing is promised: a metered way gets no copies, so that all others have to be found dead first. */
const AS_FOUND: FaultName = 'all dies but a metered one';

/** What each run of a fault has to keep; undefined: a fail-over, whose marks are those of all runs together. */
const MOST_BACK: Readonly<
  Partial<Record<FaultName, { readonly beyondRttMs: number; readonly words: string }>>
> = {
  'another network': { beyondRttMs: MARKS.probeMs, words: `each < 1 round trip + ${MARKS.probeMs} ms` },
  'NAT reboot': { beyondRttMs: KEEPALIVE_MS, words: `each < 1 round trip + ${KEEPALIVE_MS / 1000} s` },
  'path back': { beyondRttMs: 0, words: 'each < 1 round trip, none lost' },
};

function judgeFault({ name, runs }: FaultCell): Judged {
  const back = runs.map(({ backMs }) => backMs);
  const lost = runs.map((run) => run.lost);
  const most = MOST_BACK[name];
  const { p50, p99 } = MARKS.failoverMs;
  const kept =
    most === undefined
      ? within(at(back, 0.5), p50) && within(at(back, 0.99), p99)
      : runs.every(({ backMs, rttMs }) => within(backMs, rttMs + most.beyondRttMs)) &&
        (name !== 'path back' || lost.every((count) => count === 0));
  return {
    met: name === AS_FOUND ? undefined : kept,
    cells: [
      name,
      String(runs.length),
      formatMs(
        at(
          runs.map(({ rttMs }) => rttMs),
          0.5,
        ),
      ),
      [0.5, 0.99, 1].map((fraction) => formatMs(at(back, fraction))).join(' / '),
      name === AS_FOUND ? 'as found' : (most?.words ?? `p50 < ${p50} ms, p99 < ${p99} ms`),
      [0.5, 1].map((fraction) => at(lost, fraction)).join(' / '),
    ],
  };
}

function judgeIdle(runs: readonly IdleRun[]): Judged {
  const packets = runs.map(({ packetsIn20s }) => packetsIn20s / 2);
  const stayed = runs.filter(({ stayedDirect }) => stayedDirect).length;
  return {
    met: stayed === runs.length && within(at(packets, 1), MARKS.idlePackets),
    cells: [
      'an idle direct pair, NATs that forget after 120 s',
      `${[0.5, 1].map((fraction) => (at(packets, fraction) ?? Infinity).toFixed(2)).join(' / ')} packets in 20 s of each member`,
      `direct throughout in ${stayed} of ${runs.length}`,
    ],
  };
}

const lines = (rows: readonly Judged[]): string[][] =>
  rows.map(({ met, cells }) => [met === false ? '✗' : ' ', ...cells]);

const CONTACT_TITLES = [
  '',
  'NATs',
  'direct',
  'at least',
  'first packet, round trips p50 / max',
  'direct after p50 / p95 / max',
  'of it the hole punch',
  'lost',
];
const FAULT_TITLES = [
  '',
  'fault',
  'runs',
  'round trip p50',
  'data again after p50 / p99 / max',
  'should be',
  'lost p50 / max, both ways, one in 5 ms each',
];

/** Whether every row is as promised, and the tables. */
export function reportPaths({ contacts, faults, idle }: PathStudy): {
  readonly met: boolean;
  readonly text: string;
} {
  const judged = [
    contacts.map(judgeContact),
    faults.map(judgeFault),
    idle.length === 0 ? [] : [judgeIdle(idle)],
  ] as const;
  const [contactRows, faultRows, idleRows] = judged;
  const text = [
    contactRows.length > 0 && formatTable([CONTACT_TITLES, ...lines(contactRows)]),
    faultRows.length > 0 && formatTable([FAULT_TITLES, ...lines(faultRows)]),
    idleRows.length > 0 && formatTable(lines(idleRows)),
  ]
    .filter((table) => table !== false)
    .join('\n\n');
  return { met: judged.flat().every(({ met }) => met !== false), text };
}
