// The state directory: where a node keeps its identity, networks and store. Only its owner may look
// in; a file is either whole or not there (written aside, flushed, renamed).

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { makeFolders } from '../../host/make-folders.js';
import { ExitCode, OperatorError, fileError, systemErrorCode } from '../../host/operator-error.js';

/** Every path inside a state directory. */
export class StateDirectory {
  readonly path: string;
  constructor(path: string) {
    this.path = resolve(path);
  }
  get identityKey(): string {
    return join(this.path, 'identity.key');
  }
  get sessionKey(): string {
    return join(this.path, 'session.key');
  }
  get networks(): string {
    return join(this.path, 'networks');
  }
  get store(): string {
    return join(this.path, 'store');
  }
  get config(): string {
    return join(this.path, 'omerta.toml');
  }
  get socket(): string {
    return join(this.path, 'omerta.sock');
  }
  /** What the operator typed about exits. */
  get exitSettings(): string {
    return join(this.path, 'exit.json');
  }
  /** What the operator typed about LANs behind members. */
  get routeSettings(): string {
    return join(this.path, 'routes.json');
  }
  /** What undoes what was changed on the host for an exit. */
  get exitJournal(): string {
    return join(this.path, 'exit-journal.json');
  }
  /** What guest machines boot from. */
  get guestImages(): string {
    return join(this.path, 'images');
  }
  /** A file for each guest machine that runs. */
  get machines(): string {
    return join(this.path, 'machines');
  }
  get log(): string {
    return join(this.path, 'omerta.log');
  }

  /** Creates it with mode 0700 if it is not there; refuses one that others can look into. */
  prepare(): void {
    try {
      makeFolders(this.path, 0o700);
    } catch (error) {
      throw fileError('state', this.path, error);
    }
    requirePrivate('state', this.path);
  }

  /** Whether it exists. */
  exists(): boolean {
    return statSync(this.path, { throwIfNoEntry: false })?.isDirectory() === true;
  }
}

/** The home directory the password database names; undefined for a user it does not know. */
function passwordDatabaseHome(): string | undefined {
  try {
    return userInfo().homedir;
  } catch {
    return undefined;
  }
}

/**
 * The directory used without `--state`: $OMERTA_STATE, or the place the system has for it.
 * @param home what takes the place of a HOME that is not an absolute path.
 * @throws OperatorError when nothing names a home directory.
 */
export function defaultStatePath(
  environment: NodeJS.ProcessEnv,
  isRoot: boolean,
  home: () => string | undefined = passwordDatabaseHome,
): string {
  const chosen = environment['OMERTA_STATE'];
  if (chosen !== undefined && chosen !== '') return chosen;
  if (isRoot) return '/var/lib/omerta';
  const xdg = environment['XDG_STATE_HOME'];
  // The XDG base directory specification: a relative path is invalid and ignored.
  if (xdg?.startsWith('/') === true) return join(xdg, 'omerta');
  const found = [environment['HOME'], home()].find((path) => path !== undefined && isAbsolute(path));
  if (found !== undefined) return join(found, '.local/state/omerta');
  throw new OperatorError(
    ExitCode.usage,
    'state',
    'HOME is not an absolute path and the password database has no home directory for this user, so there is no place for it',
    'Name one with --state DIR, or with OMERTA_STATE',
  );
}

/** Refuses a file or directory that group or others have any access to, or that somebody else owns. */
export function requirePrivate(field: string, path: string): void {
  let mode: number;
  let isDirectory: boolean;
  try {
    const stat = statSync(path);
    mode = stat.mode & 0o777;
    isDirectory = stat.isDirectory();
    requireOwner(field, path, stat.uid);
  } catch (error) {
    throw error instanceof OperatorError ? error : fileError(field, path, error);
  }
  if ((mode & 0o077) === 0) return;
  const wanted = isDirectory ? '0700' : '0600';
  throw new OperatorError(
    ExitCode.permission,
    field,
    `${path} has mode 0${mode.toString(8)}, ${wanted} is needed: it holds secrets`,
    `Type: chmod ${wanted} ${path}`,
  );
}

/** Whoever owns a file can change it: that has to be us, or root, who can anyway. */
function requireOwner(field: string, path: string, owner: number): void {
  const self = process.geteuid?.() ?? owner;
  if (owner === self || owner === 0) return;
  throw new OperatorError(
    ExitCode.permission,
    field,
    `${path} belongs to user ${owner}, who could change what user ${self} runs by`,
    `Run as user ${owner}, choose another directory with --state DIR, or type: chown -R ${self} ${path}`,
  );
}

/** Reads a secret text file; undefined when it is not there. */
export function readPrivate(field: string, path: string): string | undefined {
  try {
    const text = readFileSync(path, 'utf8');
    requirePrivate(field, path);
    return text;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error instanceof OperatorError ? error : fileError(field, path, error);
  }
}

/**
 * Writes a secret file with mode 0600: whole or not at all, also when the power fails.
 * @param mode `create` refuses to overwrite (throws the system's EEXIST), `replace` does not.
 */
export function writePrivate(field: string, path: string, text: string, mode: 'create' | 'replace'): void {
  const aside = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const file = openSync(aside, 'wx', 0o600);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    if (mode === 'replace') renameSync(aside, path);
    else {
      linkSync(aside, path); // link, unlike rename, fails when the name is taken
      unlinkSync(aside);
    }
    const directory = openSync(dirname(path), 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  } catch (error) {
    try {
      unlinkSync(aside);
    } catch {
      // It was never created, or is in place already.
    }
    if (mode === 'create' && systemErrorCode(error) === 'EEXIST') throw error;
    throw fileError(field, path, error);
  }
}
