// npm run sim: what many simulated worlds say. Options are explained by `npm run sim -- --help` (scripts/sim.mjs).

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { UsageError, positive } from '../lab/options.js';
import { pathChart } from './path-chart.js';
import { reportPaths } from './path-report.js';
import { FAULT_NAMES, STUDIED_KINDS, studyPaths, type FaultName } from './path-study.js';
import type { Kind } from '../sim/mesh/pair-world.js';

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        runs: { type: 'string', default: '20' },
        'fault-runs': { type: 'string', default: '100' },
        seed: { type: 'string', default: '1' },
        pair: { type: 'string', multiple: true, default: [] },
        fault: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
        chart: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function readPair(text: string): readonly [Kind, Kind] {
  const isKind = (word: string): word is Kind => (STUDIED_KINDS as readonly string[]).includes(word);
  const [from = '', to = '', ...more] = text.split('/');
  if (isKind(from) && isKind(to) && more.length === 0) return [from, to];
  throw new UsageError(`--pair wants FROM/TO, each one of ${STUDIED_KINDS.join(', ')}, not "${text}"`);
}

function readFault(text: string): FaultName {
  const fault = FAULT_NAMES.find((name) => name === text);
  if (fault !== undefined) return fault;
  const names = FAULT_NAMES.map((name) => `"${name}"`).join(', ');
  throw new UsageError(`--fault wants one of ${names}, not "${text}"`);
}

/** @returns the exit code: 1 when something was not as promised. */
function main(): number {
  const { values, positionals } = read(process.argv.slice(2));
  if (positionals.length !== 1 || positionals[0] !== 'paths')
    throw new UsageError(`what is to be studied? Type: npm run sim -- paths`);
  const study = studyPaths({
    firstSeed: positive('seed', values.seed),
    runs: positive('runs', values.runs),
    faultRuns: positive('fault-runs', values['fault-runs']),
    ...(values.pair.length + values.fault.length > 0 && {
      only: { pairs: values.pair.map(readPair), faults: values.fault.map(readFault), idle: false },
    }),
    say: (text, done, of) => console.error(`· ${done} of ${of}: ${text}`),
  });
  const { met, text } = reportPaths(study);
  if (values.chart !== undefined) writeFileSync(values.chart, pathChart(study));
  if (values.json) console.log(JSON.stringify({ met, ...study }, null, 2));
  else console.log(`\n${text}`);
  return met ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
