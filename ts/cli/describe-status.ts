// A daemon's status as text for the terminal.

import { exitLines } from '../status/model/exit-lines.js';
import {
  peerRows,
  type DaemonStatus,
  type MachineStatus,
  type PeerRow,
} from '../status/model/daemon-status.js';
import { obstacles } from '../status/model/readiness.js';
import { latencyWithin, sumLatencies } from '../status/model/latency.js';
import { formatBytes, formatDuration, formatNanoseconds } from '../host/units.js';
import { isRefusal } from '../core/protocol/refusal.js';
import { isCap } from '../core/relay/relay-limits.js';
import { wordPinhole, wordPortMapping } from '../status/model/port-mapping-wording.js';
import type { BootstrapStatus, StandingPolicyStatus } from '../core/runtime/mesh-status.js';
import {
  ADDRESS_COLLISION,
  ADDRESS_MOVED,
  wordCircuitFailure,
  wordRefusal,
  wordStoreError,
  wordUplinkError,
  UDP_BLOCKED,
} from '../status/model/wording.js';
import { wordBarred, wordIndirect, wordWay } from '../status/model/path-wording.js';
import { columns } from './context.js';
import { ceilingRows, paddingShare, queueState } from './describe-shaping.js';

/** Makes a name or reason from elsewhere safe for a terminal: control characters become `?`. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

export const formatRtt = (rttMs: number | undefined): string =>
  rttMs === undefined ? '-' : `${rttMs.toFixed(1)} ms`;

/** The accelerators in use, or that there are none, and those given up while the engine ran. */
export function describeAccelerators({ engine }: DaemonStatus): string {
  const on = engine.accelerators.filter(({ state }) => state === 'on').map(({ name }) => name);
  const demoted = engine.accelerators
    .filter(({ state }) => state === 'demoted')
    .map(({ name, reason }) => `${name} demoted: ${reason}`);
  return [on.length === 0 ? 'none' : on.join(', '), ...demoted].join('; ');
}

/** The interface, and what is not in order with it. */
export function describeTunnel({ engine, tunnel, guest, noPrivateNetwork: closed }: DaemonStatus): string {
  if (guest !== undefined) return describeGuest(guest);
  if (engine.stack === true)
    return `none: a TCP/IP stack of its own serves guests${closed === undefined ? '' : `; no private network: ${closed.reason}. Type: ${closed.remedy}`}`;
  if (tunnel === undefined) return engine.tun ?? 'none';
  const { name, state, missing, unrouted } = tunnel;
  if (state === 'gone') return `${name}: deleted by somebody, and made anew in a moment`;
  if (state === 'elsewhere') return `${name}: renamed, or moved to another network namespace`;
  if (state === 'down') return `${name}: down, or without its addresses (${missing.join(' ')})`;
  if (tunnel.private !== undefined)
    return `${name}, in a private network (omerta exec -- CMD)${tunnel.private.error === undefined ? '' : `: ${tunnel.private.error}`}`;
  return [
    name,
    ...(missing.length === 0 ? [] : [`which cannot have ${missing.join(' ')}`]),
    ...(unrouted.length === 0 ? [] : [`by which no route leads to the network of ${unrouted.join(' ')}`]),
  ].join(', ');
}

/** Where a virtual machine is connected, and what of its frames went nowhere. */
function describeGuest({
  path,
  connected,
  drops,
  noise,
  badLengths,
  refused,
  agrees,
}: MachineStatus): string {
  const dropped = Object.entries(drops).map(([kind, count]) => `${kind} ${count}`);
  return [
    `guest socket ${path}: QEMU ${connected ? 'connected' : 'not connected'}`,
    `dropped ${dropped.length === 0 ? 'nothing' : dropped.join(', ')}`,
    ...(noise === 0 ? [] : [`innocent noise ${noise}`]),
    ...(badLengths === 0 ? [] : [`${badLengths} connections ended for garbage`]),
    ...(refused === 0 ? [] : [`${refused} connections of other users refused`]),
    ...(agrees ? [] : ['ALARM: the socket counted other frames than the gateway']),
  ].join('; ');
}

/** Our standing policy at a relay. */
function describePolicy({ address, state, notAfter }: StandingPolicyStatus): string {
  const until = new Date(notAfter * 1000).toISOString().slice(0, 16);
  if (state === 'held') return `standing policy at ${address}: held until ${until}Z`;
  if (state === 'withdrawn') return `standing policy at ${address}: withdrawn`;
  return `standing policy at ${address}: ${describeState(state)}`;
}

