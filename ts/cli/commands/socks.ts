// omerta socks: programs that speak SOCKS 5 reach the mesh, by names too.

import { isIP } from 'node:net';
import type { Command } from 'commander';
import { DEFAULT_SOCKS_ADDRESS } from '../../daemon/config/config-rules.js';
import { hostsIn } from '../../exit/private-hosts.js';
import { readSocksPassword } from '../../exit/socks-password.js';
import { SocksServer } from '../../exit/socks-server.js';
import { ExitCode, OperatorError, systemErrorCode } from '../../host/operator-error.js';
import { Reach, reachOf } from '../../wire/reach.js';
import { formatIp, parseListenAddress } from '../../wire/socket-address.js';
import { Context, requestStatus } from '../context.js';
import { explain } from '../help.js';
import { printUnattended } from '../outlive-readers.js';
import { serveInPrivateNetwork } from '../private-network.js';

interface SocksCommandOptions {
  readonly listen: string;
  readonly passwordFile?: string;
  readonly exit?: string;
  readonly json?: boolean;
}

/** @throws OperatorError */
function listenAt(text: string, hasPassword: boolean): { readonly address: string; readonly port: number } {
  const parsed = parseListenAddress(text);
  if (parsed === undefined)
    throw new OperatorError(
      ExitCode.usage,
      '--listen',
      `"${text}" is not an address and a port`,
      'Type for example: --listen 127.0.0.1:1080',
    );
  const address = formatIp(parsed.ip);
  if (reachOf(parsed.ip) === Reach.machine || hasPassword) return { address, port: parsed.port };
  throw new OperatorError(
    ExitCode.usage,
    '--listen',
    `whoever reaches ${address} could use it, and there is no password`,
    'Give one with --password-file FILE, or listen at 127.0.0.1',
  );
}

export function socksCommand(program: Command): void {
  const command = program
    .command('socks')
    .summary('a SOCKS 5 proxy into the mesh')
    .description(
      'Serves SOCKS 5 (CONNECT and UDP ASSOCIATE) until Ctrl-C: connections are made in the private network of a member ' +
        'started with "omerta up --no-tun". Names are those of members, or resolved by the exit in use, never by this machine.',
    )
    .option('--listen <addr>', 'address:port to listen at; port 0: a free one', DEFAULT_SOCKS_ADDRESS)
    .option('--exit <peer>', 'what is not in the mesh leaves by this member, as by omerta exit use PEER')
    .option('--password-file <file>', 'a file of mode 0600 with USER:PASSWORD, asked of every client')
    .option('--json', 'print where it listens as JSON, on one line')
    .action(async (options: SocksCommandOptions, self: Command) => {
      const context = Context.of(self);
      const file = options.passwordFile;
      const password = file === undefined ? undefined : readSocksPassword('--password-file', file);
      const { address, port } = listenAt(options.listen, password !== undefined);
      await serveInPrivateNetwork(
        context,
        async (network) => {
          const server = new SocksServer({
            network,
            resolve: hostsIn(network, () => context.withDaemon(requestStatus)),
            password,
          });
          const bound = await server.listen(address, port).catch((error: unknown) => {
            throw new OperatorError(
              ExitCode.failure,
              '--listen',
              `${options.listen} cannot be listened at (${systemErrorCode(error) ?? String(error)})`,
              'Choose another: --listen 127.0.0.1:1081',
            );
          });
          const listen = `${isIP(address) === 6 ? `[${address}]` : address}:${bound}`;
          printUnattended(
            options.json === true
              ? JSON.stringify({ kind: 'socks', listen, hasPassword: password !== undefined })
              : `SOCKS 5 at ${listen}, until Ctrl-C`,
          );
          return () => server.close();
        },
        options.exit,
      );
    });
  explain(
    command,
    [
      'omerta socks',
      'curl --proxy socks5h://127.0.0.1:1080 http://server:8080/',
      'omerta socks --listen 127.0.0.1:1081 --json',
      'omerta socks --listen 192.168.1.2:1080 --password-file ~/.omerta-socks',
    ],
    {
      1: 'the port is taken, there is no private network, or its daemon ended',
      2: true,
      3: true,
      4: true,
      5: 'the exit does not grant',
    },
  );
}
