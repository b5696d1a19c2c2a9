// One way of reading arguments for all scripts.

import { parseArgs } from 'node:util';
import { ScriptError } from './steps.mjs';

/**
 * Parses the command line. `--help` prints `help` and ends the process; an unknown argument is
 * a ScriptError with exit code 2.
 */
export function readArguments(help, options = {}, { positionals = false } = {}) {
  try {
    const parsed = parseArgs({
      options: { help: { type: 'boolean', short: 'h' }, ...options },
      allowPositionals: positionals,
    });
    if (parsed.values.help) {
      console.log(help);
      process.exit(0);
    }
    return parsed;
  } catch (error) {
    throw new ScriptError(`${error.message}\n\n${help}`, 2);
  }
}

/** A positive number given as option `name`. */
export function positive(name, text) {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new ScriptError(`--${name} wants a number greater than 0, not "${text}"`, 2);
}
