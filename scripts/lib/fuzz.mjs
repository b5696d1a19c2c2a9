// Fuzz targets of both languages as one list: libFuzzer's (native/fuzz, built by clang with
// AddressSanitizer and UBSan into build/fuzz) and TypeScript's (test/fuzz/targets, driven by
// test/fuzz/harness). Each starts from test/fuzz/corpus/TARGET and test/fuzz/regressions/TARGET.

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { output, quietly, hasProgram } from './command.mjs';
import { root } from './paths.mjs';
import { filesUnder, fingerprint, isCurrent, setCurrent } from './stamp.mjs';
import { ScriptError, step, unchanged } from './steps.mjs';

const CRASHES = 'build/fuzz/crashes';
const HARNESS = join(root, 'dist/test/fuzz/harness/main.js');
/** How long libFuzzer, or the harness, may look for a smaller input that breaks the same. */
const MINIMISE_SECONDS = 20;

/** Why the native targets cannot be built here; undefined when they can. */
export function fuzzingUnavailable() {
  for (const program of ['clang++', 'cmake']) if (!hasProgram(program)) return `${program} is not installed`;
  const runtime = output('clang++', ['-print-file-name=libclang_rt.fuzzer-x86_64.a'])?.trim() ?? '';
  // clang prints the bare name when it does not find the file.
  if (!runtime.includes('/'))
    return "clang's runtime is not installed. Type: sudo apt-get install libclang-rt-14-dev";
  return undefined;
}

/** Builds the native targets; resolves to them as `{ name, executable }`. */
export async function buildFuzzers() {
  const value = fingerprint(['CMakeLists.txt', 'native']);
  if (isCurrent('fuzz', value, ['build/fuzz'])) unchanged('fuzz targets');
  else {
    await step('fuzz targets', async (say) => {
      const generator = hasProgram('ninja') ? ['-G', 'Ninja'] : [];
      const options = [
        '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
        '-DOMERTA_FUZZ=ON',
        '-DOMERTA_TESTS=OFF',
        '-DOMERTA_SANITIZE=address,undefined',
      ];
      const compilers = ['-DCMAKE_C_COMPILER=clang', '-DCMAKE_CXX_COMPILER=clang++'];
      await quietly(
        'fuzz-build',
        'cmake',
        ['-S', '.', '-B', 'build/fuzz', ...generator, ...options, ...compilers],
        { say },
      );
      const jobs = String(availableParallelism());
      const build = ['--build', 'build/fuzz', '--target', 'omerta_fuzzers', '--parallel', jobs];
      await quietly('fuzz-build', 'cmake', build, { say, append: true });
    });
    setCurrent('fuzz', value);
  }
  // A target that was renamed leaves its executable behind: only those with a source are run.
  return filesUnder(['native/fuzz'], (file) => /\/fuzz_\w+\.cc$/.test(file)).map((file) => {
    const name = basename(file, '.cc');
    return { name, executable: join(root, 'build/fuzz/native/fuzz', name) };
  });
}

/** The TypeScript targets, compiled by `npm run build`, as `{ name, executable, script }`. */
export function scriptTargets() {
  return filesUnder(['test/fuzz/targets'], (file) => file.endsWith('.ts')).map((file) => {
    const name = basename(file, '.ts');
    return { name, executable: process.execPath, script: join(root, `dist/test/fuzz/targets/${name}.js`) };
  });
}

/** Where a target's inputs are, those of the folders that exist. */
function inputFolders(name) {
  return ['corpus', 'regressions']
    .map((kind) => join(root, 'test/fuzz', kind, name))
    .filter((folder) => existsSync(folder));
}

/** How many inputs a target has. */
function inputsOf(name) {
  return inputFolders(name).reduce((sum, folder) => sum + readdirSync(folder).length, 0);
}

function command(target, script, native) {
  return target.script === undefined ? native : [HARNESS, target.script, ...script];
}

async function execute(target, args, options) {
  const profile = join(root, 'build/fuzz/profiles', `${target.name}.profraw`);
  mkdirSync(dirname(profile), { recursive: true });
  const env = { LLVM_PROFILE_FILE: profile, ...options.env };
  await quietly(`fuzz-${target.name}`, target.executable, args, { ...options, env });
}

async function replay(target, options) {
  const crashes = crashFolder(target);
  const folders = inputFolders(target.name);
  const args = command(
    target,
    ['replay', crashes, ...folders],
    ['-runs=0', '-timeout=10', `-artifact_prefix=${crashes}/`, ...folders],
  );
  await execute(target, args, options);
}

/** Runs a target over the inputs it has, and makes none up. `lines`: where to write which lines ran. */
export async function replayTarget(target, { lines } = {}) {
  await step(`fuzz ${target.name}: ${inputsOf(target.name)} inputs`, (say) =>
    replay(target, { say, env: lines === undefined ? {} : { OMERTA_FUZZ_LINES: lines } }),
  );
}

/**
 * Runs each target for so many seconds, which begins with every input it has, as many targets at a time as there
 * are processors. `failed(target, error)` is called for each that breaks, `passed()` for each that does not.
 */
