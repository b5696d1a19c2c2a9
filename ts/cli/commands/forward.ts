// omerta forward: ports of this machine that lead into the mesh, and ports in the mesh that lead to this machine.

import type { Command } from 'commander';
import {
  FORWARD_OPEN_RULE,
  forwardSpecs,
  whyNoForward,
  type ForwardSide,
} from '../../daemon/config/port-forward.js';
import { forwardPort, type ForwardedPort, type PortForward } from '../../exit/forwarding.js';
import { hostsIn } from '../../exit/private-hosts.js';
import { ExitCode, OperatorError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import { Context, requestStatus } from '../context.js';
import { explain } from '../help.js';
import { printUnattended } from '../outlive-readers.js';
import { serveInPrivateNetwork } from '../private-network.js';
import { repeatable } from '../repeatable.js';

interface ForwardOptions {
  readonly local?: readonly string[];
  readonly remote?: readonly string[];
  readonly udp?: true;
  readonly json?: true;
}

const OPTION = { local: '-L', remote: '-R' } as const;

/** Which port the kernel chose, where it was to. */
function chosenPort({ side, text }: PortForward, { port }: ForwardedPort): string {
  return forwardSpecs(side, text)[0]?.port === 0 ? ` at port ${port}` : '';
}

/** @throws OperatorError naming what is none */
function requireForward(side: ForwardSide, text: string): void {
  const expected = whyNoForward(side, text);
  if (expected === undefined) return;
  throw new OperatorError(
    ExitCode.usage,
    OPTION[side],
    expected === FORWARD_OPEN_RULE
      ? `"${text}" would let everybody in who reaches this machine`
      : `"${text}" is not [ADDRESS:]PORT:HOST:PORT`,
    `Type for example: ${OPTION[side]} ${side === 'local' ? '8080:server:80' : '8080:127.0.0.1:80'}`,
  );
}

export function forwardCommand(program: Command): void {
  const command = program
    .command('forward')
    .summary('lead ports into the mesh, or from it to this machine')
    .description(
      'Forwards connections until Ctrl-C, from or to the private network of a member started with "omerta up --no-tun". ' +
        'SPEC is [ADDRESS:]PORT:HOST:PORT, IPv6 addresses in brackets. HOST of -L is a member, an address, or a name that the ' +
        'exit in use resolves; that of -R is as this machine knows it.',
    )
    .addOption(
      repeatable(
        '-L, --local <spec>',
        'a port of this machine leads to HOST in the mesh; 0: a free one (repeatable)',
      ),
    )
    .addOption(
      repeatable('-R, --remote <spec>', 'a port of this member in the mesh leads to HOST here (repeatable)'),
    )
    .option('--udp', 'datagrams, not connections')
    .option('--json', 'print each port once it is open as JSON, one a line')
    .action(async ({ local = [], remote = [], udp, json }: ForwardOptions, self: Command) => {
      const wanted = [
        ...local.map((text): PortForward => ({ side: 'local', text, udp: udp === true })),
        ...remote.map((text): PortForward => ({ side: 'remote', text, udp: udp === true })),
      ];
      for (const { side, text } of wanted) requireForward(side, text);
      if (wanted.length === 0)
        throw new OperatorError(
          ExitCode.usage,
          'forward',
          'nothing is to be forwarded',
          'Type for example: omerta forward -L 8080:server:80',
        );
      const context = Context.of(self);
      await serveInPrivateNetwork(context, async (network) => {
        const opened: ForwardedPort[] = [];
        const end = (): void => opened.splice(0).forEach((each) => each.close());
        const hosts = hostsIn(network, () => context.withDaemon(requestStatus));
        for (const each of wanted)
          try {
            const open = await forwardPort(each, network, hosts);
            opened.push(open);
            printUnattended(
              json === true
                ? JSON.stringify({
                    kind: 'forward',
                    side: each.side,
                    spec: each.text,
                    udp: each.udp,
                    port: open.port,
                  })
                : `${OPTION[each.side]} ${each.text}${each.udp ? ' (UDP)' : ''}${chosenPort(each, open)}, until Ctrl-C`,
            );
          } catch (error) {
            end();
            throw new OperatorError(
              ExitCode.failure,
              OPTION[each.side],
              `the port of ${each.text} cannot be taken (${messageOf(error)})`,
              systemErrorCode(error) === 'EACCES' ? 'Choose one from 1024 on' : 'Choose another',
            );
          }
        return end;
      });
    });
  explain(
    command,
    [
      'omerta forward -L 8080:server:80',
      'omerta forward -R 8080:127.0.0.1:80 -R 2222:127.0.0.1:22',
      'omerta forward --udp -L 5353:server:53',
    ],
    { 1: 'a port is taken, there is no private network, or its daemon ended', 2: true, 3: true, 4: true },
  );
}
