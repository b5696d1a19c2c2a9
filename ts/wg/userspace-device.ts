// A whole userspace WireGuard in this process: TUN interface, UDP socket, configuration socket.

import { randomBytes } from 'node:crypto';
import { EngineError, type EngineEvent, type ReconfigurableEngine } from '../contract/engine.js';
import { openNativeEngine } from '../engine/native/native-engine.js';
import { nodePrimitives } from '../engine/node-primitives.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { tunAccess } from '../host/tun-access.js';
import { formatSocketAddress } from '../wire/socket-address.js';
import { UapiSocket, uapiSocketPath } from './uapi-socket.js';
import { formatErrno, formatState, type UapiRequest } from './uapi.js';
import { WgDevice } from './wg-device.js';

/** What WireGuard interfaces start with: 1500 less IPv6, UDP and WireGuard headers. */
const DEFAULT_MTU = 1420;
/** As many as the kernel's WireGuard holds. */
const MAX_PEERS = 1 << 20;

export interface UserspaceDeviceOptions {
  readonly workers: number;
  /** Accelerators to leave off, by the names of `omerta doctor`. */
  readonly disable: readonly string[];
  /** The interface was brought up but its port is refused: it was brought down again. */
  readonly onPortRefused: (error: EngineError) => void;
  /** An accelerator spoiled packets and is not used any more. */
  readonly onDemoted: (name: string, reason: string) => void;
  readonly onRestored: (name: string) => void;
  /** The endpoint of a peer is routed into the tunnel: what is sent there is dropped. */
  readonly onRoutingLoop: (endpoint: string) => void;
}

export interface UserspaceDevice {
  /** Settles when the interface or the socket file was deleted. */
  readonly gone: Promise<void>;
  /** Removes the interface and the socket. Idempotent. */
  close(): Promise<void>;
}

function openFailure(error: unknown, name: string): unknown {
  if (!(error instanceof EngineError)) return error;
  const detail = error.message.replace(/\.$/, '');
  if (error.code === 'TUN_PERMISSION') {
    const access = tunAccess();
    return new OperatorError(
      ExitCode.permission,
      'interface',
      access.ok ? `a TUN interface is refused (${detail})` : access.reason,
      `Run it as root: sudo omerta wg ${name}`,
    );
  }
  if (error.code === 'TUN_FAILED')
    return new OperatorError(
      ExitCode.failure,
      'interface',
      `${name} cannot be made (${detail})`,
      `Choose another name, or remove the old one with: ip link delete ${name}`,
    );
  return new OperatorError(ExitCode.failure, 'engine', detail, 'See: omerta doctor');
}

/** The port follows the interface, as the kernel's WireGuard has it. */
function followInterface(
  engine: ReconfigurableEngine,
  events: readonly EngineEvent[],
  onPortRefused: (error: EngineError) => void,
): void {
  for (const { type } of events) {
    if (type === 'interface-down') engine.closePort();
    if (type !== 'interface-up') continue;
    try {
      engine.openPort();
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      // The kernel's refuses to come up; this one goes down again, which is as far as it can go.
      engine.setInterfaceDown();
      onPortRefused(error);
    }
  }
}

/** Makes the interface `name`, down and without addresses. @throws OperatorError */
export async function openUserspaceDevice(
  name: string,
  options: UserspaceDeviceOptions,
): Promise<UserspaceDevice> {
  const engine = openEngine(name, options);
  let signalGone: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => {
    signalGone = resolve;
  });
  engine.onEvents((events) => {
    followInterface(engine, events, options.onPortRefused);
    if (events.some(({ type }) => type === 'interface-gone')) signalGone();
    for (const event of events) {
      if (event.type === 'accelerator-demoted') options.onDemoted(event.name, event.reason);
      if (event.type === 'accelerator-restored') options.onRestored(event.name);
      if (event.type === 'routing-loop') options.onRoutingLoop(formatSocketAddress(event.to));
    }
  });
  const device = new WgDevice({
    engine,
    maxPeers: MAX_PEERS,
    x25519PublicKey: (key) => nodePrimitives.x25519PublicKey(key),
  });
  const handle = (request: UapiRequest): Iterable<string> => {
    if (request.type === 'get') return formatState(device.state());
    device.apply(request.change);
    return [formatErrno(0)];
  };
  try {
    const socket = await UapiSocket.listen(uapiSocketPath(name), handle, signalGone);
    return {
      gone,
      close: () => {
        socket.close();
        return engine.close();
      },
    };
  } catch (error) {
    await engine.close();
    throw error;
  }
}

function openEngine(name: string, options: UserspaceDeviceOptions): ReconfigurableEngine {
  try {
    return openNativeEngine({
      privateKey: randomBytes(32),
      port: 0,
      workers: options.workers,
      // WireGuard and nothing else: no legs, no strangers' frames, no STUN.
      maxLegs: 1,
      controlFramesPerSecond: 1,
      stunPerSecond: 0,
      maxPeers: MAX_PEERS,
      keepSessionOnNewPresharedKey: true,
      disable: options.disable,
      portFollowsInterface: true,
      tun: { name, addresses: [], mtu: DEFAULT_MTU, up: false },
    });
  } catch (error) {
    throw openFailure(error, name);
  }
}
