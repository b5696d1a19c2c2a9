// One network namespace and what runs in it.

import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { z } from 'zod';
import type { BpfMount } from './bpf-mount.js';
import { mustRun, run, type Finished, type RunOptions } from './command.js';

const linkStatistics = z.tuple([
  z.object({ stats64: z.object({ rx: z.object({ packets: z.number(), bytes: z.number() }) }) }),
]);

export class Namespace {
  private readonly children = new Set<ChildProcess>();
  /** Where programs find their bpf file system; the machine's without one. */
  bpf: BpfMount | undefined;

  constructor(
    /** The name `ip netns` knows. */
    readonly name: string,
  ) {}

  // nsenter and not `ip netns exec`: the latter hides the bpf file system behind a new /sys.
  private entered(file: string, args: readonly string[]): [string, string[]] {
    const net = `--net=/run/netns/${this.name}`;
    if (this.bpf === undefined) return ['nsenter', [net, '--', file, ...args]];
    // Entering a mount namespace leads to its root folder.
    const back = ['env', `--chdir=${process.cwd()}`];
    return ['nsenter', [net, `--mount=${this.bpf.namespace}`, '--', ...back, file, ...args]];
  }

  /** Runs a program in here to its end, whatever its exit code. */
  run(file: string, args: readonly string[], options?: RunOptions): Promise<Finished> {
    return run(...this.entered(file, args), options);
  }

  /** Like run(), but a non-zero exit code is an Error. */
  mustRun(file: string, args: readonly string[], options?: RunOptions): Promise<string> {
    return mustRun(...this.entered(file, args), options);
  }

  /** Starts a program in here; its process id is the program's own. World.remove() ends it. */
  spawn(file: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn(...this.entered(file, args), options);
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** Kills what spawn() started, also what has not yet entered the namespace. */
  killChildren(): void {
    for (const child of this.children) child.kill('SIGKILL');
  }

  /** Runs `ip` commands (one per line) in here, all in one process. */
  async ip(...commands: readonly string[]): Promise<void> {
    await mustRun('ip', ['-netns', this.name, '-batch', '-'], { input: commands.join('\n') });
  }

  /** What an interface has taken in, by the kernel's count. */
  async received(name: string): Promise<{ readonly packets: number; readonly bytes: number }> {
    const printed = await this.mustRun('ip', ['-json', '-statistics', 'link', 'show', name]);
    return linkStatistics.parse(JSON.parse(printed))[0].stats64.rx;
  }

  /** Loads an nftables ruleset in here. */
  async nft(ruleset: string): Promise<void> {
    await this.mustRun('nft', ['-f', '-'], { input: ruleset });
  }

  /** Sets kernel parameters in here, e.g. `net.ipv4.ip_forward=1`. */
  async sysctl(...settings: readonly string[]): Promise<void> {
    await this.mustRun('sysctl', ['-qw', ...settings]);
  }
}
