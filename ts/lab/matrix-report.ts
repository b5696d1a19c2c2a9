// The matrix of NAT kinds for people: a table for terminals, and an SVG.

import { PLACES, type Cell, type Place, type Way } from './nat-matrix.js';
import { formatMs, formatTable } from './report.js';
import { percentile } from './statistics.js';

/** All runs of one pair. */
export interface MatrixRow {
  readonly from: string;
  readonly to: string;
  readonly expected: Way;
  readonly runs: number;
  /** Runs that ended on the direct way. */
  readonly direct: number;
  readonly firstReplyMs: readonly number[];
  readonly directMs: readonly number[];
  /** Packets of searches for ports, of the runs that had one. */
  readonly searched: readonly number[];
  readonly pings: number;
  readonly lost: number;
  /** Whether every run ended on the way that was expected, or a better one, and lost nothing. */
  readonly met: boolean;
}

export function matrixRows(cells: readonly Cell[]): MatrixRow[] {
  const rows = new Map<string, MatrixRow>();
  for (const cell of cells) {
    const { from, to, expected } = cell;
    const key = `${from} ${to}`;
    const row = rows.get(key) ?? {
      ...{
        from,
        to,
        expected,
        runs: 0,
        direct: 0,
        firstReplyMs: [],
        directMs: [],
        searched: [],
        pings: 0,
        lost: 0,
      },
      met: true,
    };
    const reached = cell.way === 'direct' || (cell.way === 'relay' && expected === 'relay');
    rows.set(key, {
      ...row,
      runs: row.runs + 1,
      direct: row.direct + (cell.way === 'direct' ? 1 : 0),
      firstReplyMs: [...row.firstReplyMs, ...(cell.firstReplyMs === undefined ? [] : [cell.firstReplyMs])],
      directMs: [...row.directMs, ...(cell.directMs === undefined ? [] : [cell.directMs])],
      searched: [...row.searched, ...(cell.searched === undefined ? [] : [cell.searched])],
      pings: row.pings + cell.pings,
      lost: row.lost + cell.lost,
      met: row.met && reached && cell.lost === 0,
    });
  }
  return [...rows.values()];
}

const way = ({ direct, runs }: MatrixRow): string =>
  direct === runs ? 'direct' : direct === 0 ? 'relay' : `direct in ${direct} of ${runs}`;

/** Median, and the largest where there are several. */
function times(values: readonly number[]): string {
  if (values.length === 0) return '';
  const median = formatMs(percentile(values, 0.5));
  return values.length === 1 ? median : `${median} (${formatMs(percentile(values, 1))})`;
}

export function matrixTable(rows: readonly MatrixRow[]): string {
  const lines = [
    ['', 'from', 'to', 'way', 'should be', 'first reply', 'direct after', 'searched', 'lost'],
    ...rows.map((row) => [
      row.met ? ' ' : '✗',
      row.from,
      row.to,
      way(row),
      row.expected,
      times(row.firstReplyMs),
      times(row.directMs),
      row.searched.length === 0 ? '' : `${percentile(row.searched, 0.5)} packets`,
      `${row.lost} of ${row.pings}`,
    ]),
  ];
  return formatTable(lines);
}

const CELL = { width: 132, height: 58 };
const LEFT = 176;
const TOP = 84;

/** A square for each pair: green is direct, grey the relay where nothing else is possible, red a miss. */
export function matrixChart(all: readonly MatrixRow[]): string {
  const rows = all.filter((row): row is MatrixRow & Record<'from' | 'to', Place> =>
    [row.from, row.to].every((place) => (PLACES as readonly string[]).includes(place)),
  );
  const places = PLACES.filter((place) => rows.some(({ from, to }) => from === place || to === place));
  const width = LEFT + places.length * CELL.width + 12;
  const height = TOP + places.length * CELL.height + 40;
  const body: string[] = [];
  const text = (x: number, y: number, content: string, more = ''): number =>
    body.push(`<text x="${x}" y="${y}" ${more}>${content}</text>`);
  places.forEach((place, i) => {
    text(LEFT + (i + 0.5) * CELL.width, TOP - 10, `to ${place}`, 'text-anchor="middle"');
    text(LEFT - 10, TOP + (i + 0.5) * CELL.height + 4, `from ${place}`, 'text-anchor="end"');
  });
  for (const row of rows) {
    const [x, y] = [LEFT + places.indexOf(row.to) * CELL.width, TOP + places.indexOf(row.from) * CELL.height];
    const fill = !row.met ? '#f4c7c3' : row.direct === row.runs ? '#c6e7d4' : '#e1e5ea';
    body.push(
      `<rect x="${x + 2}" y="${y + 2}" width="${CELL.width - 4}" height="${CELL.height - 4}" rx="4" fill="${fill}"/>`,
    );
    const middle = 'text-anchor="middle"';
    text(x + CELL.width / 2, y + 24, way(row), `${middle} font-weight="600"`);
    const after = row.directMs.length > 0 ? `after ${formatMs(percentile(row.directMs, 0.5))}` : '';
    text(x + CELL.width / 2, y + 42, [after, `${row.lost} lost`].filter(Boolean).join(', '), middle);
  }
  const runs = Math.max(0, ...rows.map((row) => row.runs));
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="#1f2933">`,
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    '<text x="12" y="26" font-size="15" font-weight="600">The way two nodes take to each other, by the NATs they are behind</text>',
    `<text x="12" y="46" fill="#5a6672">${runs === 1 ? 'one run' : `${runs} runs`}; median time from the first ping, pings lost</text>`,
    ...body,
    `<text x="12" y="${height - 14}" fill="#5a6672">green: direct; grey: by the relay, which is all these two networks allow without guessing ports; red: not as it should be</text>`,
    '</svg>',
  ].join('\n')}\n`;
}
