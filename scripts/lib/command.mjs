// Child processes: quiet ones whose output goes to build/logs/NAME.log, and attached ones.

import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { endDescendantsOnSignal } from './descendants.mjs';
import { root } from './paths.mjs';

function wait(child) {
  endDescendantsOnSignal();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal]));
  });
}

function tail(file, lines) {
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
}

/**
 * Runs a command with its output in build/logs/`name`.log (appended when `append`). Throws an Error
 * whose `detail` is the tail of that log when it exits non-zero.
 */
export async function quietly(name, file, args, { env = {}, cwd = root, append = false, say } = {}) {
  const log = join(root, 'build/logs', `${name}.log`);
  mkdirSync(dirname(log), { recursive: true });
  const stream = createWriteStream(log, { flags: append ? 'a' : 'w' });
  stream.write(`$ ${[file, ...args].join(' ')}\n`);
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const pipe of [child.stdout, child.stderr]) {
    pipe.on('data', (chunk) => {
      stream.write(chunk);
      const line = chunk.toString().trimEnd().split('\n').at(-1);
      if (line) say?.(line);
    });
  }
  const code = await wait(child).finally(() => new Promise((resolve) => stream.end(resolve)));
  if (code === 0) return;
  const error = new Error(
    `${file.split('/').at(-1)} ended with code ${code}; all of its output is in ${relative(root, log)}`,
  );
  error.detail = tail(log, 40);
  throw error;
}

/** Runs a command on this terminal; resolves to its exit code. */
export function attached(file, args, { env = {}, cwd = root } = {}) {
  return wait(spawn(file, args, { cwd, env: { ...process.env, ...env }, stdio: 'inherit' }));
}

/** The standard output of a quick command, undefined when it cannot run or fails. */
export function output(file, args) {
  const result = spawnSync(file, args, { cwd: root, encoding: 'utf8' });
  return result.status === 0 ? result.stdout : undefined;
}

/** Whether a program of this name is in PATH. */
export function hasProgram(name) {
  return output('sh', ['-c', `command -v ${name}`]) !== undefined;
}
