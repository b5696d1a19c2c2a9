// Progress for a person at a terminal (a spinner with seconds) and for a log file (plain lines).

import { performance } from 'node:perf_hooks';
import { clearInterval, setInterval } from 'node:timers';

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/** An error whose message says everything: main() prints it without a stack trace. */
export class ScriptError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Thrown when a step failed and has said so already: the script ends, nothing more is printed. */
export class StepFailed extends Error {}

const isTerminal = () => process.stderr.isTTY === true && process.env.TERM !== 'dumb';

/**
 * Runs one step and shows its progress on stderr. `work` gets `say(text)`, which changes the text
 * behind the title, and returns an optional note for the final line. An error is shown with what
 * its `detail` property holds (a log's tail) and rethrown as StepFailed.
 */
export async function step(title, work) {
  const start = performance.now();
  const terminal = isTerminal();
  let saying = '';
  let frame = 0;
  const draw = () => {
    const line = `${FRAMES[frame++ % FRAMES.length]} ${title} ${seconds(start)} ${saying}`;
    process.stderr.write(`\r\x1b[2K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
  };
  const finish = (mark, note) => {
    if (terminal) process.stderr.write('\r\x1b[2K');
    process.stderr.write(`${mark} ${title} (${seconds(start)})${note ? `: ${note}` : ''}\n`);
  };
  const timer = terminal ? setInterval(draw, 100) : undefined;
  if (!terminal) process.stderr.write(`  ${title} …\n`);
  try {
    const note = await work((text) => {
      saying = text;
    });
    clearInterval(timer);
    finish('✓', note);
  } catch (error) {
    clearInterval(timer);
    finish('✗', error.message);
    if (error.detail) process.stderr.write(`${error.detail}\n`);
    throw new StepFailed(title);
  }
}

/** A step that had nothing to do. */
export function unchanged(title) {
  process.stderr.write(`✓ ${title}: up to date\n`);
}

/** Something that does not stop the script but that the reader should know. */
export function warn(text) {
  process.stderr.write(`! ${text}\n`);
}

/** Runs a script's main function, whose result is the exit code (undefined: 0). */
export async function main(work) {
  try {
    const code = await work();
    if (code !== undefined) process.exitCode = code;
  } catch (error) {
    if (!(error instanceof StepFailed)) console.error(error instanceof ScriptError ? error.message : error);
    process.exitCode = error.exitCode ?? 1;
  }
}
