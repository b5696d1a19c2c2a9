// omerta keygen: makes an identity.

import type { Command } from 'commander';
import { createIdentity } from '../../daemon/state/identity.js';
import { StateDirectory } from '../../daemon/state/state-directory.js';
import { Context, print, printJson } from '../context.js';
import { explain } from '../help.js';

export function keygenCommand(program: Command): void {
  const command = program
    .command('keygen')
    .summary('make an identity')
    .description(
      'Makes an identity (an Ed25519 and an X25519 key), keeps it in two files with mode 0600 in the state ' +
        'directory, and prints the peer id. Prints nothing secret and never overwrites a key. relay and up ' +
        'do this by themselves on their first start.',
    )
    .option('--out <dir>', 'write the files there instead of into the state directory')
    .option('--json', 'print as JSON')
    .action(({ out, json }: { out?: string; json?: boolean }, self: Command) => {
      const state = out === undefined ? Context.of(self).state : new StateDirectory(out);
      const { peerId } = createIdentity(state);
      if (json === true) printJson({ peerId, files: [state.identityKey, state.sessionKey] });
      else print(peerId);
    });
  explain(command, ['omerta keygen', 'omerta keygen --out ./keys-of-gateway'], {
    1: true,
    2: 'there is an identity already',
    4: true,
  });
}
