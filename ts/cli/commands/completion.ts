// omerta completion: what a shell completes omerta's command lines by.

import { Argument, type Command } from 'commander';
import { completionScript, SHELLS, type Shell } from '../completion.js';
import { commandTree } from '../command-tree.js';
import { print } from '../context.js';
import { explain } from '../help.js';

export function completionCommand(program: Command): void {
  const command = program
    .command('completion')
    .summary('print a completion script for a shell')
    .description(
      'Prints what a shell completes the command lines of omerta by: commands, options and their values.',
    )
    .addArgument(new Argument('<shell>', 'whose script it is').choices(SHELLS))
    .action((shell: Shell) => print(completionScript(shell, commandTree(program)).trimEnd()));
  explain(
    command,
    [
      'source <(omerta completion bash)',
      'omerta completion zsh > "${fpath[1]}/_omerta"',
      'omerta completion fish > ~/.config/fish/completions/omerta.fish',
    ],
    { 2: 'there is no script for this shell' },
  );
}
