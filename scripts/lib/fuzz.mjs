// libFuzzer targets: built by clang with AddressSanitizer into build/fuzz, run over test/fuzz/corpus.

import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { output, quietly, hasProgram } from './command.mjs';
import { root } from './paths.mjs';
import { filesUnder, fingerprint, isCurrent, setCurrent } from './stamp.mjs';
import { step, unchanged } from './steps.mjs';

/** Why fuzzers cannot be built here; undefined when they can. */
export function fuzzingUnavailable() {
  for (const program of ['clang++', 'cmake']) if (!hasProgram(program)) return `${program} is not installed`;
  const runtime = output('clang++', ['-print-file-name=libclang_rt.fuzzer-x86_64.a'])?.trim() ?? '';
  // clang prints the bare name when it does not find the file.
  if (!runtime.includes('/'))
    return "clang's runtime is not installed. Type: sudo apt-get install libclang-rt-14-dev";
  return undefined;
}

/** Builds the targets; resolves to their executables. */
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
        '-DOMERTA_SANITIZE=address',
      ];
      const compilers = ['-DCMAKE_C_COMPILER=clang', '-DCMAKE_CXX_COMPILER=clang++'];
      await quietly(
        'fuzz-build',
        'cmake',
        ['-S', '.', '-B', 'build/fuzz', ...generator, ...options, ...compilers],
        { say },
      );
      const jobs = String(availableParallelism());
      await quietly('fuzz-build', 'cmake', ['--build', 'build/fuzz', '--parallel', jobs], {
        say,
        append: true,
      });
    });
    setCurrent('fuzz', value);
  }
  return filesUnder(
    ['build/fuzz/native/fuzz'],
    (file) => isExecutable(file) && !file.includes('/CMakeFiles/'),
  );
}

function isExecutable(file) {
  return !/\.\w+$/.test(file) && (statSync(file).mode & 0o111) !== 0;
}

/**
 * Runs one target for so many seconds. New inputs go to a temporary folder: a smoke run must not
 * grow the corpus in git. `keep` merges those that reach new code into the corpus. A crash is an
 * error, with the input kept under build/fuzz/crashes.
 */
export async function runFuzzer(executable, seconds, { keep = false } = {}) {
  const target = basename(executable);
  const corpus = join(root, 'test/fuzz/corpus', target);
  const crashes = join(root, 'build/fuzz/crashes', target);
  mkdirSync(crashes, { recursive: true });
  const found = mkdtempSync(join(tmpdir(), `omerta-fuzz-${target}-`));
  try {
    if (keep) mkdirSync(corpus, { recursive: true });
    const seeds = existsSync(corpus) ? [corpus] : [];
    await step(`fuzz ${target}, ${seconds} s`, async (say) => {
      const limits = [
        `-max_total_time=${seconds}`,
        '-timeout=10',
        '-rss_limit_mb=2048',
        `-artifact_prefix=${crashes}/`,
      ];
      await quietly(`fuzz-${target}`, executable, [...limits, found, ...seeds], { say });
      if (keep)
        await quietly(`fuzz-${target}`, executable, ['-merge=1', corpus, found], { say, append: true });
    });
  } finally {
    rmSync(found, { recursive: true, force: true });
  }
}
