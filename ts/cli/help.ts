// The end of every command's help: examples and exit codes.

import { Help, type Command } from 'commander';

const MEANINGS = {
  0: 'done',
  1: 'failed at run time (port taken, disk full, engine does not load)',
  2: 'bad command line, configuration, key, name, address or invite',
  3: 'no daemon runs for this state directory',
  4: 'permission: file modes, another user, or a missing capability',
  5: 'the peer is not known or does not answer',
} as const;

const help = new Help();

/** What explain() was told, for the manual. */
export interface Explanation {
  readonly examples: readonly string[];
  /** Code and meaning, in order. */
  readonly codes: readonly (readonly [string, string])[];
}

const explanations = new WeakMap<Command, Explanation>();

/** Undefined for a command that has only commands below it. */
export function explanationOf(command: Command): Explanation | undefined {
  return explanations.get(command);
}

/**
 * Adds examples and exit codes to a command's help.
 * @param codes exit codes other than 0 the command can end with, with its own words for some.
 * @param own exit codes no other command has
 */
export function explain(
  command: Command,
  examples: readonly string[],
  codes: Partial<Record<keyof typeof MEANINGS, string | true>>,
  own: Readonly<Record<number, string>> = {},
): Command {
  const worded = Object.entries({ 0: true, ...codes, ...own } as Record<string, string | true>).map(
    ([code, meaning]) =>
      [code, meaning === true ? MEANINGS[Number(code) as keyof typeof MEANINGS] : meaning] as const,
  );
  explanations.set(command, { examples, codes: worded });
  const lines = worded.map(([code, meaning]) => `  ${code}  ${meaning}`);
  // Commander puts defaults in quotation marks.
  command.configureHelp({
    optionDescription: (option) =>
      help.optionDescription(option).replace(/\(default: "(.*?)"/, '(default: $1'),
  });
  return command.addHelpText(
    'after',
    `\nExamples:\n${examples.map((example) => `  $ ${example}`).join('\n')}\n\nExit codes:\n${lines.join('\n')}`,
  );
}
