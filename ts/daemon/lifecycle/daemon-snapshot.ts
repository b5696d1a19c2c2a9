// What a daemon shows of itself at one moment: what the node, the engine and the host say, as one report.

import { performance } from 'node:perf_hooks';
import type { CircuitStatus, MeshStatus } from '../../core/runtime/mesh-status.js';
import { VERSION } from '../../host/version.js';
import { formatWireguardKey } from '../../host/wireguard-key.js';
import { sessionStatus, wireguardBindings, type DaemonStatus } from '../../status/model/daemon-status.js';
import { relayAccounts } from '../../status/model/relay-accounts.js';
import { fromHex } from '../../wire/bytes.js';
import { formatSocketAddress } from '../../wire/socket-address.js';
import type { Mesh } from './mesh.js';

/** What comes from neither the node nor its engine is shown as it is. */
export interface SnapshotParts extends Pick<
  DaemonStatus,
  | 'mode'
  | 'stateDirectory'
  | 'statusPage'
  | 'tunnel'
  | 'noPrivateNetwork'
  | 'guest'
  | 'privatePorts'
  | 'portMapping'
  | 'pinhole'
  | 'exit'
  | 'log'
  | 'store'
> {
  /** Monotonic ms. */
  readonly startedAt: number;
  readonly mesh: Mesh;
}

export function daemonStatus(parts: SnapshotParts): DaemonStatus {
  const { mesh } = parts;
  const { engine } = mesh.shell;
  const status = mesh.shell.status();
  const legs = engine.legs();
  return {
    version: VERSION,
    pid: process.pid,
    mode: parts.mode,
    stateDirectory: parts.stateDirectory,
    uptimeSeconds: Math.floor((performance.now() - parts.startedAt) / 1000),
    engine: engine.describe(),
    engineFallback: mesh.engineFallback,
    port: engine.port,
    addresses: mesh.addresses.map(formatSocketAddress),
    statusPage: parts.statusPage,
    mesh: status,
    sessions: engine
      .peers()
      .map((peer) => sessionStatus(peer, engine.shaping?.shapingCounts(peer.sessionKey))),
    accounts: status.relay && relayAccounts(status.relay.accounts, engine, networkNames(status)),
    legs: legs.length,
    circuitBytes: circuitBytes(
      status.relay?.circuits ?? [],
      new Map(legs.map(({ id, bytes }) => [id, bytes])),
    ),
    wireguard: {
      publicKey: formatWireguardKey(fromHex(status.sessionKey) ?? new Uint8Array(32)),
      bindings: wireguardBindings(status.relay?.wireguard ?? [], engine.wireguardUsage()),
    },
    counters: Object.fromEntries(engine.counters()),
    workers: engine.workers().map((worker) => ({ ...worker, counters: Object.fromEntries(worker.counters) })),
    failures: mesh.shell.failures,
    tunnel: parts.tunnel,
    noPrivateNetwork: parts.noPrivateNetwork,
    guest: parts.guest,
    privatePorts: parts.privatePorts,
    portMapping: parts.portMapping,
    pinhole: parts.pinhole,
    ceilings: mesh.ceilings(),
    exit: parts.exit,
    log: parts.log,
    store: parts.store,
  };
}

/** Names by blinded id. */
export function networkNames({ networks }: Pick<MeshStatus, 'networks'>): Map<string, string> {
  return new Map(networks.map(({ blindedId, name }) => [blindedId, name]));
}

function circuitBytes(
  circuits: readonly CircuitStatus[],
  bytesOfLeg: ReadonlyMap<number, number>,
): Record<string, number> {
  return Object.fromEntries(
    circuits.map(({ id, legs }) => [id, legs.reduce((sum, leg) => sum + (bytesOfLeg.get(leg) ?? 0), 0)]),
  );
}
