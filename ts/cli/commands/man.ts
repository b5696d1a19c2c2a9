// omerta man: manual pages.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { makeFolders } from '../../host/make-folders.js';
import { fileError, ExitCode, OperatorError } from '../../host/operator-error.js';
import { VERSION } from '../../host/version.js';
import { allCommands, commandTree } from '../command-tree.js';
import { print } from '../context.js';
import { explain } from '../help.js';
import { manualPage, pageName } from '../manual-page.js';

export function manCommand(program: Command): void {
  const command = program
    .command('man')
    .summary('print the manual page of a command, or write all of them')
    .description(
      'Prints the manual page of a command, for man(1), or writes those of all commands into a folder.',
    )
    .argument('[command...]', 'the command, such as: relay top')
    .option('--out <dir>', 'write all pages there instead, as NAME.1')
    .action((words: string[], { out }: { out?: string }) => {
      const pages = allCommands(commandTree(program));
      if (out === undefined) {
        const typed = ['omerta', ...words].join(' ');
        const page = pages.find(({ path }) => path.join(' ') === typed);
        if (page === undefined)
          throw new OperatorError(
            ExitCode.usage,
            'command',
            `there is no command "${typed}"`,
            'Type: omerta --help',
          );
        print(manualPage(page, VERSION).trimEnd());
        return;
      }
      try {
        makeFolders(out);
        for (const page of pages) writeFileSync(join(out, `${pageName(page)}.1`), manualPage(page, VERSION));
      } catch (error) {
        throw fileError('--out', out, error);
      }
      print(`${pages.length} pages in ${out}`);
    });
  explain(command, ['omerta man relay top | man -l -', 'omerta man --out /usr/local/share/man/man1'], {
    1: 'the pages cannot be written',
    2: true,
    4: true,
  });
}
