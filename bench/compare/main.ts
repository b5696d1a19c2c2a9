// Two versions beside each other, from what their benchmarks printed with --json.
//
// node main.js --before FILE… --after FILE… [--json]: one report each, or one for each round, taken in turn.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { columns, short } from '../text-table.js';
import {
  CERTAIN_SAMPLES,
  LEAST_SAMPLES,
  median,
  ratioOf,
  verdictOf,
  type Ratio,
  type Verdict,
} from './bootstrap.js';
import { seriesOf, type Series } from './series.js';

const HEADINGS: Readonly<Record<Verdict, string>> = {
  differs: 'differs for certain',
  'may-differ': 'may differ',
  'too-noisy': 'cannot be told: too noisy, or too few rounds',
  same: 'does not differ by more than noise',
};

interface Row extends Ratio {
  readonly name: string;
  readonly before: number;
  readonly after: number;
  readonly verdict: Verdict;
}

function read(file: string): Series {
  try {
    return seriesOf(readFileSync(file, 'utf8'));
  } catch (error) {
    console.error(`compare: ${file}: ${error instanceof Error ? error.message : String(error)}`);
    console.error(
      'It wants what a benchmark prints with --json: npm run -s bench -- data-path --json > FILE',
    );
    return process.exit(2);
  }
}

/** Of one report its samples; of several a median from each, since the samples of one run are shaken together. */
function samples(reports: readonly Series[], name: string): readonly number[] {
  const [only, ...others] = reports;
  if (others.length === 0) return only?.get(name) ?? [];
  return reports.map((report) => median(report.get(name) ?? []));
}

const percent = (value: number): string =>
  `${value < 1 ? '−' : '+'}${Math.abs((value - 1) * 100).toFixed(1)} %`;

const { values } = parseArgs({
  options: {
    before: { type: 'string', multiple: true, default: [] },
    after: { type: 'string', multiple: true, default: [] },
    json: { type: 'boolean', default: false },
  },
});
const [before, after] = [values.before.map(read), values.after.map(read)];
const isPaired = before.length > 1;
const names = new Set([...before, ...after].flatMap((report) => [...report.keys()]));
const rows: Row[] = [];
const left: string[] = [];
for (const name of names) {
  const [old, recent] = [samples(before, name), samples(after, name)];
  const ratio = ratioOf(old, recent, isPaired);
  if (ratio === undefined) left.push(name);
  else rows.push({ name, before: median(old), after: median(recent), ...ratio, verdict: verdictOf(ratio) });
}
if (rows.length === 0) {
  console.error('compare: the reports have no series of numbers in common');
  process.exit(2);
}
const noisy = rows.filter(({ verdict }) => verdict === 'too-noisy').length;

if (values.json) {
  console.log(JSON.stringify({ paired: isPaired, rows, notCompared: left }));
} else {
  for (const [verdict, heading] of Object.entries(HEADINGS)) {
    const ofThis = rows.filter((row) => row.verdict === verdict);
    if (ofThis.length === 0) continue;
    const cells = ofThis.map((row) => [
      row.name,
      short(row.before),
      short(row.after),
      percent(row.ratio),
      `${percent(row.low95)} to ${percent(row.high95)}`,
    ]);
    console.log(`\n${heading} (${ofThis.length} of ${rows.length})`);
    for (const line of columns([['median', 'before', 'after', 'change', '95 % interval'], ...cells]))
      console.log(line);
  }
  const fewest = Math.min(...rows.map((row) => row.samples));
  if (left.length > 0)
    console.log(`\nnot compared, in one of them only or with zeros: ${left.length} (--json names them)`);
  if (fewest < CERTAIN_SAMPLES)
    console.log(
      `\nOf ${fewest} rounds ${fewest < LEAST_SAMPLES ? 'nothing can be told' : 'nothing is called certain'}: that takes ${LEAST_SAMPLES}, and ${CERTAIN_SAMPLES} to be certain.`,
    );
  if (!isPaired)
    console.log(
      '\nTwo reports of different times: what else the machine did is in the difference. For what the code does: npm run bench -- compare COMMIT COMMIT NAME',
    );
  if (noisy > rows.length / 3 && fewest >= LEAST_SAMPLES)
    console.log(
      `\nThis was a noisy run: of ${noisy} of ${rows.length} rows nothing can be said. Take it again with nothing else running, or with more --rounds.`,
    );
}
