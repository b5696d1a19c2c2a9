// omerta relay drain: has a relay's clients move to other relays, then ends it. omerta relay undrain takes it back.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { DrainStatus } from '../../core/runtime/mesh-status.js';
import { MAX_DRAIN_SECONDS } from '../../core/protocol/message-limits.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { describeDrain } from '../../status/model/drain-wording.js';
import { Context, print, printJson, requestStatus } from '../context.js';
import { durationOf } from '../duration-option.js';
import { explain } from '../help.js';
import { awaitEnd } from '../stop-daemon.js';

const LOOK_MS = 250;

interface DrainOptions {
  readonly within: string;
  readonly stay?: true;
  readonly wait: boolean;
  readonly json?: true;
}

/** What a drain has come to: `ended` when the relay has. */
type Outcome = DrainStatus & { readonly ended: boolean };

function withinOf(text: string): number {
  const seconds = durationOf('--within', text) / 1000;
  if (seconds <= MAX_DRAIN_SECONDS) return seconds;
  throw new OperatorError(
    ExitCode.usage,
    '--within',
    `"${text}" is more than a day`,
    'Type for example: --within 10m',
  );
}

/** Follows a drain until it is over, or the daemon has ended by it. */
async function follow(
  context: Context,
  say: (drain: DrainStatus) => void,
  first: DrainStatus,
): Promise<Outcome> {
  let last = first;
  for (;;) {
    say(last);
    if (last.done) return { ...last, ended: false };
    await sleep(LOOK_MS);
    try {
      const { drain } = (await context.withDaemon(requestStatus)).mesh.relay ?? {};
      if (drain === undefined) throw taken();
      last = drain;
    } catch (error) {
      // It ended between two looks: what it waited for is gone, or its time was up.
      if (error instanceof OperatorError && error.exitCode === ExitCode.notRunning)
        return { ...last, ended: true };
      throw error;
    }
  }
}

const taken = (): OperatorError =>
  new OperatorError(ExitCode.failure, 'relay', 'somebody has taken the drain back', 'See: omerta status');

async function drain(context: Context, options: DrainOptions, json: boolean): Promise<void> {
  const seconds = withinOf(options.within);
  const stay = options.stay === true;
  const begun = (await context.withDaemon((client) =>
    client.request({ command: 'relay-drain', seconds, stay }),
  )) as {
    readonly pid: number;
    readonly drain: DrainStatus;
  };
  if (!options.wait) {
    if (json) printJson(begun.drain);
    else print(describeDrain(begun.drain));
    return;
  }
  let said = '';
  const say = (status: DrainStatus): void => {
    const { clients, staying, circuits } = status;
    const now = `${clients} ${staying} ${circuits} ${status.done}`;
    if (!json && now !== said) print(describeDrain(status));
    said = now;
  };
  const outcome = await follow(context, say, begun.drain);
  if (!stay) await awaitEnd(context, begun.pid, 0);
  if (json) printJson({ ...outcome, ended: !stay });
  else if (!stay) print('stopped');
}

export function relayDrainCommands(relay: Command): void {
  const command = relay
    .command('drain')
    .summary('have the clients move to other relays, then stop')
    .description(
      'Tells every client of the running relay that it will go. It takes on nobody and sets up no new circuits; what ' +
        'it carries goes on while clients move to other relays, without losing a packet. Then the relay ends: when ' +
        'nobody is left, or when the time is up. Clients that have no other relay stay until then. Waits for it; ' +
        'Ctrl-C ends the waiting and not the drain.',
    )
    .option('--within <duration>', 'at most so long: 90s, 10m, 2h', '5m')
    .option(
      '--stay',
      'go on running when it is over, for those that are left, until it is stopped or undrained',
    )
    .option('--no-wait', 'begin it and return')
    .option('--json', 'print as JSON')
    .action((options: DrainOptions, self: Command) =>
      drain(Context.of(self), options, self.optsWithGlobals<{ json?: true }>().json === true),
    );
  explain(
    command,
    ['omerta relay drain', 'omerta relay drain --within 30s', 'omerta relay drain --stay --no-wait'],
    {
      1: 'somebody has taken the drain back, or the relay does not end',
      2: 'wrong option, or the daemon is no relay',
      3: true,
      4: true,
    },
  );
  const undrain = relay
    .command('undrain')
    .summary('take a drain back')
    .description(
      'The relay takes on clients and circuits again, and does not end. Clients that have left come back when they ' +
        'next look, within a minute.',
    )
    .action(async (_: unknown, self: Command) => {
      await Context.of(self).withDaemon((client) => client.request({ command: 'relay-undrain' }));
      print('takes on clients and circuits again');
    });
  explain(undrain, ['omerta relay undrain'], {
    2: 'it does not drain, or the daemon is no relay',
    3: true,
    4: true,
  });
}
