// Options `relay` and `up` share: what the command line overrides in the configuration.

import { MAX_POLICY_IDENTITIES, MAX_POLICY_NETWORKS } from '../core/protocol/message-limits.js';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  ANNOUNCE_RULE,
  BIND_RULE,
  CONSENT_RULE,
  ENGINE_RULE,
  IO_RULE,
  PATHS_RULE,
  PORT_MAPPING_CHOICES,
  PORT_MAPPING_RULE,
  PORT_RULE,
  STATUS_ADDRESS_RULE,
  UNTIL_RULE,
  isPeerId,
  parseUntil,
} from '../daemon/config/config-rules.js';
import type { Config } from '../daemon/config/config.js';
import {
  GUEST_MAC_RULE,
  GUEST_SOCKET_RULE,
  GUEST_UID_RULE,
  isGuestMac,
  isGuestSocket,
} from '../daemon/config/guest-configuration.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { PATH_USES } from '../core/path/path-policy.js';
import { isName } from '../core/protocol/network.js';
import { parseIp, parseSocketAddress } from '../wire/socket-address.js';
import { isAnnounceable } from '../host/own-addresses.js';
import { repeatable } from './repeatable.js';

export interface NodeOptions {
  readonly port?: string;
  readonly bind?: string;
  readonly announce?: readonly string[];
  readonly status?: string;
  readonly engine?: string;
  readonly io?: string;
  readonly paths?: string;
  readonly portMapping?: string;
  readonly consent?: readonly string[];
  readonly consentUntil?: string;
  /** Of `up` alone; false: the interface is in a private network. */
  readonly tun?: boolean;
  /** Of `up` alone. */
  readonly stack?: true;
  /** Of `up` alone: where QEMU connects a virtual machine, its address, and whose process it is. */
  readonly guestSocket?: string;
  readonly guestMac?: string;
  readonly guestUid?: string;
}

