// What `omerta doctor` says of virtual machines: whether they can be run here, how fast, and of what they boot.

import { OperatorError, messageOf } from '../../host/operator-error.js';
import { findGuestImage, imageUnavailable } from '../../provider/image/guest-image.js';
import { machineUser } from '../../provider/machine/confinement.js';
import { knownVerdict } from '../../provider/machine/kvm-trial.js';
import { findQemu, kvmAccess, type QemuHost } from '../../provider/machine/qemu-host.js';
import type { StateDirectory } from '../state/state-directory.js';
import type { Check } from './diagnosis.js';

function optional(name: string, ok: boolean, detail: string, remedy?: string): Check {
  return { name, ok, required: false, detail, remedy: ok ? undefined : remedy };
}

/** QEMU, KVM, image. */
export async function providerChecks(state: StateDirectory): Promise<Check[]> {
  const name = 'virtual machines';
  let qemu: QemuHost;
  try {
    qemu = await findQemu();
  } catch (error) {
    const next = error instanceof OperatorError ? error.next.replace(/^Type: /, '') : undefined;
    return [optional(name, false, error instanceof OperatorError ? error.expected : messageOf(error), next)];
  }
  return [optional(name, true, `QEMU ${qemu.version}`), kvmCheck(state, qemu), imageCheck(state)];
}

function kvmCheck(state: StateDirectory, qemu: QemuHost): Check {
  const name = 'virtual machines with KVM';
  const access = kvmAccess(machineUser([]) === undefined);
  if ('why' in access) return optional(name, false, `${access.why}; without, they are slow`);
  const image = findGuestImage(state.guestImages);
  const verdict = image && knownVerdict({ qemu, image, folder: state.machines });
  if (verdict === undefined)
    return optional(
      name,
      true,
      'it can be opened; whether a guest runs, the first one tries: omerta vm try -- true',
    );
  return optional(
    name,
    verdict.works,
    verdict.works ? `a guest was up after ${verdict.detail}` : verdict.detail,
  );
}

function imageCheck(state: StateDirectory): Check {
  const name = 'guest image';
  const unavailable = imageUnavailable();
  if (unavailable !== undefined) return optional(name, false, unavailable, 'npm run build');
  const image = findGuestImage(state.guestImages);
  return optional(
    name,
    true,
    image === undefined
      ? 'it is made of Debian packages when it is first used: omerta vm try -- true'
      : `${image.name}: ${image.packages.join(', ')}`,
  );
}
