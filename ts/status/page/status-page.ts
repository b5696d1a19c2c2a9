// The status page: one self-contained HTML document, no scripts, everything escaped. Names in it
// come from other people's records.

import { createHash } from 'node:crypto';
import { peerRows, type DaemonStatus } from '../model/daemon-status.js';
import type { RateSeries } from '../model/rate-sampler.js';
import { describeDrain } from '../model/drain-wording.js';
import { exitLines } from '../model/exit-lines.js';
import { obstacles, type Obstacle } from '../model/readiness.js';
import { sparkline } from './sparkline.js';
import { latencyWithin, sumLatencies } from '../model/latency.js';
import { formatBytes, formatCount, formatDuration, formatNanoseconds } from '../../host/units.js';

/** Rows shown of a long table; /status.json has all of them. */
const MAX_ROWS = 200;
const REFRESH_SECONDS = 5;

const STYLE = `
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--dim:#777;--accent:#2a7d6b}
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.sub{color:var(--dim);margin:.2rem 0 1.2rem}.id{font-family:ui-monospace,monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:0}dt{color:var(--dim)}dd{margin:0}
table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:600;color:var(--dim)}
th,td{padding:.25rem .8rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}.on{color:var(--accent)}.off{color:#c0392b}.dim{color:var(--dim)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:1rem}
.chart{background:var(--soft);border-radius:.5rem;padding:.6rem .8rem}.chart b{float:right;font-weight:600}
svg{display:block;width:100%;height:48px}.base{stroke:var(--line)}
.area{fill:var(--accent);opacity:.18}.line{fill:none;stroke:var(--accent);stroke-width:1.5;vector-effect:non-scaling-stroke}
`;

/** The only style the page's content security policy lets in. */
export const STYLE_HASH = `sha256-${createHash('sha256').update(STYLE).digest('base64')}`;

/** Escapes text for HTML content and double-quoted attributes. */
export function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  };
  return text.replace(/[&<>"']/g, (character) => names[character] ?? '');
}

const e = escapeHtml;

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = headings.map((heading) => `<th>${e(heading)}</th>`).join('');
  const body = rows
    .slice(0, MAX_ROWS)
    .map((row) => `<tr>${row.join('')}</tr>`)
    .join('\n');
  const more = rows.length > MAX_ROWS ? `<p class="dim">and ${rows.length - MAX_ROWS} more</p>` : '';
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>${more}`;
}

const cell = (text: string): string => `<td>${e(text)}</td>`;
const number = (text: string): string => `<td class="n">${e(text)}</td>`;
const id = (text: string): string => `<td class="id" title="${e(text)}">${e(shortId(text))}</td>`;

/** The start of a peer id that people compare by. */
export function shortId(peerId: string): string {
  return peerId.length <= 20 ? peerId : `${peerId.slice(0, 18)}…`;
}

function definition(pairs: readonly (readonly [string, string])[]): string {
  return `<dl>${pairs.map(([term, html]) => `<dt>${e(term)}</dt><dd>${html}</dd>`).join('')}</dl>`;
}

function obstacle({ check, what, next }: Obstacle): string {
  return `<b class="off">${e(check)}</b>: ${e(what)}. ${e(next)}`;
}

function charts(series: readonly RateSeries[]): string {
  const one = ({ title, unit, values }: RateSeries): string => {
    const last = values.at(-1) ?? 0;
    const rate = unit === 'bytes' ? `${formatBytes(last)}/s` : `${formatCount(last)} packets/s`;
    return `<div class="chart">${e(title)} <b>${e(rate)}</b>${sparkline(values)}</div>`;
  };
  return `<div class="charts">${series.map(one).join('\n')}</div>`;
}

function engine(status: DaemonStatus): string {
  const { summary, aead, accelerators, tun } = status.engine;
  const rows = accelerators.map(({ name, state, reason, remedy }) => [
    cell(name),
    `<td class="${state === 'on' ? 'on' : 'dim'}">${e(state)}</td>`,
    cell(reason),
    cell(remedy ?? ''),
  ]);
  return (
    definition([
      ['Engine', e(summary)],
      ['AEAD', e(aead)],
      ['Tunnel', e(tun ?? 'none')],
      ...(status.engineFallback === undefined ? [] : [['Why not native', e(status.engineFallback)] as const]),
    ]) + (rows.length === 0 ? '' : table(['Accelerator', 'State', 'Reason', 'Remedy'], rows))
  );
}

function workers(status: DaemonStatus): string {
  const rows = status.workers.map(({ name, counters, queues, latency }) => {
    const dropped = Object.entries(counters)
      .filter(([counter]) => counter.startsWith('drop_'))
      .reduce((sum, [, count]) => sum + count, 0);
    const sampled = sumLatencies([latency]);
    const within = (part: number): string =>
      sampled === undefined ? '' : formatNanoseconds(latencyWithin(sampled, part));
    return [
      cell(name),
      number(formatCount(counters['rx_datagrams'] ?? 0)),
      number(formatCount(counters['forwarded_packets'] ?? 0)),
      number(formatCount(dropped)),
      number(queues === undefined ? '' : formatBytes(queues.receiveBytes)),
      number(queues === undefined ? '' : formatBytes(queues.receivePeakBytes)),
      number(queues === undefined ? '' : formatBytes(queues.receiveLimitBytes)),
      number(within(0.5)),
      number(within(0.99)),
    ];
  });
  const columns = 'Worker,Received,Forwarded,Dropped,Queue,Queue peak,Queue limit,Half within,99 % within';
  return table(columns.split(','), rows);
}

function peers(status: DaemonStatus): string {
  const rows = peerRows(status).map((peer) => [
    cell(peer.name === '' ? peer.kind : peer.name),
    id(peer.peerId),
    cell(peer.network ?? ''),
    cell(peer.addresses.join(' ')),
    cell(peer.path),
    cell(peer.session?.endpoint ?? ''),
    number(
      peer.session?.handshakeAgeSeconds === undefined
        ? ''
        : `${formatDuration(peer.session.handshakeAgeSeconds)} ago`,
    ),
    cell(peer.session?.suite ?? ''),
    number(peer.session === undefined ? '' : formatBytes(peer.session.rxBytes)),
    number(peer.session === undefined ? '' : formatBytes(peer.session.txBytes)),
  ]);
  if (rows.length === 0) return '<p class="dim">Nobody yet.</p>';
  const columns = 'Peer,Peer id,Network,Addresses,Path,Endpoint,Handshake,Cipher,Received,Sent';
  return table(columns.split(','), rows);
}

function exits(status: DaemonStatus): string {
  const lines = exitLines(status);
  if (lines.length === 0) return '';
  return `<h2>Exits</h2>${definition(lines.map(([term, text]) => [term, e(text)] as const))}`;
}

function relay(status: DaemonStatus): string {
  const relayed = status.mesh.relay;
  if (relayed === undefined) return '';
  const rows = relayed.circuits.map((circuit) => [
    `<td class="id">${e(circuit.id.slice(0, 12))}</td>`,
    id(circuit.callerPeerId),
    id(circuit.calleePeerId),
    number(formatDuration(circuit.ageMs / 1000)),
    number(formatDuration(circuit.expiresInMs / 1000)),
    number(formatBytes(status.circuitBytes[circuit.id] ?? 0)),
  ]);
  const refusals = Object.entries(relayed.refusals)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${reason} ${count}`);
  return (
    '<h2>Relay</h2>' +
    definition([
      ...(relayed.drain === undefined ? [] : [['Drain', e(describeDrain(relayed.drain))] as const]),
      ['Registrations', e(formatCount(relayed.registrations))],
      ['Admissions', e(formatCount(relayed.admissions))],
      ['Waiting for consent', e(formatCount(relayed.halfOpen))],
      ['Standing policies', e(formatCount(relayed.standingPolicies))],
      ['Refused', e(refusals.length === 0 ? 'none' : refusals.join(', '))],
    ]) +
    `<h2>Circuits (${relayed.circuits.length})</h2>` +
    (rows.length === 0
      ? '<p class="dim">None at the moment.</p>'
      : table(['Circuit', 'Caller', 'Callee', 'Age', 'Expires in', 'Forwarded'], rows))
  );
}

