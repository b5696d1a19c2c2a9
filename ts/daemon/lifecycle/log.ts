// The log: pino, one JSON line per event to standard error, or a short readable line when standard
// error is a terminal. Notices of the core carry no secrets, and nothing else is logged.
//
// The log may lose lines, and nothing else may: a line that cannot be written is counted, and so is
// one held back because its event and identity had too many. Both are said in the log, in the status
// and in the metrics.

import { performance } from 'node:perf_hooks';
import { isatty } from 'node:tty';
import { pino, type Logger } from 'pino';
import type { Config } from '../config/config.js';
import { LineLimiter } from '../../host/line-limiter.js';
import { NonBlockingOutput } from '../../host/non-blocking-output.js';
import type { LogStatus } from '../../status/model/daemon-status.js';

const LEVEL_NAMES: Readonly<Record<number, string>> = { 20: 'debug', 30: 'info ', 40: 'WARN ', 50: 'ERROR' };
const STANDARD_ERROR = 2;
/** Of one event about one identity: enough to see it flap, too few to fill a disk. */
const PER_SUBJECT = { burst: 10, everyMs: 30_000 } as const;
/** Of one event about anybody. */
const PER_EVENT = { burst: 500, everyMs: 500 } as const;
/** Fields that say whom or what an event is about. */
const SUBJECTS = ['peer', 'member', 'what', 'address'] as const;

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

/** What takes lines: standard error, or a test's. */
export interface LineOutput {
  write(line: string): void;
  status(): { readonly lost: number; readonly error: string | undefined };
}

export interface DaemonLog {
  readonly logger: Logger;
  readonly status: () => LogStatus;
}

/** A log that writes to `output`; `readable` for a terminal. `now` is in ms and never goes back. */
export function makeLog(
  level: Config['log']['level'],
  output: LineOutput,
  readable: boolean,
  now: () => number = () => performance.now(),
): DaemonLog {
  const perSubject = new LineLimiter(PER_SUBJECT);
  const perEvent = new LineLimiter(PER_EVENT);
  const logger = pino(
    {
      level,
      base: null,
      hooks: {
        logMethod(args, method) {
          const [fields, event] = args as unknown as [Record<string, unknown> | string, string | undefined];
          const name = typeof fields === 'string' ? fields : (event ?? '');
          const subject =
            typeof fields === 'string'
              ? ''
              : SUBJECTS.flatMap((key) => (typeof fields[key] === 'string' ? [fields[key]] : [])).join(' ');
          const held = perSubject.take(`${name} ${subject}`, now());
          const others = held === undefined ? undefined : perEvent.take(name, now());
          if (held === undefined || others === undefined) return;
          if (held + others === 0) method.apply(this, args);
          else
            method.apply(this, [
              { ...(typeof fields === 'string' ? {} : fields), heldBack: held + others },
              name,
            ] as unknown as typeof args);
        },
      },
    },
    { write: (json: string) => output.write(readable ? readableLine(json) : json) },
  );
  return {
    logger,
    status: () => ({ ...output.status(), heldBack: perSubject.held + perEvent.held }),
  };
}

/** The daemon's log on standard error. */
export function openLog(level: Config['log']['level']): DaemonLog {
  const readable = isatty(STANDARD_ERROR);
  const lostLine = (lines: number): string => {
    const json = JSON.stringify({ level: 40, time: Date.now(), lines, msg: 'log-lines-lost' });
    return readable ? readableLine(json) : `${json}\n`;
  };
  return makeLog(level, new NonBlockingOutput(STANDARD_ERROR, lostLine), readable);
}
