// Which peer the operator means: a name, a peer id, the unique beginning of either, or an address.

import { peerRows, type DaemonStatus, type PeerRow } from '../status/model/daemon-status.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { formatIp, parseIp, parseSocketAddress, formatSocketAddress } from '../wire/socket-address.js';

const HRP = 'omerta1';

/** The canonical text of an address, or the text itself. */
function canonical(text: string): string {
  const ip = parseIp(text);
  if (ip !== undefined) return formatIp(ip);
  const address = parseSocketAddress(text);
  return address === undefined ? text : formatSocketAddress(address);
}

const describe = ({ name, peerId }: PeerRow): string => (name === '' ? peerId : name);

/**
 * The only member there is; without members the only peer.
 * @param command that names a peer, for the advice: `omerta ping`
 * @throws OperatorError when there is none, or more than one.
 */
export function onlyPeer(status: DaemonStatus, command: string): PeerRow {
  const rows = peerRows(status);
  const members = rows.filter(({ kind }) => kind === 'member');
  const candidates = onePerPeer(members.length > 0 ? members : rows);
  const [only, ...others] = candidates;
  if (only === undefined)
    throw new OperatorError(ExitCode.unreachable, 'peer', 'no peer is known yet', 'Type: omerta status');
  if (others.length === 0) return only;
  throw new OperatorError(
    ExitCode.usage,
    'peer',
    `several are known (${candidates.slice(0, 8).map(describe).join(', ')}), so one has to be named`,
    `Type for example: ${command} ${describe(only)}`,
  );
}

/** The peer meant by `wanted`. @throws OperatorError when nobody or more than one fits. */
export function selectPeer(status: DaemonStatus, wanted: string): PeerRow {
  const rows = peerRows(status);
  const text = canonical(wanted.trim());
  if (text === '') throw unknown(wanted);
  const tests: ((row: PeerRow) => boolean)[] = [
    (row) => row.peerId === text || row.name === text || row.addresses.includes(text),
    (row) =>
      row.name.startsWith(text) ||
      row.peerId.slice(HRP.length).startsWith(text) ||
      (text.length > HRP.length && row.peerId.startsWith(text)),
  ];
  for (const test of tests) {
    const found = onePerPeer(rows.filter(test));
    const [only, ...others] = found;
    if (only === undefined) continue;
    if (others.length === 0) return only;
    throw new OperatorError(
      ExitCode.usage,
      'peer',
      `"${wanted}" fits several (${found
        .slice(0, 8)
        .map((row) => `${describe(row)} ${row.peerId.slice(0, 18)}…`)
        .join(', ')})`,
      'Type more of the peer id; see: omerta peers',
    );
  }
  const { peerId, name, networks } = status.mesh;
  const own = [peerId, name, ...networks.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6])];
  if (!own.includes(text)) throw unknown(wanted);
  throw new OperatorError(
    ExitCode.usage,
    'peer',
    `"${wanted}" is this machine itself`,
    'Name another; see: omerta peers',
  );
}

function unknown(wanted: string): OperatorError {
  return new OperatorError(
    ExitCode.unreachable,
    'peer',
    `nobody known is called "${wanted}", has that peer id, or that address`,
    'Type: omerta peers',
  );
}

/** One row per identity: a peer may be in several networks and a bootstrap too. */
function onePerPeer(rows: readonly PeerRow[]): PeerRow[] {
  return [...new Map(rows.map((row) => [row.peerId, row])).values()];
}