function drops(status: DaemonStatus): string {
  const rows = Object.entries(status.counters)
    .filter(([name]) => name.startsWith('drop_'))
    .map(([name, count]) => [name.slice('drop_'.length).replaceAll('_', ' '), count] as const)
    .concat(
      Object.entries(status.mesh.drops).map(([reason, count]) => [`control: ${reason}`, count] as const),
    )
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => [cell(reason), number(String(count))]);
  return rows.length === 0 ? '' : `<h2>Drops</h2>${table(['Reason', 'Packets'], rows)}`;
}

/** The whole page. */
export function statusPage(status: DaemonStatus, series: readonly RateSeries[]): string {
  const { mesh } = status;
  const networks = mesh.networks.map(({ name, ipv4, ipv6, members, addressContenders }) => [
    cell(name),
    cell(addressContenders.length === 0 ? ipv4 : `${ipv4} (another member says it is its own)`),
    cell(ipv6),
    number(String(members.length)),
  ]);
  const found = obstacles(status);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${e(mesh.name)} · Omerta</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="refresh" content="${REFRESH_SECONDS}">
<style>${STYLE}</style></head><body>
<h1>${e(mesh.name)}</h1>
<p class="sub">${status.mode === 'relay' ? 'Bootstrap and relay' : 'Member'}, up for ${e(formatDuration(status.uptimeSeconds))}, Omerta ${e(status.version)}</p>
${definition([
  ['Ready', found.length === 0 ? 'yes' : found.map(obstacle).join('<br>')],
  ['Peer id', `<span class="id">${e(mesh.peerId)}</span>`],
  ['Addresses', e(status.addresses.join(' '))],
  ['UDP port', String(status.port)],
])}
<h2>Traffic, last five minutes</h2>
${charts(series)}
<h2>Engine</h2>
${engine(status)}
<h2>Workers</h2>
${workers(status)}
<h2>Networks</h2>
${networks.length === 0 ? '<p class="dim">None joined.</p>' : table(['Network', 'IPv4', 'IPv6', 'Other members'], networks)}
<h2>Peers</h2>
${peers(status)}
${exits(status)}
${relay(status)}
${drops(status)}
<p class="dim">Read-only. The same as data: <a href="/status.json">/status.json</a>, <a href="/metrics">/metrics</a></p>
</body></html>
`;
}
