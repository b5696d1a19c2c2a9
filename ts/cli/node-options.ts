// Options `relay` and `up` share: what the command line overrides in the configuration.

import { Option, type Command } from 'commander';
import {
  ANNOUNCE_RULE,
  BIND_RULE,
  ENGINE_RULE,
  IO_RULE,
  PORT_RULE,
  STATUS_ADDRESS_RULE,
  type Config,
} from '../daemon/config.js';
import { ExitCode, OperatorError } from '../daemon/operator-error.js';
import { parseIp, parseSocketAddress } from '../wire/socket-address.js';

export interface NodeOptions {
  readonly port?: string;
  readonly bind?: string;
  readonly announce?: readonly string[];
  readonly status?: string;
  readonly engine?: string;
  readonly io?: string;
}

/** Adds the options to a command. */
export function addNodeOptions(command: Command): Command {
  return command
    .option('--port <n>', 'UDP port to listen on (default: 51900)')
    .option('--bind <addr>', 'IP address to bind (default: all of both families)')
    .addOption(
      new Option(
        '--announce <addr>',
        'address:port others are told to reach this node at; repeatable (default: those of the interfaces)',
      ).argParser((value: string, previous: string[] | undefined) => [...(previous ?? []), value]),
    )
    .option('--status <addr>', 'address:port of the status page, or "off" (default: 127.0.0.1:9090)')
    .option('--engine <kind>', 'auto, native or wasm (default: auto)')
    .option(
      '--io <kind>',
      'how the native engine calls its sockets: auto (measured at start), mmsg or io_uring',
    );
}

function wrong(option: string, value: string, rule: string, example: string): OperatorError {
  return new OperatorError(
    ExitCode.usage,
    `--${option}`,
    `"${value}" is not ${rule}`,
    `Type for example: ${example}`,
  );
}

function engineOf(value: string): Config['node']['engine'] {
  if (value === 'auto' || value === 'native' || value === 'wasm') return value;
  throw wrong('engine', value, ENGINE_RULE, '--engine auto');
}

function ioOf(value: string): Config['node']['io'] {
  if (value === 'auto' || value === 'mmsg' || value === 'io_uring') return value;
  throw wrong('io', value, IO_RULE, '--io auto');
}

/** The configuration with the command line's overrides. @throws OperatorError naming the option. */
export function applyNodeOptions(config: Config, options: NodeOptions): Config {
  const { port, bind, announce, status, engine, io } = options;
  if (port !== undefined && (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535))
    throw wrong('port', port, PORT_RULE, '--port 51901');
  if (bind !== undefined && parseIp(bind) === undefined)
    throw wrong('bind', bind, BIND_RULE, '--bind 192.0.2.1');
  for (const address of announce ?? [])
    if (parseSocketAddress(address) === undefined)
      throw wrong('announce', address, ANNOUNCE_RULE, '--announce 203.0.113.7:51900');
  if ((announce?.length ?? 0) > 8)
    throw new OperatorError(
      ExitCode.usage,
      '--announce',
      'at most 8 addresses can be announced',
      'Leave some out',
    );
  if (status !== undefined && status !== 'off' && parseSocketAddress(status) === undefined)
    throw wrong('status', status, STATUS_ADDRESS_RULE, '--status 127.0.0.1:9091');
  return {
    ...config,
    node: {
      ...config.node,
      ...(port === undefined ? {} : { port: Number(port) }),
      ...(bind === undefined ? {} : { bind }),
      ...(announce === undefined ? {} : { announce: [...announce] }),
      ...(engine === undefined ? {} : { engine: engineOf(engine) }),
      ...(io === undefined ? {} : { io: ioOf(io) }),
    },
    status: status === undefined ? config.status : { listen: status },
  };
}

/** The overrides as a child process is given them. */
export function nodeArguments({ port, bind, announce, status, engine, io }: NodeOptions): string[] {
  const one = (name: string, value: string | undefined): string[] =>
    value === undefined ? [] : [`--${name}`, value];
  return [
    ...one('port', port),
    ...one('bind', bind),
    ...(announce ?? []).flatMap((address) => one('announce', address)),
    ...one('status', status),
    ...one('engine', engine),
    ...one('io', io),
  ];
}
