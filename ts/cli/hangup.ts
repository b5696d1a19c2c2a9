// SIGHUP. To a program with a terminal it says that the terminal has gone: it ends, as by SIGTERM. To
// one without it is the custom of daemons for "read your configuration", and what nohup(1) keeps away:
// it ends nothing.
//
// Node.js gives every signal its default action back when it starts, so that nohup did not ignore it for
// long: whether there is a terminal has to do.

import { isatty } from 'node:tty';

export interface HangupActions {
  /** The terminal has gone. */
  readonly end: () => void;
  /** Asked to take a changed configuration over. */
  readonly reload: () => void;
}

export const hasTerminal = (): boolean => [0, 1, 2].some((fd) => isatty(fd));

/** Acts on SIGHUP from now on. */
export function onHangup({ end, reload }: HangupActions): void {
  const terminal = hasTerminal();
  process.on('SIGHUP', () => (terminal ? end() : reload()));
}
