// What the sessions ask of the engine's shell.

import type { EngineEvent } from '../../contract/engine.js';
import type { Endpoint } from './endpoint.js';

export type SessionOutput =
  | { readonly type: 'datagram'; readonly to: Endpoint; readonly datagram: Uint8Array }
  /** A peer proved that it is there, and which address of this host it talks to. */
  | { readonly type: 'heard'; readonly at: Endpoint }
  | { readonly type: 'event'; readonly event: EngineEvent };
