// Whether a node is ready for what it is there for, and if not, why: the answer to /readyz, the exit code and the first
// line of `omerta status`, and what systemd is told.

import type { BootstrapStatus, RelayStatus } from '../../core/runtime/mesh-status.js';
import { RELAY_LIMITS } from '../../core/relay/relay-limits.js';
import type { DaemonStatus } from './daemon-status.js';
import { describeDrain } from './drain-wording.js';
import { UDP_BLOCKED, wordStoreError, wordUplinkError, type Wording } from './wording.js';

/** Something that keeps a node from doing what it is there for. */
export interface Obstacle extends Wording {
  readonly check:
    'interface' | 'private network' | 'relays' | 'clock' | 'exit' | 'capacity' | 'drain' | 'store';
}

/** What is looked at; the node and the machine are as the daemon's status has them. */
export type ReadinessFacts = Pick<DaemonStatus, 'mode' | 'tunnel' | 'mesh' | 'exit' | 'store'>;

/** What keeps it from serving, the gravest first; empty = it is ready. */
export function obstacles(status: ReadinessFacts): Obstacle[] {
  const { mode, mesh, store } = status;
  return [
    ...(mode === 'up' ? [...ofInterface(status), ...ofRelays(status), ...ofExit(status)] : []),
    ...ofClock(mesh.bootstraps),
    ...(mesh.relay === undefined ? [] : [...ofDrain(mesh.relay), ...ofCapacity(mesh.relay)]),
    ...(store.error === undefined ? [] : [{ check: 'store' as const, ...wordStoreError(store.error) }]),
  ];
}

/** Ready, or each obstacle in a line. */
export function readinessText(found: readonly Obstacle[]): string {
  if (found.length === 0) return 'ready';
  return ['not ready', ...found.map(({ check, what, next }) => `${check}: ${what}. ${next}`)].join('\n');
}

function ofInterface({ tunnel }: ReadinessFacts): Obstacle[] {
  if (tunnel === undefined) return [];
  const { name, state, missing, unrouted } = tunnel;
  const anew = 'Type: omerta down, then omerta up';
  if (tunnel.private?.error !== undefined)
    return [{ check: 'private network', what: tunnel.private.error, next: anew }];
  if (state === 'up') return [];
  const [what, next] = (
    {
      gone: ['was deleted by somebody', 'It is made anew in a moment; see: omerta status'],
      elsewhere: ['was renamed, or moved to another network namespace', anew],
      down: [`is down, or without its addresses (${missing.join(' ')})`, `Type: ip link set ${name} up`],
      unrouted: [
        `has no route to the network of ${unrouted.join(' ')}`,
        'Another one comes first: ip route show table all tells which',
      ],
    } as const
  )[state];
  return [{ check: 'interface', what: `${name} ${what}`, next }];
}

/** A member that no relay knows is found by nobody. Without a relay in any of its invites it has none to look for. */
function ofRelays({ mesh: { bootstraps, udp } }: ReadinessFacts): Obstacle[] {
  if (bootstraps.length === 0 || bootstraps.some(({ state }) => state === 'registered')) return [];
  if (udp === 'blocked') return [{ check: 'relays', ...UDP_BLOCKED }];
  const failed = bootstraps.find(({ lastError }) => lastError !== undefined);
  const { what, next } =
    failed?.lastError === undefined
      ? { what: 'not registered with any of them yet', next: 'Wait a moment; else see: omerta status' }
      : wordUplinkError(failed.lastError);
  return [{ check: 'relays', what: `registered with none${failed === undefined ? '' : `: ${what}`}`, next }];
}

function ofExit({ exit, mesh }: ReadinessFacts): Obstacle[] {
  if (exit?.error !== undefined)
    return [{ check: 'exit', what: exit.error, next: 'See: omerta exit status' }];
  const { choice } = mesh.exit;
  if (choice.length === 0 || choice.some(({ isActive }) => isActive)) return [];
  return [
    { check: 'exit', what: 'none of those it is to leave by grants it', next: 'See: omerta exit status' },
  ];
}

function ofClock(bootstraps: readonly BootstrapStatus[]): Obstacle[] {
  for (const { lastError, state } of bootstraps)
    if (state !== 'registered' && (lastError === 'clock-behind' || lastError === 'clock-ahead'))
      return [{ check: 'clock', ...wordUplinkError(lastError) }];
  return [];
}

function ofDrain({ drain }: RelayStatus): Obstacle[] {
  if (drain === undefined) return [];
  return [
    {
      check: 'drain',
      what: `${describeDrain(drain)}; nobody more is taken`,
      next: 'To take it back, type: omerta relay undrain',
    },
  ];
}

/** Of a limit of all clients together; what one identity or network has used up is no state of the relay. */
function ofCapacity({ admissions, registrations, circuits, limits }: RelayStatus): Obstacle[] {
  const used = { admissions, registrations, circuits: circuits.length };
  return (['admissions', 'registrations', 'circuits'] as const)
    .filter((name) => used[name] >= limits[name])
    .map((name) => ({
      check: 'capacity',
      what: `${used[name]} ${RELAY_LIMITS[name].unit} of ${limits[name]}: nobody more is taken`,
      next: `Raise ${RELAY_LIMITS[name].key} under [relay], or send members to another relay`,
    }));
}
