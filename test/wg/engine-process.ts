// A native engine with a TUN interface in a process of its own, so that it can live in a network
// namespace (suites.test.ts). Lines of JSON: the first on standard input opens it, each later one is a
// peer or asks for its state; each is answered by one line.

import { createInterface } from 'node:readline';
import type {
  EngineOptions,
  PeerConfig,
  PeerStatus,
  ReconfigurableEngine,
} from '../../ts/contract/engine.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { parseSocketAddress } from '../../ts/wire/socket-address.js';

export interface EngineRequest {
  readonly open?: {
    readonly privateKey: string;
    readonly port: number;
    readonly tun: NonNullable<EngineOptions['tun']>;
    readonly disable: readonly string[];
  };
  /** `endpoint` undefined: the peer is waited for. */
  readonly peer?: Pick<PeerConfig, 'sessionKey' | 'allowedIps'> & { readonly endpoint?: string };
}

export interface EngineState {
  readonly peers: readonly PeerStatus[];
  readonly counters: Readonly<Record<string, number>>;
}

let engine: ReconfigurableEngine | undefined;

function answer({ open, peer }: EngineRequest): EngineState {
  if (open !== undefined)
    engine = openNativeEngine({
      ...open,
      privateKey: Buffer.from(open.privateKey, 'hex'),
      maxLegs: 1,
      maxPeers: 4,
      controlFramesPerSecond: 1,
    });
  if (engine === undefined) throw new Error('open it first');
  if (peer !== undefined) {
    const address = peer.endpoint === undefined ? undefined : parseSocketAddress(peer.endpoint);
    engine.setPeers([
      {
        sessionKey: peer.sessionKey,
        allowedIps: peer.allowedIps,
        presharedKey: undefined,
        endpoint: address && { address },
        persistentKeepalive: 0,
      },
    ]);
  }
  return { peers: engine.peers(), counters: Object.fromEntries(engine.counters()) };
}

createInterface({ input: process.stdin })
  .on('line', (line) => console.log(JSON.stringify(answer(JSON.parse(line) as EngineRequest))))
  .on('close', () => void engine?.close());
