// npm run lab -- matrix: every kind of NAT with every other.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { matrixChart, matrixRows, matrixTable } from './matrix-report.js';
import { NatMatrix, PLACES, type Cell, type Place } from './nat-matrix.js';
import { UsageError, positive } from './options.js';
import { measureSpecial, SPECIAL_CELLS, type SpecialCell } from './special-cells.js';
import { World } from './world.js';

interface Options {
  readonly runs: number;
  readonly pairs: readonly (readonly [from: Place, to: Place])[];
  readonly cells: readonly SpecialCell[];
  readonly json: boolean;
  readonly chart: string | undefined;
}

const isPlace = (text: string): text is Place => (PLACES as readonly string[]).includes(text);

function readPair(text: string): [Place, Place] {
  const [from = '', to = '', ...more] = text.split('/');
  if (isPlace(from) && isPlace(to) && more.length === 0) return [from, to];
  throw new UsageError(`--pair wants FROM/TO, each one of ${PLACES.join(', ')}, not "${text}"`);
}

function readCell(text: string): SpecialCell {
  const cell = SPECIAL_CELLS.find(({ name }) => name === text);
  if (cell !== undefined) return cell;
  const names = SPECIAL_CELLS.map(({ name }) => name).join(', ');
  throw new UsageError(`--cell wants one of ${names}, not "${text}"`);
}

function readOptions(args: readonly string[]): Options {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        runs: { type: 'string', default: '1' },
        pair: { type: 'string', multiple: true, default: [] },
        cell: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
        chart: { type: 'string' },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const all = PLACES.flatMap((from) => PLACES.map((to) => [from, to] as const));
  return {
    runs: positive('runs', values.runs),
    pairs: values.pair.length > 0 ? values.pair.map(readPair) : values.cell.length > 0 ? [] : all,
    cells: values.cell.length > 0 ? values.cell.map(readCell) : values.pair.length > 0 ? [] : SPECIAL_CELLS,
    json: values.json,
    chart: values.chart,
  };
}

/** @returns the exit code: 1 when a pair was not as it should be. */
export async function matrix(args: readonly string[]): Promise<number> {
  const { runs, pairs, cells: special, json, chart } = readOptions(args);
  const places = PLACES.filter((place) => pairs.some((pair) => pair.includes(place)));
  const cells: Cell[] = [];
  for (let run = 1; run <= runs; run++) {
    for (const one of special) {
      const reason = one.unavailable?.();
      if (reason !== undefined) {
        console.error(`· ${one.name} is left out: ${reason}`);
        continue;
      }
      const cell = await measureSpecial(one);
      cells.push(cell);
      console.error(`· run ${run} of ${runs}: ${one.name}: ${cell.way}`);
    }
    if (pairs.length === 0) continue;
    // A world of its own for each run: two nodes that have met once know their way.
    const world = await World.create();
    try {
      console.error(`· run ${run} of ${runs}: ${2 * places.length} nodes and a relay start`);
      const nodes = await NatMatrix.start(world, places);
      for (const [index, [from, to]] of pairs.entries()) {
        const cell = await nodes.measure(from, to);
        cells.push(cell);
        console.error(`· ${index + 1} of ${pairs.length}: ${from} to ${to}: ${cell.way}`);
      }
    } finally {
      world.remove();
    }
  }
  const rows = matrixRows(cells);
  if (chart !== undefined) writeFileSync(chart, matrixChart(rows));
  const met = rows.every((row) => row.met);
  if (json) console.log(JSON.stringify({ met, rows, cells }, null, 2));
  else console.log(`\n${matrixTable(rows)}`);
  return met ? 0 : 1;
}
