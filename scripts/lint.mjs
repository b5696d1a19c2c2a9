// npm run lint, npm run format: every style and type check there is, each reported.

import { join } from 'node:path';
import { hasProgram, quietly } from './lib/command.mjs';
import { floorComplaints } from './lib/floors.mjs';
import { namedFileComplaints } from './lib/named-files.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { filesUnder } from './lib/stamp.mjs';
import { StepFailed, main, step, warn } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run lint [-- --fix]

Runs eslint, prettier, clang-format (native/, xdp/) and the TypeScript compiler, and looks whether any file
imports from a floor above its own or in a circle (scripts/lib/floors.mjs), or a comment or document names a file
that is not there (scripts/lib/named-files.mjs).
  --fix   repair what can be repaired (\`npm run format\` does this)`;

await main(async () => {
  const { values } = readArguments(HELP, { fix: { type: 'boolean', default: false } });
  await setup(['lab']);
  const tool = (path) => [process.execPath, join(root, 'node_modules', path)];
  const cFiles = filesUnder(['native', 'xdp', 'bench/native'], (file) => /\.(h|c|cc)$/.test(file));
  const checks = [
    ['types', [...tool('typescript/bin/tsc'), '-p', '.', '--noEmit', '--incremental', 'false']],
    [
      'eslint',
      [...tool('eslint/bin/eslint.js'), '.', '--max-warnings', '0', ...(values.fix ? ['--fix'] : [])],
    ],
    [
      'prettier',
      [...tool('prettier/bin/prettier.cjs'), '.', values.fix ? '--write' : '--check', '--log-level', 'warn'],
    ],
  ];
  if (!hasProgram('clang-format')) warn('clang-format is not installed: C++ and BPF style is not checked');
  else if (cFiles.length > 0) {
    checks.push([
      'clang-format',
      ['clang-format', ...(values.fix ? ['-i'] : ['--dry-run', '-Werror']), ...cFiles],
    ]);
  }
  let failed = 0;
  const counted = (error) => {
    if (!(error instanceof StepFailed)) throw error;
    failed++;
  };
  const looks = [
    ['floors', floorComplaints, 'imports against the floors'],
    ['named files', namedFileComplaints, 'names of files that are not there'],
  ];
  for (const [title, complaintsOf, what] of looks) {
    await step(title, () => {
      const complaints = complaintsOf();
      if (complaints.length === 0) return;
      throw Object.assign(new Error(`${complaints.length} ${what}`), { detail: complaints.join('\n') });
    }).catch(counted);
  }
  for (const [title, [file, ...args]] of checks) {
    await step(title, (say) => quietly(`lint-${title}`, file, args, { say })).catch(counted);
  }
  return failed === 0 ? 0 : 1;
});
