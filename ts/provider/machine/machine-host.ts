// What a machine is started with on this host: QEMU, the image, and how the processor of a guest is run.

import type { StateDirectory } from '../../daemon/state/state-directory.js';
import { guestImage, type GuestImage } from '../image/guest-image.js';
import { chooseAccelerator, type Choice } from './kvm-trial.js';
import { sweepLeftovers } from './leftovers.js';
import { Machine, type MachineSettings } from './machine.js';
import type { Accelerator } from './qemu-arguments.js';
import { findQemu, type QemuHost } from './qemu-host.js';

export type MachineRequest = Pick<MachineSettings, 'cpus' | 'memoryMiB' | 'isIdle' | 'network' | 'signal'>;

export class MachineHost {
  private constructor(
    private readonly folder: string,
    readonly qemu: QemuHost,
    readonly image: GuestImage,
    readonly choice: Choice,
  ) {}

  /**
   * Removes what is left of machines of processes that were killed, and makes the image if it is not there.
   * @param say told what takes long
   * @throws OperatorError that says what is missing
   */
  static async open(
    state: StateDirectory,
    asked: Accelerator | 'auto',
    say: (what: string) => void,
  ): Promise<MachineHost> {
    state.prepare();
    const folder = state.machines;
    const qemu = await findQemu();
    const swept = await sweepLeftovers(folder);
    if (swept > 0) say(`what was left of ${swept} virtual machine${swept === 1 ? '' : 's'} is removed`);
    const image = await guestImage(state.guestImages, say);
    const choice =
      asked === 'auto'
        ? await chooseAccelerator({ qemu, image, folder }, say)
        : { accelerator: asked, why: undefined };
    if (choice.why !== undefined) say(`without KVM, so that it is slow: ${choice.why}`);
    return new MachineHost(folder, qemu, image, choice);
  }

  /** @throws OperatorError */
  start(request: MachineRequest): Promise<Machine> {
    const { folder, qemu, image, choice } = this;
    return Machine.start({ ...request, folder, qemu, image, accelerator: choice.accelerator });
  }
}
