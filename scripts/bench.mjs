// npm run bench: the benchmarks under bench/, one after the other.

import { basename } from 'node:path';
import { attached, quietly } from './lib/command.mjs';
import { build, buildTypeScript } from './lib/build.mjs';
import { compare } from './lib/compare.mjs';
import { setup } from './lib/setup.mjs';
import { filesUnder, fingerprint, isCurrent, setCurrent } from './lib/stamp.mjs';
import { main, ScriptError, step, unchanged } from './lib/steps.mjs';
import { positive, readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run bench [-- NAME ... [--quick] [--json] [--chart FILE] [--record]]
       npm run bench -- compare COMMIT COMMIT NAME [--rounds N] [--quick] [--json]
       npm run bench -- compare REPORT REPORT [--json]

Runs the benchmarks of bench/ of these names, all of them without a NAME. A NAME there is no benchmark of
stands for those whose names contain it.
  --quick       fewer and shorter rounds (all but frame and judge)
  --json        results as JSON on standard output (the same)
  --record      keep what was counted in bench/instruction-counts.json (instructions)
  --chart FILE  write the results as an SVG (exit, relay, tunnel, xdp)

compare says what differs for certain, what may, and what does not: of two commits, built under
build/compare and run in turn, or of two reports that were printed with --json.
  --rounds N    how often each commit is run, beside a first time that is discarded (default 8)`;

const OPTIONS = {
  quick: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  record: { type: 'boolean', default: false },
  chart: { type: 'string' },
  rounds: { type: 'string', default: '8' },
};

/** They write what --chart asks for. */
const WITH_CHART = ['exit', 'relay', 'tunnel', 'xdp'];
/** They take the other options and need the tools. */
const WITH_TOOLS = [
  'aead',
  'data-path',
  'exit',
  'handshakes',
  'instructions',
  'judge',
  'relay',
  'relay-flood',
  'tunnel',
  'xdp',
];

// Load generators and forwarders: a build of their own, so that `npm test` never waits for them.
async function buildTools() {
  const value = fingerprint(['CMakeLists.txt', 'bench/native', 'native', 'xdp']);
  if (isCurrent('bench', value, ['build/bench/CMakeCache.txt'])) return unchanged('tools of the benchmark');
  await step('tools of the benchmark', async (say) => {
    const options = ['-DOMERTA_BENCH=ON', '-DOMERTA_TESTS=OFF'];
    await quietly('bench', 'cmake', ['-S', '.', '-B', 'build/bench', ...options], { say });
    const target = ['--target', 'omerta_bench'];
    await quietly('bench', 'cmake', ['--build', 'build/bench', ...target], { say, append: true });
  });
  setCurrent('bench', value);
}

await main(async () => {
  const { positionals, values } = readArguments(HELP, OPTIONS, { positionals: true });
  if (positionals[0] === 'compare') {
    const rounds = positive('rounds', values.rounds);
    if (!Number.isInteger(rounds)) throw new ScriptError('--rounds wants a whole number', 2);
    await setup(['build']);
    await buildTypeScript();
    return compare(positionals.slice(1, 3), positionals.slice(3), { ...values, rounds });
  }
  await setup(['build', 'lab']);
  await build({ nativeTests: true });
  const all = filesUnder(['dist/bench'], (file) => file.endsWith('.bench.js'));
  const nameOf = (file) => basename(file, '.bench.js');
  const named = (name) => {
    const exact = all.filter((file) => nameOf(file) === name);
    return exact.length > 0 ? exact : all.filter((file) => nameOf(file).includes(name));
  };
  const wanted = positionals.length === 0 ? all : [...new Set(positionals.flatMap(named))];
  if (wanted.length === 0) {
    console.error(
      `No benchmark ${positionals.join(', ')}. There are: ${all.map(nameOf).join(', ') || 'none'}`,
    );
    return 1;
  }
  const passed = [...(values.quick ? ['--quick'] : []), ...(values.json ? ['--json'] : [])];
  let failed = 0;
  for (const file of wanted) {
    const tools = WITH_TOOLS.includes(nameOf(file));
    if (tools) await buildTools();
    const draws = values.chart !== undefined && WITH_CHART.includes(nameOf(file));
    const records = values.record && nameOf(file) === 'instructions';
    const options = [
      ...(tools ? passed : []),
      ...(records ? ['--record'] : []),
      ...(draws ? ['--chart', values.chart] : []),
    ];
    // Standard output is the results' alone, for --json.
    console.error(`\n# ${nameOf(file)}`);
    if ((await attached(process.execPath, ['--expose-gc', file, ...options])) !== 0) failed++;
  }
  return failed === 0 ? 0 : 1;
});
