// The sections [socks] and [[forward]]: what leads from this machine into the private network of a member without an
// interface, and from there to this machine, as long as the daemon runs.

import { z } from 'zod';
import { isAbsolute } from 'node:path';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { Reach, reachOf } from '../../wire/reach.js';
import { parseSocketAddress } from '../../wire/socket-address.js';
import type { NoPrivateNetwork } from '../../status/model/daemon-status.js';
import type { Config } from './config.js';
import { DEFAULT_SOCKS_ADDRESS } from './config-rules.js';
import { FORWARD_RULE, whyNoForward, type ForwardSide } from './port-forward.js';

/** Each may have as many connections as one that is typed. */
const MAX_FORWARDS = 32;
const LISTEN_RULE = 'an address and port such as "127.0.0.1:1080" or "[::1]:1080"';
const PASSWORD_FILE_RULE = 'an absolute path of a file of mode 0600 with one line USER:PASSWORD';
const SIDES_RULE = 'local = "8080:server:80" or remote = "8080:127.0.0.1:80", one of them';

/** Whether only programs of this machine reach it. */
export function isOwnAddress(listen: string): boolean {
  const address = parseSocketAddress(listen);
  return address !== undefined && reachOf(address.ip) === Reach.machine;
}

export const socksSchema = z
  .strictObject(
    {
      listen: z
        .string(LISTEN_RULE)
        .refine((value) => parseSocketAddress(value) !== undefined, { error: LISTEN_RULE })
        .default(DEFAULT_SOCKS_ADDRESS),
      password_file: z
        .string(PASSWORD_FILE_RULE)
        .refine(isAbsolute, { error: PASSWORD_FILE_RULE })
        .optional(),
    },
    'a table, written [socks]',
  )
  .refine(({ listen, password_file: file }) => file !== undefined || isOwnAddress(listen), {
    path: ['listen'],
    error:
      'a loopback address such as "127.0.0.1:1080", or password_file beside it: whoever reaches it could use it',
  });

const spec = (side: ForwardSide): z.ZodOptional<z.ZodString> =>
  z
    .string(FORWARD_RULE)
    .superRefine((value, context) => {
      const message = whyNoForward(side, value);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    })
    .optional();

export const forwardSchema = z
  .strictObject(
    { local: spec('local'), remote: spec('remote'), udp: z.boolean('true or false').default(false) },
    'tables, written [[forward]]',
  )
  .refine(({ local, remote }) => (local === undefined) !== (remote === undefined), { error: SIDES_RULE });

export const forwardsSchema = z
  .array(forwardSchema, 'tables, written [[forward]]')
  .max(MAX_FORWARDS, { error: `at most ${MAX_FORWARDS}` });

/** One port, or more of the same: where it is in the file, and what it is. */
export type PrivatePort =
  | {
      readonly field: string;
      readonly kind: 'socks';
      readonly listen: string;
      readonly passwordFile: string | undefined;
    }
  | {
      readonly field: string;
      readonly kind: 'forward';
      readonly side: ForwardSide;
      readonly text: string;
      readonly udp: boolean;
    };

export function privatePorts({ socks, forward }: Config): readonly PrivatePort[] {
  const forwards = forward.map(({ local, remote, udp }, index): PrivatePort => {
    const side = local === undefined ? 'remote' : 'local';
    return {
      field: `config forward.${index}.${side}`,
      kind: 'forward',
      side,
      text: local ?? remote ?? '',
      udp,
    };
  });
  if (socks === undefined) return forwards;
  const { listen, password_file: passwordFile } = socks;
  return [{ field: 'config socks.listen', kind: 'socks', listen, passwordFile }, ...forwards];
}

/** Why a daemon has no private network: by how it was started, or what is closed to its user. */
export type WithoutNetwork = 'relay' | 'interface' | 'stack' | 'guest' | NoPrivateNetwork;

/**
 * @param without undefined = there is a private network that they lead into
 * @throws OperatorError where there is none and they are wanted
 */
export function requirePrivateNetwork(
  config: Config,
  without: WithoutNetwork | undefined,
  source: string,
): void {
  if (without === undefined || (config.socks === undefined && config.forward.length === 0)) return;
  const isClosed = typeof without === 'object';
  const { expected, next } = isClosed ? whileClosed(without, source) : WITHOUT[without](source);
  throw new OperatorError(
    isClosed ? ExitCode.permission : ExitCode.usage,
    `config ${config.socks === undefined ? 'forward' : 'socks'}`,
    expected,
    next,
  );
}

interface Worded {
  readonly expected: string;
  readonly next: string;
}

const WITHOUT: Readonly<Record<'relay' | 'interface' | 'stack' | 'guest', (source: string) => Worded>> = {
  relay: (source) => ({
    expected: 'a relay has no private network that it could lead into',
    next: `Remove it from ${source}, or run a member: omerta up --no-tun`,
  }),
  interface: (source) => ({
    expected:
      'it leads into a private network, and the interface of this member is one of the machine, which programs use as they are',
    next: `Remove it from ${source}, or type: omerta down, then omerta up --no-tun (tun = false under [node])`,
  }),
  guest: (source) => ({
    expected: 'it leads into a private network, and this member is a virtual machine’s, which has none',
    next: `Remove it from ${source}`,
  }),
  stack: (source) => ({
    expected:
      'it leads into a private network, and with --stack (stack = true under [node]) a member has none',
    next: `Remove it from ${source}, or type: omerta down, then omerta up --no-tun`,
  }),
};

const whileClosed = ({ reason, remedy }: NoPrivateNetwork, source: string): Worded => ({
  expected: `it leads into a private network, and none can be made: ${reason}`,
  next: `Type: ${remedy}, then omerta up --no-tun; or remove it from ${source}`,
});
