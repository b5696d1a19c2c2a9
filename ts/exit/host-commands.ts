// The programs by which routes, rules and nftables of the host are changed.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, OperatorError, systemErrorCode } from '../host/operator-error.js';

const TIMEOUT_MS = 10_000;
/** Where they are, for who is not root by login. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
const PACKAGES: Readonly<Record<string, string>> = { ip: 'iproute2', nft: 'nftables' };

/** Where a program is, for files that name it. @throws OperatorError when it is not installed. */
export function programPath(file: string): string {
  const found = PATH.split(':')
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => join(folder, file))
    .find((path) => existsSync(path));
  if (found === undefined) throw notInstalled(file);
  return found;
}

/** A program said no. */
export class HostCommandError extends Error {
  constructor(
    readonly command: string,
    /** What it said, in one line. */
    readonly said: string,
  ) {
    super(`${command}: ${said}`);
    this.name = 'HostCommandError';
  }
}

/** Runs a program to its end and returns what it printed; tests give another. */
export type RunCommand = (file: string, args: readonly string[], input?: string) => Promise<string>;

/** @throws HostCommandError; OperatorError when the program is not installed. */
export const runCommand: RunCommand = (file, args, input = '') =>
  new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
      env: { ...process.env, PATH, LC_ALL: 'C' },
    });
    let printed = '';
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    child.on('error', (error) => reject(systemErrorCode(error) === 'ENOENT' ? notInstalled(file) : error));
    child.on('close', (code) => {
      if (code === 0) resolve(printed);
      else
        reject(
          new HostCommandError(
            [file, ...args].join(' '),
            explained(firstLine(said)) ?? `it ended with ${code === null ? 'a signal' : `code ${code}`}`,
          ),
        );
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });

/** What the kernel answers nft where there is no room, and what that means. */
const NO_ROOM: readonly (readonly [RegExp, string])[] = [
  [/Too many open files in system/, 'a set of nftables is full'],
  [/No space left on device/, 'a set or table of nftables is full'],
  [
    /No buffer space available|Message too long/,
    'the kernel takes no change as large as this: net.core.wmem_max',
  ],
  [/Cannot allocate memory/, 'the kernel has no memory for it'],
];

function explained(said: string | undefined): string | undefined {
  const meaning = said && NO_ROOM.find(([answer]) => answer.test(said))?.[1];
  return meaning ? `${said} (${meaning})` : said;
}

const firstLine = (text: string): string | undefined =>
  text
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line !== '');

/** A program that is missing, with the command that installs it. */
export function notInstalled(file: string): OperatorError {
  return new OperatorError(
    ExitCode.failure,
    file,
    'it is not installed, and an exit cannot be set up without it',
    `Type: apt-get install ${PACKAGES[file] ?? file}`,
  );
}
