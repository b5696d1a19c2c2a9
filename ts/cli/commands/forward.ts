// omerta forward: ports of this machine that lead into the mesh, and ports in the mesh that lead to this machine.

import { lookup } from 'node:dns/promises';
import type { Command } from 'commander';
import { forwardTcp, forwardUdp, parseForward, type ForwardSpec } from '../../exit/forwarding.js';
import { machineNetwork } from '../../exit/inner-network.js';
import { ExitCode, OperatorError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import { parseIp } from '../../wire/socket-address.js';
import { Context, print } from '../context.js';
import { explain } from '../help.js';
import { hostsIn, serveInPrivateNetwork } from '../private-network.js';
import { repeatable } from '../repeatable.js';

interface ForwardOptions {
  readonly local?: readonly string[];
  readonly remote?: readonly string[];
  readonly udp?: true;
}

/** @throws OperatorError naming what is none */
function specOf(option: '-L' | '-R', text: string): ForwardSpec {
  const spec = parseForward(text, option === '-L' ? '127.0.0.1' : '0.0.0.0');
  if (spec !== undefined && parseIp(spec.bind) !== undefined && (option === '-R' || !isAny(spec.bind)))
    return spec;
  throw new OperatorError(
    ExitCode.usage,
    option,
    spec !== undefined && isAny(spec.bind)
      ? `"${text}" would let everybody in who reaches this machine`
      : `"${text}" is not [ADDRESS:]PORT:HOST:PORT`,
    `Type for example: ${option} ${option === '-L' ? '8080:server:80' : '8080:127.0.0.1:80'}`,
  );
}

/** Members come by either family. */
const bothFamilies = (spec: ForwardSpec): readonly ForwardSpec[] =>
  spec.bind === '0.0.0.0' ? [spec, { ...spec, bind: '::' }] : [spec];

/** Where the private network has no IPv6, members come by IPv4 alone. @throws what else it was */
function unlessNoIpv6({ bind }: ForwardSpec): (error: unknown) => () => void {
  return (error) => {
    const code = systemErrorCode(error);
    if (bind === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) return () => undefined;
    throw error;
  };
}

const isAny = (address: string): boolean =>
  parseIp(address)?.every((byte, index) => byte === 0 || (index > 9 && index < 12 && byte === 0xff)) ?? false;

async function hostsHere(host: string): Promise<readonly string[]> {
  if (parseIp(host) !== undefined) return [host];
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => address);
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
      repeatable('-L, --local <spec>', 'a port of this machine leads to HOST in the mesh (repeatable)'),
    )
    .addOption(
      repeatable('-R, --remote <spec>', 'a port of this member in the mesh leads to HOST here (repeatable)'),
    )
    .option('--udp', 'datagrams, not connections')
    .action(async ({ local = [], remote = [], udp }: ForwardOptions, self: Command) => {
      const wanted = [
        ...local.map((text) => ({ text, isLocal: true, spec: specOf('-L', text) })),
        ...remote.flatMap((text) =>
          bothFamilies(specOf('-R', text)).map((spec) => ({ text, isLocal: false, spec })),
        ),
      ];
      if (wanted.length === 0)
        throw new OperatorError(
          ExitCode.usage,
          'forward',
          'nothing is to be forwarded',
          'Type for example: omerta forward -L 8080:server:80',
        );
      const context = Context.of(self);
      await serveInPrivateNetwork(context, async (network) => {
        const ends: (() => void)[] = [];
        const end = (): void => ends.splice(0).forEach((each) => each());
        try {
          for (const { text, isLocal, spec } of wanted) {
            const forwarding = isLocal
              ? { from: machineNetwork, to: network, spec, resolve: hostsIn(context, network) }
              : { from: network, to: machineNetwork, spec, resolve: hostsHere };
            const begun = udp === true ? forwardUdp(forwarding) : forwardTcp(forwarding);
            ends.push(await begun.catch(unlessNoIpv6(spec)));
            if (spec.bind !== '::')
              print(`${isLocal ? '-L' : '-R'} ${text}${udp === true ? ' (UDP)' : ''}, until Ctrl-C`);
          }
        } catch (error) {
          end();
          throw new OperatorError(
            ExitCode.failure,
            'forward',
            `a port cannot be taken (${messageOf(error)})`,
            'Choose another',
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
