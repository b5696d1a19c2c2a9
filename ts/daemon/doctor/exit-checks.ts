// What `omerta doctor` says of exits: by what this user can serve one here, and why not by the others.

import { programPath } from '../../exit/host-commands.js';
import type { Closed } from '../../host/namespace-access.js';
import { OperatorError } from '../../host/operator-error.js';
import type { TunAccess } from '../../host/tun-access.js';
import type { ExitBackend } from '../../status/model/exit-report.js';
import type { Check } from './diagnosis.js';

export interface ExitFacts {
  readonly hasNativeEngine: boolean;
  readonly tun: Pick<TunAccess, 'ok' | 'reason'>;
  /** Whether a private network can be made. */
  readonly network: Pick<Check, 'ok' | 'detail'>;
  /** Of nft and ip, those that are not installed. */
  readonly notInstalled: readonly string[];
}

/** A member of a virtual machine serves none. */
type Serving = Exclude<ExitBackend, 'guest'>;

const COMMANDS: Readonly<Record<Serving, string>> = {
  kernel: 'omerta up as root',
  namespace: 'omerta up --no-tun',
  stack: 'omerta up --stack',
};

/** Those that are missing of the programs by which routes and nftables are changed. */
export function missingPrograms(): string[] {
  return ['nft', 'ip'].filter((file) => {
    try {
      return programPath(file) === '';
    } catch (error) {
      if (error instanceof OperatorError) return true;
      throw error;
    }
  });
}

/** Each backend of exits: whether it can be used, or why not. */
export function exitCheck({ hasNativeEngine, tun, network, notInstalled }: ExitFacts): Check {
  const engine = hasNativeEngine ? [] : ['it needs the native engine'];
  const programs = notInstalled.map((file) => `${file} is not installed`);
  const obstacles: Readonly<Record<Serving, readonly string[]>> = {
    kernel: [...engine, ...(tun.ok ? [] : [tun.reason]), ...programs],
    namespace: [...engine, ...(network.ok ? [] : [network.detail]), ...programs],
    stack: engine,
  };
  const told = (['kernel', 'namespace', 'stack'] as const).map((backend) => {
    const why = obstacles[backend].join(', ');
    return why === '' ? `${backend} (${COMMANDS[backend]}): yes` : `${backend}: no, ${why}`;
  });
  return {
    name: 'exit backends',
    ok: hasNativeEngine,
    required: false,
    detail: told.join('; '),
    remedy: hasNativeEngine ? undefined : 'npm run build',
  };
}

/** Whether an exit by the gateway or the stack sends pings on. @param closed why not */
export function pingCheck(closed: Closed | undefined): Check {
  return {
    name: 'exit pings',
    ok: closed === undefined,
    required: false,
    detail:
      closed === undefined
        ? 'namespace and stack send pings of guests on'
        : `${closed.reason}: by namespace and stack, guests' pings are refused`,
    remedy: closed?.remedy,
  };
}