/** A state in which something was asked for: a refusal with what it means. */
function describeState(state: string): string {
  if (!isRefusal(state)) return state;
  const { what, next } = wordRefusal(state);
  return `${state}, ${what}. ${next}`;
}

function describeBootstrap({
  peerId,
  address,
  state,
  observedAddress,
  drainsInSeconds,
  lastError,
}: BootstrapStatus): string {
  const worded = lastError === undefined || state === 'registered' ? undefined : wordUplinkError(lastError);
  return [
    `${peerId.slice(0, 18)}… at ${address}: ${state}`,
    ...(observedAddress === undefined ? [] : [`sees us at ${observedAddress}`]),
    ...(drainsInSeconds === undefined ? [] : [`will stop in ${formatDuration(drainsInSeconds)}`]),
    ...(worded === undefined ? [] : [`${worded.what}. ${worded.next}`]),
  ].join(', ');
}

/** None where nothing is asked of a gateway. */
export function portMappingRows({ portMapping, mesh }: DaemonStatus): string[][] {
  if (portMapping === undefined || ['off', 'no-gateway'].includes(portMapping.state)) return [];
  const { what, next } = wordPortMapping(portMapping, mesh.mapped);
  return [['port mapping', next === '' ? what : `${what}. ${next}`]];
}

function readinessRows(status: DaemonStatus): string[][] {
  const found = obstacles(status);
  if (found.length === 0) return [['ready', 'yes']];
  return found.map(({ check, what, next }, index) => [
    index === 0 ? 'ready' : '',
    `${index === 0 ? 'NO: ' : ''}${check}: ${what}. ${next}`,
  ]);
}

/** None where nothing is asked of a gateway of IPv6; where it lets nothing in, `omerta nat` alone tells. */
export function pinholeRows({ pinhole }: DaemonStatus): string[][] {
  const worded = pinhole && wordPinhole(pinhole);
  if (worded === undefined) return [];
  return [['IPv6 firewall', worded.next === '' ? worded.what : `${worded.what}. ${worded.next}`]];
}

/** `omerta status` */
export function describeStatus(status: DaemonStatus): string {
  const { mesh, engine } = status;
  const rows: string[][] = [
    ['node', `${mesh.name} (${status.mode === 'relay' ? 'bootstrap and relay' : 'member'})`],
    ['peer id', mesh.peerId],
    ['up for', formatDuration(status.uptimeSeconds)],
    ...readinessRows(status),
    ['addresses', status.addresses.join(' ') || 'none'],
    ['engine', engine.summary],
    ['aead', engine.aead],
    ['accelerators', describeAccelerators(status)],
    ['tunnel', describeTunnel(status)],
    ['status page', status.statusPage ?? 'off'],
  ];
  for (const { name, ipv4, ipv6, members, addressRound, addressContenders } of mesh.networks) {
    const others = `${members.length} other ${members.length === 1 ? 'member' : 'members'}`;
    rows.push([`network ${name}`, `${ipv4}  ${ipv6}  ${others}`]);
    if (addressRound > 0) rows.push(['', `its first IPv4 address is another's: ${ADDRESS_MOVED}`]);
    for (const peerId of addressContenders)
      rows.push(['', `${peerId} says that ${ipv4} is its own: ${ADDRESS_COLLISION}`]);
  }
  if (mesh.udp === 'blocked') rows.push(['udp', `${UDP_BLOCKED.what}. ${UDP_BLOCKED.next}`]);
  for (const bootstrap of mesh.bootstraps) rows.push(['bootstrap', describeBootstrap(bootstrap)]);
  for (const { name, refused } of mesh.networks.flatMap(({ members }) => members)) {
    if (refused === undefined) continue;
    const { what, next } = wordCircuitFailure(refused);
    rows.push([`member ${name}`, `no circuit: ${what}. ${next}`]);
  }
  for (const member of mesh.networks.flatMap(({ members }) => members)) {
    const barred = wordBarred(member);
    if (barred !== undefined)
      rows.push([`member ${member.name}`, `nothing is sent: ${barred.what}. ${barred.next}`]);
  }
  rows.push(...portMappingRows(status));
  if (status.pinhole?.state === 'mapped') rows.push(...pinholeRows(status));
  rows.push(...ceilingRows(status.ceilings ?? []), ...exitLines(status));
  for (const { address, state } of mesh.wireguard)
    rows.push([
      'wireguard',
      state === 'bound'
        ? `stock clients reach this node at ${address}, public key ${status.wireguard.publicKey}`
        : `the relay at ${address}: ${describeState(state)}`,
    ]);
  for (const policy of mesh.standingPolicies) rows.push(['consent', describePolicy(policy)]);
  if (mesh.relay !== undefined) {
    const { registrations, admissions, standingPolicies, circuits, halfOpen } = mesh.relay;
    rows.push([
      'relay',
      `${registrations} registered, ${admissions} admitted, ${standingPolicies} with a standing policy, ` +
        `${circuits.length} circuits, ${halfOpen} waiting for consent`,
    ]);
    const reached = Object.entries(mesh.relay.refusals).filter(
      ([reason, count]) => isCap(reason) && count > 0,
    );
    if (reached.length > 0)
      rows.push([
        'limits reached',
        `${reached.map(([reason, count]) => `${reason} ${count}`).join(', ')} times: raise them under [relay]`,
      ]);
  }
  const latency = sumLatencies(status.workers.map((worker) => worker.latency));
  if (latency !== undefined) {
    const within = (part: number): string => formatNanoseconds(latencyWithin(latency, part));
    const samples = latency.counts.reduce((sum, count) => sum + count, 0);
    rows.push([
      'time in relay',
      `half within ${within(0.5)}, 99 % within ${within(0.99)} (${samples} sampled)`,
    ]);
  }
  const { rx_bytes: received = 0, tx_bytes: sent = 0, forwarded_bytes: forwarded = 0 } = status.counters;
  const dropped = Object.entries(status.counters)
    .filter(([name]) => name.startsWith('drop_'))
    .reduce((sum, [, count]) => sum + count, 0);
  rows.push([
    'traffic',
    `${formatBytes(received)} received, ${formatBytes(sent)} sent, ${formatBytes(forwarded)} forwarded, ${dropped} packets dropped`,
  ]);
  if (status.store.error !== undefined) rows.push(['store', wordStoreError(status.store.error).what]);
  if (status.store.damaged !== undefined)
    rows.push(['store', `was damaged and begun anew; the old one is ${status.store.damaged}`]);
  const { lost, error, heldBack } = status.log;
  if (lost + heldBack > 0 || error !== undefined)
    rows.push([
      'log',
      [
        ...(error === undefined ? [] : [`cannot be written (${error})`]),
        `${lost} lines lost`,
        `${heldBack} of too many held back`,
      ].join(', '),
    ]);
  if (status.failures > 0) rows.push(['failures', `${status.failures} (see the log)`]);
  return columns(rows.map((row) => row.map(printable)));
}

