// Path sets and probes in one buffer, as they cross into the native addon, and what comes back;
// native/addon/path_calls.cc draws the layout.

import type { PathCounts, PathEnds, PathProbe, PeerPaths, ProbeRule } from '../../contract/path-control.js';
import { viewOf } from '../../wire/bytes.js';
import { PrefixBatch, PREFIX_BYTES } from '../../wire/prefix-batch.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { keyBytes, packAddress } from './peer-batch.js';

const ENDS_BYTES = 48;
const SET_BYTES = 72;
const PORT_BYTES = 24;
const PROBE_RULE_BYTES = 16 + PREFIX_BYTES + 4;
const PATH_BYTES = 8 + ENDS_BYTES;
const PROBE_BYTES = 48 + ENDS_BYTES;
const COUNTS = 6;

function packEnds({ remote, local }: PathEnds): Uint8Array {
  const packed = new Uint8Array(ENDS_BYTES);
  const view = viewOf(packed);
  if ('leg' in remote) view.setUint32(20, remote.leg, true);
  else packed.set(packAddress(remote.address));
  if (local === undefined) return packed;
  packed.set(local.ip, 24);
  view.setUint32(40, local.interface, true);
  view.setUint16(44, local.port ?? 0, true);
  return packed;
}

export function packPorts(ports: readonly SocketAddress[]): Uint8Array {
  return Buffer.concat(
    ports.map((port) => {
      const packed = new Uint8Array(PORT_BYTES);
      packed.set(packAddress(port));
      return packed;
    }),
  );
}

function packProbeRule({ local, from, answered }: ProbeRule): Uint8Array {
  const packed = new Uint8Array(PROBE_RULE_BYTES);
  if (local !== undefined) packed.set(local);
  if (from !== undefined) {
    const prefix = new PrefixBatch();
    prefix.add(from);
    packed.set(prefix.bytes, 16);
  }
  viewOf(packed).setUint32(16 + PREFIX_BYTES, answered ? 1 : 0, true);
  return packed;
}

export function packPaths(sets: readonly PeerPaths[]): Uint8Array {
  return Buffer.concat(
    sets.flatMap(({ peer, paths, control = 0, probeRules = [], ...times }) => {
      const head = new Uint8Array(SET_BYTES);
      head.set(keyBytes(peer));
      const view = viewOf(head);
      view.setUint8(32, paths === undefined ? 0 : 1);
      view.setUint8(33, control);
      view.setUint16(34, probeRules.length, true);
      view.setUint32(36, paths?.length ?? 0, true);
      view.setFloat64(40, times.silentAfterMs, true);
      view.setFloat64(48, times.leastRoundTripMs, true);
      view.setFloat64(56, times.silentBetweenReportsMs, true);
      view.setFloat64(64, times.reportEveryMs, true);
      const entries = (paths ?? []).map((path) => {
        const entry = new Uint8Array(PATH_BYTES);
        viewOf(entry).setUint16(0, path.id, true);
        viewOf(entry).setUint16(2, path.share ?? 0, true);
        viewOf(entry).setUint32(4, path.plpmtu ?? 0, true);
        entry.set(packEnds(path), 8);
        return entry;
      });
      return [head, ...probeRules.map(packProbeRule), ...entries];
    }),
  );
}

export function packProbes(probes: readonly PathProbe[]): Uint8Array {
  return Buffer.concat(
    probes.map(({ peer, token, to, size }) => {
      const packed = new Uint8Array(PROBE_BYTES);
      packed.set(keyBytes(peer));
      packed.set(token, 32);
      packed.set(packEnds(to), 40);
      viewOf(packed).setUint32(40 + ENDS_BYTES, size, true);
      return packed;
    }),
  );
}

export function unpackPathCounts(values: Float64Array): PathCounts[] {
  return Array.from({ length: values.length / COUNTS }, (_, index) => {
    const [id = 0, sentPackets = 0, sentBytes = 0, receivedPackets = 0, receivedBytes = 0, age = -1] =
      values.subarray(index * COUNTS, (index + 1) * COUNTS);
    const lastReceivedMs = age < 0 ? undefined : age;
    return { id, sentPackets, sentBytes, receivedPackets, receivedBytes, lastReceivedMs };
  });
}