export async function tryTargets(targets, seconds, { passed, failed, say }) {
  const left = [...targets];
  const lane = async () => {
    for (let target = left.shift(); target !== undefined; target = left.shift()) {
      say(target.name);
      try {
        await fuzz(target, seconds, 1, {});
        passed();
      } catch (error) {
        failed(target, error);
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, lane));
}

function crashFolder(target) {
  const folder = join(root, CRASHES, target.name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * Runs one target for so many seconds. New inputs go to a temporary folder: a run must not grow the
 * corpus in git. `keep` merges those that reach new code into the corpus, and leaves out what the
 * others reach too. `seed` begins the sequence of mutations. A crash is an error, with the input kept under build/fuzz/crashes.
 */
export async function runFuzzer(target, seconds, { keep = false, seed = 1 } = {}) {
  await step(`fuzz ${target.name}, ${seconds} s`, (say) => fuzz(target, seconds, seed, { keep, say }));
}

async function fuzz(target, seconds, seed, { keep = false, say }) {
  const corpus = join(root, 'test/fuzz/corpus', target.name);
  const crashes = crashFolder(target);
  const found = mkdtempSync(join(tmpdir(), `omerta-fuzz-${target.name}-`));
  try {
    const folders = inputFolders(target.name);
    const limits = [
      `-max_total_time=${seconds}`,
      `-seed=${seed}`,
      '-timeout=10',
      '-rss_limit_mb=2048',
      `-artifact_prefix=${crashes}/`,
    ];
    const args = command(
      target,
      ['fuzz', String(seconds), String(seed), crashes, found, ...folders],
      [...limits, found, ...folders],
    );
    await execute(target, args, { say });
    if (keep) await minimiseCorpus(target, corpus, found, say);
  } finally {
    rmSync(found, { recursive: true, force: true });
  }
}

/** The fewest and smallest inputs that reach what corpus and found inputs reach become the corpus. */
async function minimiseCorpus(target, corpus, found, say) {
  const merged = mkdtempSync(join(tmpdir(), `omerta-corpus-${target.name}-`));
  try {
    const from = [...(existsSync(corpus) ? [corpus] : []), found];
    const args = command(
      target,
      ['merge', merged, ...from],
      ['-merge=1', '-use_counters=0', merged, ...from],
    );
    await execute(target, args, { say, append: true });
    rmSync(corpus, { recursive: true, force: true });
    mkdirSync(corpus, { recursive: true });
    for (const name of readdirSync(merged)) {
      copyFileSync(join(merged, name), join(corpus, contentName(join(merged, name))));
    }
  } finally {
    rmSync(merged, { recursive: true, force: true });
  }
}

/** Inputs are named by what they hold, so that the same one is there once. */
function contentName(file) {
  return createHash('sha1').update(readFileSync(file)).digest('hex').slice(0, 16);
}

/** Whether a target breaks by this input alone. */
async function breaks(target, path, say) {
  const scratch = mkdtempSync(join(tmpdir(), 'omerta-crash-'));
  try {
    const native = ['-timeout=10', `-artifact_prefix=${scratch}/`, path];
    await execute(target, command(target, ['run', path], native), { say });
    return false;
  } catch (error) {
    if (error.detail === undefined) throw error; // it could not be started
    return true;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * Makes a crash a regression: the smallest input found that breaks the target too goes to
 * test/fuzz/regressions/TARGET, where every run replays it. `file` is under build/fuzz/crashes/TARGET.
 * @throws StepFailed when the input breaks nothing any more; then nothing is kept.
 */
export async function saveCrash(file, targets) {
  const path = resolve(process.cwd(), file);
  if (!existsSync(path) || !statSync(path).isFile()) throw new ScriptError(`--save ${file}: no such file`, 2);
  const name = basename(dirname(path));
  const target = targets.find((candidate) => candidate.name === name);
  if (target === undefined)
    throw new ScriptError(
      `--save ${file}: the file's folder names no target; give one of ${CRASHES}/TARGET/`,
      2,
    );
  const smaller = join(mkdtempSync(join(tmpdir(), 'omerta-crash-')), 'input');
  try {
    const args = command(
      target,
      ['minimise', String(MINIMISE_SECONDS), path, smaller],
      [
        '-minimize_crash=1',
        `-max_total_time=${MINIMISE_SECONDS}`,
        '-timeout=10',
        `-exact_artifact_path=${smaller}`,
        path,
      ],
    );
    await step(`the smallest input of ${name} that breaks it`, async (say) => {
      if (!(await breaks(target, path, say)))
        throw new Error(
          `${name} does not break by ${file} any more, so nothing was kept. ` +
            `To have it replayed all the same: cp ${file} test/fuzz/corpus/${name}/`,
        );
      // libFuzzer also fails when the first input is the smallest already.
      await execute(target, args, { say }).catch(() => undefined);
      const from = existsSync(smaller) && statSync(smaller).size > 0 ? smaller : path;
      const folder = join(root, 'test/fuzz/regressions', name);
      mkdirSync(folder, { recursive: true });
      const saved = join(folder, contentName(from));
      copyFileSync(from, saved);
      return `${statSync(path).size} bytes became ${statSync(saved).size}, in ${relative(root, saved)}`;
    });
  } finally {
    rmSync(dirname(smaller), { recursive: true, force: true });
  }
}