/** `omerta peers` */
export function describePeers(status: DaemonStatus): string {
  const rows = peerRows(status);
  if (rows.length === 0) return 'no peers yet';
  const seen = ({ session }: PeerRow): string =>
    session?.handshakeAgeSeconds === undefined ? '-' : `${formatDuration(session.handshakeAgeSeconds)} ago`;
  const traffic = ({ session }: PeerRow): string =>
    session === undefined ? '-' : `${formatBytes(session.rxBytes)} / ${formatBytes(session.txBytes)}`;
  const shaped = rows.some(({ session }) => session?.shaping !== undefined);
  const waited = rows.some(({ session }) => (session?.shaping?.queuedPackets ?? 0) > 0);
  return columns([
    [
      'PEER',
      'NETWORK',
      'ADDRESSES',
      'PATH',
      'RTT',
      'MTU',
      'STANDBY',
      'HANDSHAKE',
      'CIPHER',
      'RECEIVED / SENT',
      ...(shaped ? ['PADDING'] : []),
      ...(waited ? ['WAITING'] : []),
      'PEER ID',
      'WHY NOT DIRECT',
    ],
    ...rows.map((row) =>
      [
        row.name === '' ? `(${row.kind})` : row.name,
        row.network ?? '-',
        row.addresses.join(' '),
        wordPath(row),
        formatRtt(row.active?.rttMs),
        row.active?.plpmtu === undefined ? '-' : String(row.active.plpmtu),
        row.standby === undefined ? '-' : wordWay(row.standby),
        seen(row),
        row.session?.suite ?? '-',
        traffic(row),
        ...(shaped ? [paddingShare(row.session?.shaping)] : []),
        ...(waited ? [queueState(row.session?.shaping)] : []),
        row.peerId,
        row.indirect === undefined ? '-' : wordIndirect(row.indirect).what,
      ].map(printable),
    ),
  ]);
}

/** The way in use, or that none may be. */
function wordPath({ path, active, barred }: PeerRow): string {
  if (barred) return 'refused';
  if (active === undefined) return path;
  return wordWay(active);
}
