// The system's ping as a measuring instrument.

import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import type { Namespace } from './namespace.js';
import { percentile } from './statistics.js';

export interface PingReply {
  readonly sequence: number;
  readonly milliseconds: number;
}

export interface PingResult {
  readonly sent: number;
  readonly lost: number;
  /** Round-trip times in ms; undefined when nothing came back. */
  readonly p50: number | undefined;
  readonly p99: number | undefined;
  readonly max: number | undefined;
}

/** Reads one line of ping's output; undefined when it is no reply, or a duplicate. */
export function parseReply(line: string): PingReply | undefined {
  if (line.includes('DUP!')) return undefined;
  const match = /icmp_seq=(\d+) .*time=([\d.]+) ms/.exec(line);
  return match === null ? undefined : { sequence: Number(match[1]), milliseconds: Number(match[2]) };
}

/** So long without a reply is a gap. */
const GAP_MS = 200;
/** For replies, after the time the pings take to send. */
const PATIENCE_SECONDS = 10;

/**
 * Sends `count` pings, `intervalMs` apart (at least 2), and waits for their replies. While one is missing it
 * goes on sending, because ping(8) waits for the last one only twice the longest time it saw; what it sends
 * beyond `count` is not counted. `options` are further ones of ping(8).
 */
export async function ping(
  from: Namespace,
  address: string,
  count: number,
  intervalMs: number,
  ...options: readonly string[]
): Promise<PingResult> {
  const seconds = Math.ceil((count * intervalMs) / 1000) + PATIENCE_SECONDS;
  const args = [
    '-n',
    '-c',
    String(count),
    '-i',
    String(intervalMs / 1000),
    '-w',
    String(seconds),
    ...options,
    address,
  ];
  const { stdout, stderr } = await from.run('ping', args, { timeoutMs: count * intervalMs * 3 + 30_000 });
  const summary = /(\d+) packets transmitted/.exec(stdout);
  if (summary === null) throw new Error(`ping ${address} in ${from.name} said: ${(stderr || stdout).trim()}`);
  const times = stdout
    .split('\n')
    .map(parseReply)
    .filter((reply) => reply !== undefined)
    .filter(({ sequence }) => sequence <= count)
    .map(({ milliseconds }) => milliseconds);
  const sent = Math.min(count, Number(summary[1]));
  return {
    sent,
    lost: sent - times.length,
    p50: percentile(times, 0.5),
    p99: percentile(times, 0.99),
    max: percentile(times, 1),
  };
}

/** Pings without end, 20 ms apart unless told otherwise, and remembers when each reply came. */
export class PingWatch {
  private readonly replies: { readonly sequence: number; readonly at: number }[] = [];
  private readonly wake = new Set<() => void>();

  private constructor(private readonly stop: () => void) {}

  static start(from: Namespace, address: string, intervalMs = 20): PingWatch {
    const child = from.spawn('ping', ['-n', '-i', String(intervalMs / 1000), address], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const watch = new PingWatch(() => child.kill('SIGINT'));
    if (child.stdout === null) throw new Error('ping has no output');
    createInterface({ input: child.stdout }).on('line', (line) => {
      const reply = parseReply(line);
      if (reply === undefined) return;
      watch.replies.push({ sequence: reply.sequence, at: performance.now() });
      for (const wake of watch.wake) wake();
    });
    return watch;
  }

  /** Waits until replies have come without a gap for `quietMs`, at most `timeoutMs`; tells whether. */
  async steady(quietMs: number, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    let since = performance.now();
    while (performance.now() < deadline) {
      const before = this.replies.length;
      await this.next(GAP_MS);
      await setImmediate(); // where this process had to wait for a processor, replies may lie there unread
      if (this.replies.length === before) since = performance.now();
      else if (performance.now() - since >= quietMs) return true;
    }
    return false;
  }

  /** Resolves at the next reply, or after `timeoutMs`. */
  private next(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.wake.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.wake.add(done);
    });
  }

  /**
   * What happened after `start` (a performance.now()): pings lost between replies, and the
   * milliseconds from `start` to the first reply after the last loss; 0 when none was lost.
   */
  outage(start: number): { readonly lost: number; readonly milliseconds: number } {
    let lost = 0;
    let milliseconds = 0;
    for (const [index, reply] of this.replies.entries()) {
      const previous = this.replies[index - 1];
      if (previous === undefined || reply.at < start) continue;
      const missing = reply.sequence - previous.sequence - 1;
      if (missing <= 0) continue;
      lost += missing;
      milliseconds = reply.at - start;
    }
    return { lost, milliseconds };
  }

  /** The longest time without a reply after `start`, ms: from one reply, or `start`, to the next, or now. */
  longestGap(start: number): number {
    const times = [start, ...this.replies.map(({ at }) => at).filter((at) => at > start), performance.now()];
    return Math.max(...times.slice(1).map((at, index) => at - (times[index] ?? at)));
  }

  /** The first and the last reply so far, and how many before the last never came; in any order of arrival. */
  seen(): {
    readonly first: { readonly sequence: number; readonly at: number } | undefined;
    readonly last: { readonly sequence: number; readonly at: number } | undefined;
    readonly lost: number;
  } {
    const ordered = this.replies.toSorted((a, b) => a.sequence - b.sequence);
    const [first, last] = [ordered.at(0), ordered.at(-1)];
    return { first, last, lost: (last?.sequence ?? 0) - ordered.length };
  }

  /** Ends the ping. */
  close(): void {
    this.stop();
  }
}
