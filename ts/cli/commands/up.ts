// omerta up: a member of the joined networks, with a TUN interface.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import { startBackground } from '../background.js';
import { Context, print, requestStatus, toJson } from '../context.js';
import { describeStatus } from '../describe-status.js';
import { explain } from '../help.js';
import { addNodeOptions, type NodeOptions } from '../node-options.js';

interface UpOptions extends NodeOptions {
  readonly foreground?: boolean;
  readonly json?: boolean;
}

const REGISTRATION_WAIT_MS = 3000;

/** The status once a bootstrap has registered us, or after a while without. */
async function settledStatus(context: Context): Promise<DaemonStatus> {
  return context.withDaemon(async (client) => {
    const deadline = Date.now() + REGISTRATION_WAIT_MS;
    for (;;) {
      const status = await requestStatus(client);
      const { bootstraps } = status.mesh;
      const settled = bootstraps.length === 0 || bootstraps.some(({ state }) => state === 'registered');
      if (settled || Date.now() >= deadline) return status;
      await sleep(100);
    }
  });
}

function shown(status: DaemonStatus, json: boolean): string {
  return json ? toJson(status) : describeStatus(status);
}

export function upCommand(program: Command): void {
  const command = addNodeOptions(
    program
      .command('up')
      .summary('connect this machine to its networks')
      .description(
        'Connects this machine to the networks it has joined: starts the daemon in the background, makes the ' +
          'TUN interface, registers with the bootstraps, waits until that is done and prints the status. ' +
          'Making a TUN interface needs root or the capability CAP_NET_ADMIN; with --no-tun it is in a private network ' +
          'instead, which an ordinary user may make: programs reach members by omerta exec. Where that is closed as well, ' +
          'or with --stack, there is none: then no program of this machine reaches members, but it can serve an exit.',
      ),
  )
    .option('--no-tun', 'no interface on this machine: it is in a private network, without root')
    .option(
      '--stack',
      'no interface at all: an exit is served by a TCP/IP stack of its own, without any right',
    )
    .option(
      '--guest-socket <path>',
      'no interface: this member is a virtual machine’s, whose network device QEMU connects here (-netdev stream)',
    )
    .option('--guest-mac <address>', 'of that network device (default: 52:54:00:12:34:56, QEMU’s own)')
    .option('--guest-uid <n>', 'the user QEMU runs as, if not this one: nobody else may connect')
    .option('--foreground', 'stay in the foreground, log to standard error')
    .option('--json', 'print the status as JSON')
    .action(async (options: UpOptions, self: Command) => {
      const context = Context.of(self);
      if (options.foreground === true) {
        const { runForeground } = await import('../foreground.js');
        // In the background the parent prints the status, and this output is the log.
        await runForeground(context, 'up', options, (daemon) =>
          process.send === undefined ? shown(daemon.status(), options.json === true) : undefined,
        );
        return;
      }
      await startBackground(context, options);
      print(shown(await settledStatus(context), options.json === true));
    });
  explain(
    command,
    [
      'sudo omerta up',
      'omerta up --no-tun',
      'omerta up --stack',
      'omerta up --guest-socket ./vm.sock',
      'omerta up --foreground --port 51901',
    ],
    {
      1: 'failed: port taken, engine does not load, or the daemon runs already',
      2: 'bad input, or no network is joined yet',
      4: true,
    },
  );
}
