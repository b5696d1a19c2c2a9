// The distributions of a study of paths: for each row, every run as a dot over a logarithmic axis of milliseconds.

import { percentile } from '../lab/statistics.js';
import type { PathStudy } from './path-study.js';

const WIDTH = 900;
const LEFT = 250;
const RIGHT = 130;
const ROW = 16;
const TOP = 62;
const [LEAST_MS, MOST_MS] = [10, 30_000];
const GRID_MS = [10, 100, 1000, 10_000];

interface Row {
  readonly label: string;
  /** Undefined: a run without a result, not drawn. */
  readonly values: readonly (number | undefined)[];
}

const x = (milliseconds: number): string => {
  const bounded = Math.min(Math.max(milliseconds, LEAST_MS), MOST_MS);
  const share = Math.log(bounded / LEAST_MS) / Math.log(MOST_MS / LEAST_MS);
  return (LEFT + share * (WIDTH - LEFT - RIGHT)).toFixed(1);
};

export function pathChart({ contacts, faults }: PathStudy): string {
  const groups: readonly (readonly [title: string, rows: readonly Row[]])[] = [
    [
      'From the first packet to the direct path',
      contacts.map(({ from, to, runs }) => ({
        label: `${from} → ${to}`,
        values: runs.map(({ directMs }) => directMs),
      })),
    ],
    [
      'From the fault to the first answer',
      faults.map(({ name, runs }) => ({ label: name, values: runs.map(({ backMs }) => backMs) })),
    ],
  ];
  const body: string[] = [];
  let y = TOP;
  for (const [title, rows] of groups) {
    body.push(`<text x="12" y="${y + 12}" font-weight="600">${title}</text>`);
    y += ROW + 6;
    for (const { label, values } of rows) {
      const found = values.filter((value) => value !== undefined);
      body.push(`<text x="${LEFT - 8}" y="${y + 11}" text-anchor="end">${label}</text>`);
      for (const value of found)
        body.push(`<circle cx="${x(value)}" cy="${y + 7}" r="3" fill="#0b6e4f" fill-opacity="0.35"/>`);
      const median = percentile(found, 0.5);
      if (median !== undefined)
        body.push(`<rect x="${x(median)}" y="${y + 1}" width="2" height="12" fill="#1f2933"/>`);
      const text = median === undefined ? 'never' : `${Math.round(median)} ms`;
      const share = found.length === values.length ? '' : `, ${found.length} of ${values.length}`;
      body.push(`<text x="${WIDTH - RIGHT + 8}" y="${y + 11}">${text}${share}</text>`);
      y += ROW;
    }
    y += 14;
  }
  const grid = GRID_MS.map(
    (value) =>
      `<line x1="${x(value)}" y1="${TOP}" x2="${x(value)}" y2="${y}" stroke="#e1e5ea"/>` +
      `<text x="${x(value)}" y="${y + 12}" text-anchor="middle" fill="#5a6672">${value} ms</text>`,
  );
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 24}" viewBox="0 0 ${WIDTH} ${y + 24}" font-family="sans-serif" font-size="11" fill="#1f2933">`,
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    '<text x="12" y="24" font-size="15" font-weight="600">Direct paths in the simulator, run by run</text>',
    '<text x="12" y="44" fill="#5a6672">a dot is a run, a bar the median of those that got there; one-way delays of 5 to 40 ms</text>',
    ...grid,
    ...body,
    '</svg>',
  ].join('\n')}\n`;
}
