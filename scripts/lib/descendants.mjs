// Ends whatever this process started, and what that started, when this process is told to end: a compiler, a test
// or a daemon that a test started would otherwise live on.

import { readFileSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { performance } from 'node:perf_hooks';
import { clearInterval, setInterval } from 'node:timers';
import { setTimeout as delay } from 'node:timers/promises';

/** What a terminal sends to all of its processes at once, and how long these have to end by it. */
const FROM_TERMINAL = ['SIGINT', 'SIGHUP'];
const TERMINAL_MS = 1000;
/** A test has network namespaces to remove. */
const END_MS = 20_000;
const POLL_MS = 50;

/** Of every process that runs: its parent, and when it began, which with its id is nobody else's. */
function processes() {
  const found = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // The program's name stands in brackets and may be anything.
      const fields = readFileSync(`/proc/${name}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ');
      if (fields[0] !== 'Z') found.set(Number(name), { parent: Number(fields[1]), since: fields[19] });
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** The descendants of this process, those whose parents have ended meanwhile too. */
class Descendants {
  /** Id → since when. */
  #known = new Map([[process.pid, undefined]]);

  /** Those that run. */
  look() {
    const running = processes();
    for (const [pid, since] of this.#known)
      if (pid !== process.pid && running.get(pid)?.since !== since) this.#known.delete(pid);
    for (let grown = true; grown;) {
      grown = false;
      for (const [pid, { parent, since }] of running) {
        if (this.#known.has(pid) || !this.#known.has(parent)) continue;
        this.#known.set(pid, since);
        grown = true;
      }
    }
    return [...this.#known.keys()].filter((pid) => pid !== process.pid);
  }

  signal(name) {
    for (const pid of this.look()) {
      try {
        process.kill(pid, name);
      } catch {
        // It ended meanwhile.
      }
    }
  }

  /** Whether all ended within so many milliseconds. */
  async gone(milliseconds) {
    for (const end = performance.now() + milliseconds; this.look().length > 0; await delay(POLL_MS))
      if (performance.now() > end) return false;
    return true;
  }
}

let watching = false;

/** From now on a signal that ends this process ends its descendants first, for good where they do not by themselves. */
export function endDescendantsOnSignal() {
  if (watching) return;
  watching = true;
  let signals = 0;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(name, async () => {
      const code = 128 + constants.signals[name];
      const descendants = new Descendants();
      // Ctrl-C comes twice, from the terminal and from npm; who repeats it does not want to wait.
      if (++signals === 2) return;
      if (signals === 1) {
        // A program that ends by Ctrl-C already would be killed by a second one.
        const ended = FROM_TERMINAL.includes(name) && (await descendants.gone(TERMINAL_MS));
        if (!ended) descendants.signal('SIGTERM');
        await descendants.gone(END_MS);
      }
      descendants.signal('SIGKILL');
      process.exit(code);
    });
  }
}

/** npm that is ended by SIGTERM tells nobody: the script it ran ends as by the same signal. */
export function endWithNpm() {
  const npm = process.ppid;
  if (process.env.npm_lifecycle_event === undefined) return;
  const timer = setInterval(() => {
    if (process.ppid === npm) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, 500);
  timer.unref();
}
