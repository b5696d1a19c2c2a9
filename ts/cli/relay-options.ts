// Options of `relay` alone: the kernel path, as the command line overrides it in the configuration.

import type { Command } from 'commander';
import {
  ACCEL_MODE_RULE,
  ACCEL_RULE,
  INTERFACE_RULE,
  isInterfaceName,
} from '../daemon/config/config-rules.js';
import type { Config } from '../daemon/config/config.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { repeatable } from './repeatable.js';

export interface RelayOptions {
  readonly accel?: string;
  readonly accelInterface?: readonly string[];
  readonly accelMode?: string;
  readonly detach?: boolean;
}

/** Adds the options to a command. */
export function addRelayOptions(command: Command): Command {
  return command
    .option(
      '--accel <kind>',
      'forward in the kernel (XDP): auto = where it can be had, xdp = or fail; native or wasm = that engine\u2019s sockets',
    )
    .addOption(
      repeatable(
        '--accel-interface <name>',
        'interface XDP is attached to; repeatable (default: those with an address and an XDP driver)',
      ),
    )
    .option('--accel-mode <mode>', 'native, or generic for drivers without XDP (default: native)')
    .option('--detach', 'leave the kernel forwarding when the daemon ends, for the next one to take over');
}

function oneOf<Value extends string>(
  option: string,
  value: string | undefined,
  known: readonly Value[],
  rule: string,
): Value | undefined {
  if (value === undefined) return undefined;
  const found = known.find((each) => each === value);
  if (found !== undefined) return found;
  throw new OperatorError(
    ExitCode.usage,
    `--${option}`,
    `"${value}" is not ${rule}`,
    `Type for example: --${option} ${known[0] ?? ''}`,
  );
}

/** The configuration with the command line's overrides. @throws OperatorError naming the option. */
export function applyRelayOptions(config: Config, options: RelayOptions): Config {
  const accel = oneOf('accel', options.accel, ['auto', 'xdp', 'native', 'wasm'], ACCEL_RULE);
  const mode = oneOf('accel-mode', options.accelMode, ['native', 'generic'], ACCEL_MODE_RULE);
  const { accelInterface: interfaces, detach } = options;
  for (const name of interfaces ?? [])
    if (!isInterfaceName(name))
      throw new OperatorError(
        ExitCode.usage,
        '--accel-interface',
        `"${name}" is not ${INTERFACE_RULE}`,
        'Type for example: --accel-interface eth0',
      );
  return {
    ...config,
    relay: {
      ...config.relay,
      ...(accel === undefined ? {} : { accel }),
      ...(mode === undefined ? {} : { accel_mode: mode }),
      ...(interfaces === undefined ? {} : { accel_interfaces: [...interfaces] }),
      ...(detach === undefined ? {} : { detach }),
    },
  };
}
