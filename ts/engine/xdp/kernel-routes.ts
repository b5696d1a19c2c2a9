// Routes of stock WireGuard sessions in the kernel: kept like the native engine's, which proves sessions
// and ends them. A struct omerta_leg each (native/wire/include/omerta/wireguard_relay.h).

import type { KernelPathSide } from '../native/kernel-path-side.js';
import { callXdp, type XdpHandle } from './xdp-addon.js';

const ROUTE_BYTES = 128;
const BINDING_AT = 6;
const IDENTITY_AT = 88;
const NETWORK_AT = 92;
const PACKETS_AT = 104;
const BYTES_AT = 112;

/** What the kernel forwarded by one route. */
export interface RouteCounts {
  /** Number of the binding; 255: of none yet. */
  readonly binding: number;
  readonly identity: number;
  readonly network: number;
  readonly packets: number;
  readonly bytes: number;
}

function read(packed: Uint8Array): RouteCounts[] {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  return Array.from({ length: packed.length / ROUTE_BYTES }, (_, index) => {
    const at = index * ROUTE_BYTES;
    return {
      binding: view.getUint8(at + BINDING_AT),
      identity: view.getUint32(at + IDENTITY_AT, true),
      network: view.getUint16(at + NETWORK_AT, true),
      packets: Number(view.getBigUint64(at + PACKETS_AT, true)),
      bytes: Number(view.getBigUint64(at + BYTES_AT, true)),
    };
  });
}

export class KernelRoutes {
  #changes = -1;

  constructor(
    private readonly native: KernelPathSide,
    private readonly path: XdpHandle,
  ) {
    // Sessions an earlier daemon relayed go on meanwhile. What they carried was its to count.
    native.adoptWireguardRoutes(callXdp(() => path.routes()));
    callXdp(() => path.replaceRoutes(native.wireguardRoutes()));
  }

  /** Gives the kernel what has changed. */
  update(): void {
    const changes = this.native.wireguardChanges();
    if (changes === this.#changes) return;
    const routes = this.native.wireguardRoutes();
    this.native.addWireguardCarried(callXdp(() => this.path.replaceRoutes(routes)));
    this.#changes = changes;
  }

  counts(): readonly RouteCounts[] {
    return read(callXdp(() => this.path.routes()));
  }
}
