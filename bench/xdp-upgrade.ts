// The daemon killed, stopped, restarted and upgraded under load, each successor taking over what is in the
// kernel: what is lost on the way, by the frames' numbers.

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mustRun } from '../ts/lab/command.js';
import type { Namespace } from '../ts/lab/namespace.js';
import { installRelease, type Release } from '../ts/lab/release.js';
import type { RelayProcess, Subjects } from './relay-subjects.js';
import { LEGS, startXdp } from './xdp-end-to-end.js';
import type { LiveTraffic } from './xdp-live.js';

/** How the relay's process ends, and what is started in its place: this build, without a release. */
export interface Change {
  readonly end: 'SIGKILL' | 'stop';
  readonly start?: Release;
}

export const RESTART_AND_UPGRADE: readonly Change[] = [
  { end: 'SIGKILL' },
  { end: 'stop', start: 'next-build' },
  { end: 'stop' },
];
export const OTHER_LAYOUT: readonly Change[] = [{ end: 'stop', start: 'next-layout' }, { end: 'SIGKILL' }];

interface Program {
  readonly id: number;
  /** A digest of its instructions. */
  readonly tag: string;
}

export interface Changes {
  /** Those that forwarded, in order. */
  readonly programs: readonly Program[];
  /** Frames that came to the relay's interface, and those of them that did not arrive. */
  readonly sent: number;
  readonly lost: number;
  /** Of those that came, how many the legs' counters do not have in the end. */
  readonly uncounted: number;
  /** Frames that found no room in a cable, which holds 256: on the way to the relay, and behind it. */
  readonly refused: { readonly before: number; readonly behind: number };
}

async function refusals(namespace: Namespace, name: string): Promise<number> {
  const printed = await namespace.mustRun('ethtool', ['-S', name]);
  return Number(/tx_queue_0_xdp_xmit_errors: (\d+)/.exec(printed)?.[1]);
}

async function attachedProgram({ topology }: Subjects): Promise<Program> {
  const link = await topology.relay.mustRun('ip', ['-details', 'link', 'show', 'client0']);
  const id = /prog\/xdp id (\d+)/.exec(link)?.[1];
  if (id === undefined) throw new Error('client0 has no program');
  const { tag } = JSON.parse(await mustRun('bpftool', ['-j', 'prog', 'show', 'id', id])) as {
    readonly tag: string;
  };
  return { id: Number(id), tag };
}

async function end({ process: child }: RelayProcess, how: Change['end']): Promise<void> {
  const gone = once(child, 'exit');
  if (how === 'SIGKILL') child.kill('SIGKILL');
  else child.stdin?.end();
  const [code] = (await gone) as [number | null];
  if (how === 'stop' && code !== 0) throw new Error(`the relay ended with code ${code}`);
}

/** The relay that runs in the end is `successor`. */
export async function underLoad(
  subjects: Subjects,
  traffic: LiveTraffic,
  first: RelayProcess,
  rate: number,
  changes: readonly Change[],
): Promise<Changes & { readonly successor: RelayProcess }> {
  const { client, relay } = subjects.topology;
  const folder = mkdtempSync(join(tmpdir(), 'omerta-releases-'));
  const folderOf = new Map<Release, string>();
  for (const { start } of changes)
    if (start !== undefined) folderOf.set(start, installRelease(start, join(folder, start)));
  try {
    const programs = [await attachedProgram(subjects)];
    const before = {
      cable: await refusals(client, 'eth0'),
      behind: await refusals(relay, 'server0'),
      carried: await first.carried(),
    };
    const load = traffic.start({ protocol: 'omerta', port: first.port, legs: LEGS, rate });
    let running = first;
    for (const change of changes) {
      await sleep(300);
      await end(running, change.end);
      await sleep(300);
      const left = await attachedProgram(subjects);
      if (left.id !== programs.at(-1)?.id) throw new Error('the program did not outlive its daemon');
      const installation = change.start === undefined ? undefined : folderOf.get(change.start);
      running = await startXdp(subjects, { port: first.port, core: '0', installation });
      programs.push(await attachedProgram(subjects));
    }
    await sleep(300);
    const { sent, received } = await load.stop();
    const refused = {
      before: (await refusals(client, 'eth0')) - before.cable,
      behind: (await refusals(relay, 'server0')) - before.behind,
    };
    const came = sent - refused.before;
    return {
      programs,
      sent: came,
      lost: came - refused.behind - received,
      uncounted: came - ((await running.carried()) - before.carried),
      refused,
      successor: running,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
