// The log: pino, one JSON line per event to standard error, or a short readable line when standard
// error is a terminal. Notices of the core carry no secrets, and nothing else is logged.

import { pino, type Logger } from 'pino';
import type { Config } from '../config/config.js';

const LEVEL_NAMES: Readonly<Record<number, string>> = { 20: 'debug', 30: 'info ', 40: 'WARN ', 50: 'ERROR' };

/** One log line for a person: time, level, event, `key=value` pairs. */
export function readableLine(json: string): string {
  const { time, level, msg, ...fields } = JSON.parse(json) as {
    time: number;
    level: number;
    msg?: string;
    [key: string]: unknown;
  };
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${String(value)}`);
  // Control characters of a stranger's choosing must not reach a terminal.
  const line = [new Date(time).toISOString().slice(11, 19), LEVEL_NAMES[level] ?? '', msg ?? '', ...pairs]
    .join(' ')
    // eslint-disable-next-line no-control-regex
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
  return `${line}\n`;
}

/** The daemon's log. */
export function openLog(level: Config['log']['level']): Logger {
  const options = { level, base: null };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ fd: 2, sync: true }));
  return pino(options, { write: (json: string) => void process.stderr.write(readableLine(json)) });
}
