// A state directory of a test, with the image of the guest machines that npm test made.

import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StateDirectory } from '../../ts/daemon/state/state-directory.js';
import { GUEST_IMAGES, guestImageOfTests } from '../../ts/lab/guest.js';
import { MachineHost } from '../../ts/provider/machine/machine-host.js';
import { findQemu } from '../../ts/provider/machine/qemu-host.js';
import { messageOf } from '../../ts/host/operator-error.js';

/** Why no machine can be started here; undefined when one can. */
export async function machinesUnavailable(): Promise<string | undefined> {
  const image = guestImageOfTests();
  if (typeof image === 'string') return image;
  return findQemu().then(() => undefined, messageOf);
}

/** A new one, until this process ends. */
export function machineState(): StateDirectory {
  const path = mkdtempSync(join(tmpdir(), 'omerta-machines-'));
  process.once('exit', () => rmSync(path, { recursive: true, force: true }));
  const state = new StateDirectory(path);
  state.prepare();
  symlinkSync(GUEST_IMAGES, state.guestImages);
  return state;
}

/** Without KVM: it takes as long on every host. */
export function machineHost(state: StateDirectory): Promise<MachineHost> {
  return MachineHost.open(state, 'tcg', () => undefined);
}
