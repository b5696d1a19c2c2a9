// What an operator is told when something cannot be done: one line that names the field, what is
// expected of it, and what to type next; and the exit code scripts can rely on (docs/cli.md).

/** Exit codes of `omerta`. */
export const ExitCode = {
  ok: 0,
  /** Something failed at run time: a port in use, a full disk, an engine that does not load. */
  failure: 1,
  /** A command line, a configuration, a key, an invite or a name that cannot be right. */
  usage: 2,
  notRunning: 3,
  permission: 4,
  unreachable: 5,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** `<field>: <expected>. <next>`; the CLI puts `omerta: ` before it. */
export class OperatorError extends Error {
  constructor(
    readonly exitCode: ExitCode,
    readonly field: string,
    readonly expected: string,
    readonly next: string,
  ) {
    super(`${field}: ${expected}. ${next}`);
    this.name = 'OperatorError';
  }
}

/** The `code` of a system error such as ENOENT, if `error` is one. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Turns a failed file access into a line for the operator. */
export function fileError(field: string, path: string, error: unknown): OperatorError {
  const code = systemErrorCode(error);
  if (code === 'EACCES' || code === 'EPERM')
    return new OperatorError(
      ExitCode.permission,
      field,
      `${path} cannot be opened by this user (${code})`,
      'Run as the user who owns it, or choose another directory with --state DIR',
    );
  return new OperatorError(
    ExitCode.failure,
    field,
    `${path}: ${messageOf(error)}`,
    'Check the path and the file system, or choose another directory with --state DIR',
  );
}
