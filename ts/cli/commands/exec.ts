// omerta exec: a program whose only network is the mesh.

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Command } from 'commander';
import { PRIVATE_RESOLVER } from '../../exit/private-hosts.js';
import { helperPath, openNamespaces, type PrivatePlace } from '../../exit/private-network.js';
import { ExitCode, OperatorError, messageOf } from '../../host/operator-error.js';
import { Context } from '../context.js';
import { hasTerminal } from '../hangup.js';
import { explain } from '../help.js';
import { privateNetworkOf } from '../private-network.js';

/** Runs it to its end, and ends as it ended. */
async function execute(place: PrivatePlace, words: readonly string[]): Promise<number> {
  const { user, network } = openNamespaces(place);
  // By what is open here, and was looked at: the number may be another process's by now.
  const open = (fd: number): string => `/proc/${process.pid}/fd/${fd}`;
  const hangup = hasTerminal() ? 'ends' : 'ignored';
  const entering = ['exec', open(user), open(network), PRIVATE_RESOLVER, hangup, '--'];
  const child = spawn(helperPath(), [...entering, ...words], { stdio: 'inherit' });
  // The terminal sends these to both; the program decides what they mean.
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => undefined);
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(
        new OperatorError(
          ExitCode.failure,
          'network',
          `the helper cannot be started (${messageOf(error)})`,
          'Type: npm run build',
        ),
      ),
    );
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

export function execCommand(program: Command): void {
  const command = program
    .command('exec')
    .summary('run a program whose only network is the mesh')
    .description(
      'Runs CMD in the private network of a member started with "omerta up --no-tun": the mesh is the only way out it ' +
        'has, for itself and for what it starts. Files and Unix sockets of this user are what they are: it is no cage for ' +
        'a program that means ill.',
    )
    .argument('<command...>', 'the program and its arguments, after --')
    .option('--exit <peer>', 'what is not in the mesh leaves by this member, as by omerta exit use PEER')
    .action(async (words: string[], { exit }: { readonly exit?: string }, self: Command) => {
      process.exitCode = await execute(await privateNetworkOf(Context.of(self), exit), words);
    });
  explain(
    command,
    [
      'omerta exec -- curl http://100.64.1.2:8080/',
      'omerta exec --exit home-server -- curl https://example.org/',
    ],
    { 1: true, 2: true, 3: true, 4: true, 5: 'the exit does not grant' },
    {
      125: 'the private network cannot be entered',
      126: 'CMD cannot be started',
      127: 'CMD is not found; else it is that of CMD, or 128 and the signal that ended it',
    },
  );
}
