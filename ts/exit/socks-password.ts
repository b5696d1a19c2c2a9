// The password that clients of a SOCKS proxy are asked for: a file of one line, closed to others.

import { readPrivate } from '../daemon/state/state-directory.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import type { SocksPassword } from './socks-protocol.js';

/** @param field what names the file. @throws OperatorError */
export function readSocksPassword(field: string, file: string): SocksPassword {
  const text = readPrivate(field, file)?.replace(/\r?\n$/, '');
  if (text === undefined)
    throw new OperatorError(
      ExitCode.usage,
      field,
      `${file} does not exist`,
      'Write one line USER:PASSWORD into it, and close it to others: chmod 600',
    );
  const [, user, password] = /^([^:\n]{1,255}):([^\n]{1,255})$/.exec(text) ?? [];
  if (user !== undefined && password !== undefined) return { user, password };
  throw new OperatorError(
    ExitCode.usage,
    field,
    `${file} does not hold one line USER:PASSWORD of at most 255 characters each`,
    'Write it, and close it to others: chmod 600',
  );
}