/** Adds the options to a command. */
export function addNodeOptions(command: Command): Command {
  return command
    .option('--port <n>', 'UDP port to listen on (default: 51900)')
    .option('--bind <addr>', 'IP address to bind (default: all of both families)')
    .addOption(
      repeatable(
        '--announce <addr>',
        'address:port others are told to reach this node at; repeatable (default: those of the interfaces)',
      ),
    )
    .option('--status <addr>', 'address:port of the status page, or "off" (default: 127.0.0.1:9090)')
    .option('--engine <kind>', 'auto, native or wasm (default: auto)')
    .option(
      '--io <kind>',
      'how the native engine calls its sockets: auto (measured at start), mmsg or io_uring',
    )
    .option(
      '--paths <use>',
      'ways that carry data to members: any, direct-only (relays carry what leads to a direct path alone), or relay-only',
    )
    .option(
      '--port-mapping <how>',
      'how the gateway is asked to let the port in: auto (each in turn), pcp, nat-pmp, upnp, or off (default: auto)',
    )
    .addOption(
      repeatable(
        '--consent <who>',
        'callers relays need not ask this node about: "own" (members of its networks), a network, or a peer id; ' +
          'repeatable (default: each circuit is asked for)',
      ),
    )
    .option('--consent-until <time>', 'when that ends, such as 2026-12-31T12:00:00Z (default: never)');
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

function pathsOf(value: string): Config['paths']['use'] {
  const use = PATH_USES.find((each) => each === value);
  if (use !== undefined) return use;
  throw wrong('paths', value, PATHS_RULE, '--paths relay-only');
}

function portMappingOf(value: string): Config['paths']['port_mapping'] {
  const choice = PORT_MAPPING_CHOICES.find((each) => each === value);
  if (choice !== undefined) return choice;
  throw wrong('port-mapping', value, PORT_MAPPING_RULE, '--port-mapping off');
}

/** A path may be given from where the command is typed. @throws OperatorError */
function guestOf({ guestSocket, guestMac, guestUid }: NodeOptions): Partial<Config['node']> {
  const path = guestSocket === undefined ? undefined : resolve(guestSocket);
  if (path !== undefined && !isGuestSocket(path))
    throw wrong('guest-socket', path, GUEST_SOCKET_RULE, '--guest-socket /run/user/1000/vm.sock');
  if (guestMac !== undefined && !isGuestMac(guestMac))
    throw wrong('guest-mac', guestMac, GUEST_MAC_RULE, '--guest-mac 52:54:00:12:34:56');
  if (guestUid !== undefined && !/^\d{1,9}$/.test(guestUid))
    throw wrong('guest-uid', guestUid, GUEST_UID_RULE, '--guest-uid 1000');
  return {
    ...(path === undefined ? {} : { guest_socket: path }),
    ...(guestMac === undefined ? {} : { guest_mac: guestMac }),
    ...(guestUid === undefined ? {} : { guest_uid: Number(guestUid) }),
  };
}

/** Whom the command line accepts. @throws OperatorError naming what is none. */
function consentOf(who: readonly string[]): Pick<Config['consent'], 'networks' | 'identities'> {
  const identities = who.filter(isPeerId);
  const networks = who.filter((value) => !isPeerId(value));
  const unknown = networks.find((value) => !isName(value));
  if (unknown !== undefined) throw wrong('consent', unknown, CONSENT_RULE, '--consent own');
  for (const [given, most, what] of [
    [identities, MAX_POLICY_IDENTITIES, 'peer ids'],
    [networks, MAX_POLICY_NETWORKS, 'networks'],
  ] as const)
    if (given.length > most)
      throw new OperatorError(
        ExitCode.usage,
        '--consent',
        `at most ${most} ${what} can be named`,
        'Leave some out, or accept all members of a network by its name',
      );
  return { networks: networks.includes('own') ? 'own' : networks, identities };
}

/** The configuration with the command line's overrides. @throws OperatorError naming the option. */
export function applyNodeOptions(config: Config, options: NodeOptions): Config {
  const { port, bind, announce, status, engine, io, paths, portMapping, consent, consentUntil } = options;
  if (port !== undefined && (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535))
    throw wrong('port', port, PORT_RULE, '--port 51901');
  if (bind !== undefined && parseIp(bind) === undefined)
    throw wrong('bind', bind, BIND_RULE, '--bind 192.0.2.1');
  for (const address of announce ?? [])
    if (!isAnnounceable(address))
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
  if (consentUntil !== undefined && parseUntil(consentUntil) === undefined)
    throw wrong('consent-until', consentUntil, UNTIL_RULE, '--consent-until 2026-12-31T12:00:00Z');
  const accepted = { ...config.consent, ...(consent && consentOf(consent)) };
  if (consentUntil !== undefined && accepted.networks.length + accepted.identities.length === 0)
    throw new OperatorError(
      ExitCode.usage,
      '--consent-until',
      'nobody is accepted in advance',
      'Say who: --consent own',
    );
  return {
    ...config,
    node: {
      ...config.node,
      ...(port === undefined ? {} : { port: Number(port) }),
      ...(bind === undefined ? {} : { bind }),
      ...(announce === undefined ? {} : { announce: [...announce] }),
      ...(engine === undefined ? {} : { engine: engineOf(engine) }),
      ...(io === undefined ? {} : { io: ioOf(io) }),
      ...(options.tun === false ? { tun: false } : {}),
      ...(options.stack === true ? { stack: true } : {}),
      ...guestOf(options),
    },
    paths: {
      ...config.paths,
      ...(paths === undefined ? {} : { use: pathsOf(paths) }),
      ...(portMapping === undefined ? {} : { port_mapping: portMappingOf(portMapping) }),
    },
    consent: {
      ...accepted,
      ...(consentUntil === undefined ? {} : { until: consentUntil }),
    },
    status: status === undefined ? config.status : { listen: status },
  };
}

/** The overrides as a child process is given them. */
export function nodeArguments(options: NodeOptions): string[] {
  const { port, bind, announce, status, engine, io, paths, portMapping, consent, consentUntil } = options;
  const one = (name: string, value: string | undefined): string[] =>
    value === undefined ? [] : [`--${name}`, value];
  return [
    ...one('port', port),
    ...one('bind', bind),
    ...(announce ?? []).flatMap((address) => one('announce', address)),
    ...one('status', status),
    ...one('engine', engine),
    ...one('io', io),
    ...one('paths', paths),
    ...one('port-mapping', portMapping),
    ...(consent ?? []).flatMap((who) => one('consent', who)),
    ...one('consent-until', consentUntil),
    ...(options.tun === false ? ['--no-tun'] : []),
    ...(options.stack === true ? ['--stack'] : []),
    // A daemon in the background is in no folder of whoever typed it.
    ...one('guest-socket', options.guestSocket && resolve(options.guestSocket)),
    ...one('guest-mac', options.guestMac),
    ...one('guest-uid', options.guestUid),
  ];
}
