// What the sessions ask of the engine's shell.

import type { EngineEvent, PeerEndpoint } from '../../contract/engine.js';

export type SessionOutput =
  | { readonly type: 'datagram'; readonly to: PeerEndpoint; readonly datagram: Uint8Array }
  | { readonly type: 'event'; readonly event: EngineEvent };
