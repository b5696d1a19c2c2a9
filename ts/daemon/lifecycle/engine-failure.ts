// What an engine's error means to the operator: which field, which exit code, what to type.

import { EngineError } from '../../contract/engine.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { deviceProblem, tunAccess } from '../../host/tun-access.js';

/** Turns an EngineError into a line for the operator; anything else is returned as it is. */
export function engineFailure(
  error: unknown,
  options: {
    port: number;
    bind: string | undefined;
    state: string;
    /** Whether the interface is one of the machine, and not of a private network. */
    ownTunnel: boolean;
  },
): unknown {
  if (!(error instanceof EngineError)) return error;
  const detail = error.message.replace(/\.$/, '');
  switch (error.code) {
    case 'PORT_IN_USE':
      return new OperatorError(
        ExitCode.failure,
        'port',
        `UDP port ${options.port} is taken by another program`,
        'Choose another with --port N (or port = N under [node] in the configuration)',
      );
    case 'BIND_FAILED':
      return new OperatorError(
        ExitCode.failure,
        'bind',
        `${options.bind ?? 'the socket'} cannot be bound: ${detail}`,
        'Give an address this machine has with --bind ADDR, or leave --bind out',
      );
    case 'TUN_PERMISSION': {
      const device = options.ownTunnel ? undefined : deviceProblem();
      if (device !== undefined)
        return new OperatorError(ExitCode.permission, 'tun', device.reason, `Type: ${device.remedy}`);
      const access = tunAccess();
      return new OperatorError(
        ExitCode.permission,
        'tun',
        access.ok ? `a TUN interface is refused (${detail})` : access.reason,
        `Type: ${access.remedy ?? 'sudo modprobe tun'} (or run it as root, with a state directory of root's: sudo omerta up; or without an interface on this machine: omerta up --no-tun)`,
      );
    }
    case 'TUN_FAILED':
      return new OperatorError(
        ExitCode.failure,
        'tun',
        `the interface cannot be made: ${detail}`,
        'Choose another name with interface = "…" under [node], and see: omerta doctor',
      );
    case 'GUEST_SOCKET':
      return new OperatorError(
        ExitCode.failure,
        'guest-socket',
        detail,
        'Give a path in a folder of yours where nothing is yet: --guest-socket PATH (guest_socket under [node])',
      );
    case 'ENGINE_UNAVAILABLE':
      return new OperatorError(
        ExitCode.failure,
        'engine',
        detail,
        'Build it with: npm run build, then see: omerta doctor',
      );
    case 'XDP_PERMISSION':
    case 'XDP_UNAVAILABLE': {
      const [what = detail, remedy] = detail.split('. Type: ');
      const next = remedy === undefined ? 'See: omerta doctor' : `Type: ${remedy}`;
      return new OperatorError(
        error.code === 'XDP_PERMISSION' ? ExitCode.permission : ExitCode.failure,
        'accel',
        `there is no kernel path (${what})`,
        `${next}; or let the sockets do it: --accel auto`,
      );
    }
    case 'TABLE_FULL':
    case 'BAD_ARGUMENT':
    case 'CLOSED':
      return new OperatorError(ExitCode.failure, 'engine', detail, 'See: omerta doctor');
  }
}
