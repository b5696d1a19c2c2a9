// What the sessions ask of the engine's shell.

import type { EngineEvent } from '../../contract/engine.js';
import type { Endpoint } from './endpoint.js';

/** @typeParam To names where a datagram goes, and by which of this host's addresses. */
export type SessionOutput<To = Endpoint> =
  | { readonly type: 'datagram'; readonly to: To; readonly datagram: Uint8Array }
  /** A peer proved that it is there, and which address of this host it talks to. */
  | { readonly type: 'heard'; readonly at: To }
  | { readonly type: 'event'; readonly event: EngineEvent };
