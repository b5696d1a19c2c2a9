// Drives one TypeScript fuzz target; scripts/lib/fuzz.mjs calls it. TARGET is a compiled file of
// test/fuzz/targets, FOLDERs hold inputs.
//
//   main.js TARGET replay CRASHES FOLDER…               every input and every seed once
//   main.js TARGET run INPUT                            that input alone
//   main.js TARGET fuzz SECONDS SEED CRASHES NEW FOLDER…   mutates; what reaches new code goes to NEW
//   main.js TARGET merge INTO FOLDER…                   the smallest inputs that reach what all reach
//   main.js TARGET minimise SECONDS CRASH INTO          a smaller input that breaks the target, too
//
// With OMERTA_FUZZ_LINES=FILE, replay writes there which lines ran, as JSON.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { concat, utf8 } from '../../../ts/wire/bytes.js';
import { generator } from '../../../ts/lab/seeded-random.js';
import { Coverage } from './coverage.js';
import { Mutator } from './mutate.js';
import type { FuzzTarget } from './target.js';

/** What no input may need: a fixed part, and one that grows with its bytes. */
const SLOWEST_MS = 50;
const SLOWEST_MS_PER_BYTE = 0.05;
/** Inputs between two looks at the coverage. */
const BATCH = 64;

const [, , file = '', command = '', ...rest] = process.argv;
// Begins before the target is loaded, so that the code that runs on loading does not count as newly reached.
const coverage = new Coverage();
const { default: target } = (await import(pathToFileURL(file).href)) as { readonly default: FuzzTarget };
const seeds = await target.seeds();
coverage.take();

async function timed(input: Uint8Array): Promise<number> {
  const start = performance.now();
  await target.run(input.slice());
  return performance.now() - start;
}

/** Runs one input; throws what it throws, or that it takes too long, again and again. */
async function once(input: Uint8Array): Promise<void> {
  const limit = SLOWEST_MS + SLOWEST_MS_PER_BYTE * input.length;
  let took = await timed(input);
  if (target.timed === false) return;
  // A machine with more to do than this may be slow once, and twice; it is not slow each time.
  for (let again = 0; took > limit && again < 5; again++) took = Math.min(took, await timed(input));
  if (took > limit) throw new Error(`${input.length} bytes take ${took.toFixed(0)} ms`);
}

function nameOf(input: Uint8Array): string {
  return createHash('sha1').update(input).digest('hex').slice(0, 16);
}

function inputsIn(folders: readonly string[]): Uint8Array[] {
  return folders.flatMap((folder) =>
    readdirSync(folder)
      .sort()
      .map((name) => new Uint8Array(readFileSync(join(folder, name)))),
  );
}

class Broken extends Error {}

/** Runs one input; what breaks is kept in `crashes` and reported. */
async function guarded(input: Uint8Array, crashes: string): Promise<void> {
  try {
    await once(input);
  } catch (error) {
    mkdirSync(crashes, { recursive: true });
    const path = join(crashes, `crash-${nameOf(input)}`);
    writeFileSync(path, input);
    console.error(error);
    console.error(`input: ${JSON.stringify(Buffer.from(input).toString('latin1'))}`);
    throw new Broken(`the input is in ${path}`);
  }
}

async function run([path = '']: readonly string[]): Promise<void> {
  await once(new Uint8Array(readFileSync(path)));
}

async function replay([crashes = '', ...folders]: readonly string[]): Promise<void> {
  for (const input of [...seeds, ...inputsIn(folders)]) await guarded(input, crashes);
  const lines = process.env['OMERTA_FUZZ_LINES'];
  if (lines === undefined) return;
  coverage.take();
  writeFileSync(lines, JSON.stringify(coverage.lines()));
}

async function fuzz([seconds, seed, crashes = '', fresh = '', ...folders]: readonly string[]): Promise<void> {
  const end = performance.now() + Number(seconds) * 1000;
  const random = generator(Number(seed));
  const words = (target.dictionary ?? []).map((word) => (typeof word === 'string' ? utf8(word) : word));
  const mutator = new Mutator(random, words);
  const pool = [...seeds, ...inputsIn(folders)];
  if (pool.length === 0) pool.push(new Uint8Array());
  for (const input of pool) await guarded(input, crashes);
  coverage.take();
  let runs = 0;
  let found = 0;
  while (performance.now() < end) {
    const batch: Uint8Array[] = [];
    while (batch.length < BATCH && performance.now() < end) {
      // The newest inputs lie on the edge of what is known.
      const from = random() < 0.5 ? mutator.pick(pool) : mutator.pick(pool.slice(-16));
      const input =
        (random() < 0.5 ? target.mutate?.(from, random) : undefined) ??
        mutator.change(from, mutator.pick(pool));
      batch.push(input);
      await guarded(input, crashes);
      runs++;
    }
    if (coverage.look() === 0) continue;
    // One of the batch reached new code: each alone tells which.
    for (const input of batch) {
      await target.run(input.slice());
      if (coverage.take() === 0) continue;
      pool.push(input);
      found++;
      writeFileSync(join(fresh, nameOf(input)), input);
    }
  }
  console.log(`${runs} runs, ${found} inputs reached new code`);
}

async function merge([into = '', ...folders]: readonly string[]): Promise<void> {
  // What the seeds reach is reached without a corpus.
  for (const input of seeds) await target.run(input.slice());
  coverage.take();
  for (const input of inputsIn(folders).sort((a, b) => a.length - b.length)) {
    await target.run(input.slice());
    if (coverage.take() > 0) writeFileSync(join(into, nameOf(input)), input);
  }
}

async function breaks(input: Uint8Array): Promise<boolean> {
  return once(input).then(
    () => false,
    () => true,
  );
}

/** Takes away ever smaller pieces for as long as it goes on breaking, then makes bytes zero. */
async function minimise([seconds, crash = '', into = '']: readonly string[]): Promise<void> {
  const end = performance.now() + Number(seconds) * 1000;
  let input: Uint8Array = new Uint8Array(readFileSync(crash));
  if (!(await breaks(input))) throw new Error(`${crash} does not break it any more`);
  for (let piece = input.length; piece >= 1 && performance.now() < end; piece = Math.floor(piece / 2)) {
    for (let at = 0; at < input.length && performance.now() < end;) {
      const shorter = concat(input.subarray(0, at), input.subarray(at + piece));
      if (shorter.length < input.length && (await breaks(shorter))) input = shorter;
      else at += piece;
    }
  }
  writeFileSync(into, input);
}

const commands: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  run,
  replay,
  fuzz,
  merge,
  minimise,
};
try {
  const work = commands[command];
  if (work === undefined) throw new Error(`no command "${command}"`);
  await work(rest);
} catch (error) {
  if (error instanceof Broken) console.error(error.message);
  else console.error(error);
  process.exitCode = 1;
} finally {
  await target.close?.();
}
