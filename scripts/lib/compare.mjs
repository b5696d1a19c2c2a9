// npm run bench -- compare: two commits, built side by side and run in turn, or two reports.

import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { attached, output, quietly } from './command.mjs';
import { endDescendantsOnSignal } from './descendants.mjs';
import { root } from './paths.mjs';
import { ScriptError } from './steps.mjs';

const FOLDER = 'build/compare';

/** The full hash of a commit; undefined when it is none. */
const commitOf = (text) => output('git', ['rev-parse', '--verify', '--quiet', `${text}^{commit}`])?.trim();

/** A tree of that commit, kept for the next time. */
async function treeOf(commit) {
  const tree = join(root, FOLDER, commit.slice(0, 12));
  if (existsSync(join(tree, 'package.json'))) return tree;
  await quietly('compare', 'git', ['worktree', 'prune'], { append: true });
  await quietly('compare', 'git', ['worktree', 'add', '--detach', tree, commit], { append: true });
  return tree;
}

/** Runs a benchmark of a tree; what it prints goes to `file`, once it is whole. */
async function measure(tree, name, options, file) {
  endDescendantsOnSignal();
  const args = ['run', '--silent', 'bench', '--', name, '--json', ...options];
  const child = spawn('npm', args, { cwd: tree, stdio: ['ignore', 'pipe', 'inherit'] });
  const parts = [];
  child.stdout.on('data', (part) => parts.push(part));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new ScriptError(`the benchmark ${name} in ${tree} ended with ${code}`);
  writeFileSync(`${file}.part`, Buffer.concat(parts));
  renameSync(`${file}.part`, file);
}

/**
 * @param sides two files or two commits
 * @param names benchmarks, for commits
 * @returns exit code
 */
export async function compare(sides, names, { rounds, quick, json }) {
  const [before, after] = sides;
  const program = join(root, 'dist/bench/compare/main.js');
  const show = (older, newer) =>
    attached(process.execPath, [
      program,
      ...older.flatMap((file) => ['--before', file]),
      ...newer.flatMap((file) => ['--after', file]),
      ...(json ? ['--json'] : []),
    ]);
  if (sides.length === 2 && sides.every((side) => existsSync(side)) && names.length === 0)
    return show([before], [after]);
  const commits = sides.map(commitOf);
  const unknown = sides.find((_, index) => commits[index] === undefined);
  if (sides.length !== 2 || unknown !== undefined || names.length !== 1)
    throw new ScriptError(
      `compare: ${unknown === undefined ? 'it wants two commits and one benchmark, or two reports' : `"${unknown}" is neither a commit nor a file`}.` +
        '\nType for example: npm run bench -- compare main~1 main data-path',
      2,
    );
  if (commits[0] === commits[1]) throw new ScriptError('compare: both are the same commit', 2);
  const [name] = names;
  const trees = [await treeOf(commits[0]), await treeOf(commits[1])];
  const options = quick ? ['--quick'] : [];
  const results = join(
    root,
    FOLDER,
    [...commits.map((each) => each.slice(0, 12)), name, ...(quick ? ['quick'] : [])].join('-'),
  );
  mkdirSync(results, { recursive: true });
  const files = (side, count) =>
    Array.from({ length: count }, (_, round) => join(results, `${round}-${side}.json`));
  const [older, newer] = [files('before', rounds + 1), files('after', rounds + 1)];
  for (let round = 0; round <= rounds; round++) {
    const turn = [
      [trees[0], older[round]],
      [trees[1], newer[round]],
    ];
    // In reverse order every other time; what an interrupted run has measured is kept.
    for (const [tree, file] of round % 2 === 0 ? turn : turn.reverse()) {
      if (existsSync(file)) continue;
      console.error(`\n# ${round === 0 ? 'a round to warm up' : `round ${round} of ${rounds}`}`);
      await measure(tree, name, options, file);
    }
  }
  const code = await show(older.slice(1), newer.slice(1));
  rmSync(results, { recursive: true });
  return code;
}
