// The native engine under a device, but for what needs privileges or other people's ports; and what the
// socket of such a device answers.

import { EngineError, type PeerChange, type PeerState, type SessionKey } from '../../ts/contract/engine.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { RequestReader, UapiError, formatErrno, formatState } from '../../ts/wg/uapi.js';
import type { WgDevice, WgEngine } from '../../ts/wg/wg-device.js';

/** To one request, lines without the empty one. */
export function answer(device: WgDevice, lines: readonly string[]): string {
  try {
    const [request] = new RequestReader().push([...lines, '', ''].join('\n'));
    if (request === undefined || request instanceof UapiError) throw request ?? new Error('no request');
    if (request.type === 'get') return [...formatState(device.state())].join('');
    device.apply(request.change);
    return formatErrno(0);
  } catch (error) {
    if (!(error instanceof UapiError)) throw error;
    return formatErrno(error.errno);
  }
}

export class ModelEngine implements WgEngine {
  port = 40000;
  fwmark = 0;
  readonly takenPorts = new Set<number>();
  readonly native: ReturnType<typeof openNativeEngine>;

  constructor(privateKey: Uint8Array, maxPeers: number) {
    this.native = openNativeEngine({
      privateKey,
      port: 0,
      bind: '127.0.0.1',
      maxLegs: 1,
      maxPeers,
      controlFramesPerSecond: 1,
    });
  }

  changePeers(changes: readonly PeerChange[], replace: boolean): void {
    this.native.changePeers(changes, replace);
  }
  hasRoom(changes: readonly PeerChange[], replace: boolean): boolean {
    return this.native.hasRoom(changes, replace);
  }
  removePeers(peers: readonly SessionKey[]): void {
    this.native.removePeers(peers);
  }
  peerStates(): Iterable<PeerState> {
    return this.native.peerStates();
  }
  rebind(port: number): void {
    if (this.takenPorts.has(port)) throw new EngineError('PORT_IN_USE', 'port: taken');
    this.port = port === 0 ? 40001 : port;
  }
  setFwmark(fwmark: number): void {
    this.fwmark = fwmark;
  }
  setPrivateKey(privateKey: Uint8Array | undefined): void {
    this.native.setPrivateKey(privateKey);
  }
}
