// A bpf file system for what runs in a world: in a mount namespace of its own, so that it does not matter
// whether this machine has one mounted, and what a killed relay left pinned there ends with the world.

import { spawn, type ChildProcess } from 'node:child_process';

const MOUNT_POINT = '/sys/fs/bpf';

export class BpfMount {
  private constructor(private readonly holder: ChildProcess) {}

  /** Needs root. */
  static async create(): Promise<BpfMount> {
    // `cat` ends with this process, however that ends: its standard input is closed then.
    const script = `mount -t bpf bpf ${MOUNT_POINT} && echo mounted && exec cat`;
    const holder = spawn('unshare', ['--mount', '--propagation', 'slave', 'sh', '-c', script], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let said = '';
    await new Promise<void>((resolve, reject) => {
      holder.once('error', reject);
      holder.once('exit', () => {
        reject(new Error(`no bpf file system can be mounted at ${MOUNT_POINT}: ${said.trim()}`));
      });
      holder.stderr.on('data', (chunk) => (said += String(chunk)));
      holder.stdout.once('data', () => {
        resolve();
      });
    });
    holder.unref();
    return new BpfMount(holder);
  }

  private get process(): string {
    return `/proc/${this.holder.pid}`;
  }

  /** What nsenter wants. */
  get namespace(): string {
    return `${this.process}/ns/mnt`;
  }

  /** The file system as this process sees it. */
  get folder(): string {
    return `${this.process}/root${MOUNT_POINT}`;
  }

  /** Lets go of it: it is gone when the last process in it has ended. */
  close(): void {
    this.holder.kill('SIGKILL');
  }
}
