// What went wrong while the engine opened or changed something, told as the field a person can change.

import { EngineError } from '../../contract/engine.js';
import { errnoWords } from './accelerators.js';
import type { NativeStep, NativeStepFailure } from './native-addon.js';

/** What was tried; `subject` is an interface, an address or a file. */
const STEP_WORDS: Readonly<Record<Exclude<NativeStep, 'bind'>, (subject: string) => string>> = {
  'tun-device': (subject) => `open ${subject}`,
  'tun-create': (subject) => `create interface ${subject}`,
  'tun-offloads': (subject) => `offloads of ${subject}`,
  'tun-mtu': (subject) => `mtu of ${subject}`,
  'tun-flags': () => 'flags of the interface',
  'tun-up': (subject) => `bring up ${subject}`,
  'tun-addresses': (subject) => `addresses of ${subject}`,
  'tun-address': (subject) => `address ${subject}`,
  'tun-route': (subject) => `route by ${subject}`,
  'tun-name': (subject) => `name of ${subject}`,
  socket: () => 'socket',
  fwmark: () => 'fwmark',
  'guest-socket': (subject) => `listen at ${subject}`,
};

/** The operating system says: not you, or not without a module. */
const NOT_PERMITTED: ReadonlySet<number> = new Set([1 /* EPERM */, 2 /* ENOENT */, 13 /* EACCES */]);
const EADDRINUSE = 98;

function isStepFailure(error: unknown): error is NativeStepFailure {
  return error instanceof Error && (error as { code?: unknown }).code === 'STEP_FAILED';
}

/**
 * An EngineError for what the addon threw; what is none of its own is returned as it is.
 * @param port the one that was to be bound
 */
export function openFailure(error: unknown, port: number): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  if ((error as { code?: unknown }).code === 'BAD_ARGUMENT')
    return new EngineError('BAD_ARGUMENT', error.message);
  if (!isStepFailure(error)) return error;
  const { step, subject, errno } = error;
  const what = errnoWords(errno);
  const message = step === 'bind' ? what : `${STEP_WORDS[step](subject)}: ${what}`;
  if (step.startsWith('tun-'))
    return new EngineError(NOT_PERMITTED.has(errno) ? 'TUN_PERMISSION' : 'TUN_FAILED', `tun: ${message}`);
  if (step === 'fwmark') return new EngineError('BAD_ARGUMENT', `${message} (needs CAP_NET_ADMIN)`);
  if (step === 'guest-socket') return new EngineError('GUEST_SOCKET', message);
  if (errno === EADDRINUSE)
    return new EngineError('PORT_IN_USE', `port: UDP port ${port} is in use by another process`);
  return new EngineError('BIND_FAILED', `bind: ${message}`);
}
