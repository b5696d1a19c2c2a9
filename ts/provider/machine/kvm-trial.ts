// Whether a guest's kernel runs with KVM here. That /dev/kvm opens proves nothing: some hosts emulate the privileged
// part of a guest, a thousand times slower than TCG does. So a guest is booted once for each boot of the host, version
// of QEMU and image, and has to be up after little of a processor's time.

import { readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { writePrivate } from '../../daemon/state/state-directory.js';
import { messageOf } from '../../host/operator-error.js';
import type { GuestImage } from '../image/guest-image.js';
import { machineUser } from './confinement.js';
import { Machine, type MachineSettings } from './machine.js';
import { kvmAccess } from './qemu-host.js';
import type { Accelerator } from './qemu-arguments.js';

/** Real hypervisors take less than a second; without one the same kernel takes about two. */
const LIMIT_MS = 6000;
const TRIAL_MEMORY_MIB = 128;

const VERDICT = z.object({
  /** Of what it holds: another is another trial. */
  subject: z.string(),
  works: z.boolean(),
  detail: z.string(),
});

export interface Choice {
  readonly accelerator: Accelerator;
  /** Why it is TCG; undefined with KVM, and where TCG was asked for. */
  readonly why: string | undefined;
}

export interface Subject {
  readonly qemu: MachineSettings['qemu'];
  readonly image: GuestImage;
  /** Where the verdict is kept, and the markers of machines. */
  readonly folder: string;
}

const verdictPath = (folder: string): string => join(folder, 'kvm-trial.json');

function subjectOf({ qemu, image }: Subject): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return `${boot} ${qemu.version} ${image.name}`;
}

/** What the last trial said, if it was of this. */
export function knownVerdict(subject: Subject): z.infer<typeof VERDICT> | undefined {
  try {
    const verdict = VERDICT.parse(JSON.parse(readFileSync(verdictPath(subject.folder), 'utf8')));
    return verdict.subject === subjectOf(subject) ? verdict : undefined;
  } catch {
    return undefined;
  }
}

/**
 * KVM where it can be opened and a trial succeeded, now or before; else TCG.
 * @param say told that a trial is made
 */
export async function chooseAccelerator(subject: Subject, say: (what: string) => void): Promise<Choice> {
  const access = kvmAccess(machineUser([]) === undefined);
  if ('why' in access) return { accelerator: 'tcg', why: access.why };
  const known = knownVerdict(subject);
  if (known === undefined) say('trying whether a guest runs with KVM here');
  const { works, detail } = known ?? (await tryKvm(subject));
  return works ? { accelerator: 'kvm', why: undefined } : { accelerator: 'tcg', why: detail };
}

async function tryKvm(subject: Subject): Promise<z.infer<typeof VERDICT>> {
  const begun = performance.now();
  let detail: string | undefined;
  try {
    const { qemu, image, folder } = subject;
    const machine = await Machine.start({
      ...{ qemu, image, folder, accelerator: 'kvm', cpus: 1, memoryMiB: TRIAL_MEMORY_MIB, isIdle: false },
      signal: AbortSignal.timeout(LIMIT_MS),
    });
    await machine.stop();
  } catch (error) {
    const took = performance.now() - begun;
    detail =
      took >= LIMIT_MS
        ? `with KVM a guest was not up after ${LIMIT_MS / 1000} s: this host emulates what KVM should run`
        : `with KVM a guest does not start (${messageOf(error)})`;
  }
  const took = Math.round(performance.now() - begun);
  const verdict = {
    subject: subjectOf(subject),
    works: detail === undefined,
    detail: detail ?? `${took} ms`,
  };
  // What failed on a busy host is tried again.
  if (verdict.works || (loadavg()[0] ?? 0) < availableParallelism())
    writePrivate('machines', verdictPath(subject.folder), JSON.stringify(verdict), 'replace');
  return verdict;
}
