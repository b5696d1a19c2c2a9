// A bpftrace script that runs, and what it has printed. It sees the whole machine, every namespace of it.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

const TRACEFS = '/sys/kernel/tracing';
const ATTACH_TIMEOUT_MS = 40_000;

/** Why no script can run here, beside what is missing of programs and privilege. */
export function bpftraceUnavailable(): string | undefined {
  return existsSync('/sys/kernel/btf/vmlinux')
    ? undefined
    : 'the kernel has no BTF (/sys/kernel/btf/vmlinux)';
}

export class Bpftrace {
  /** What it has printed, errors included. */
  output = '';

  private constructor(private readonly child: ChildProcess) {
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
  }

  /** Resolves when its probes are attached. @throws Error with what it said when they are not. */
  static async start(script: string): Promise<Bpftrace> {
    // In a mount namespace of its own: whether this machine has tracefs mounted does not matter.
    const mount = `test -e ${TRACEFS}/events || mount -t tracefs none ${TRACEFS}; exec bpftrace -B line "$1"`;
    const child = spawn('unshare', ['--mount', 'sh', '-c', mount, 'sh', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const trace = new Bpftrace(child);
    process.once('exit', () => child.kill('SIGKILL'));
    const deadline = performance.now() + ATTACH_TIMEOUT_MS;
    // The line says that it is about to attach; the first print of an interval that it has.
    while (!/^\d\d:\d\d:\d\d$/m.test(trace.output)) {
      if (trace.ended || performance.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`bpftrace ${script} did not attach: ${trace.output}`);
      }
      await setTimeout(20);
    }
    return trace;
  }

  private get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Ends it as Ctrl-C does, so that it prints its maps. @returns its exit code. */
  async stop(): Promise<number | null> {
    if (!this.ended) {
      const closed = once(this.child, 'close');
      this.child.kill('SIGINT');
      await closed;
    }
    return this.child.exitCode;
  }
}
