// omerta vm: virtual machines of this host.

import { availableParallelism, constants } from 'node:os';
import type { Command } from 'commander';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import type { Machine } from '../../provider/machine/machine.js';
import { Context } from '../context.js';
import { explain } from '../help.js';
import { joinMesh, networkOf, startMachine, startMember } from '../machine-network.js';

interface TryOptions {
  readonly cpus: string;
  readonly memory: string;
  readonly accelerator: string;
  readonly idle?: true;
  readonly exit?: string;
  readonly network?: string;
}

const DEFAULT_MEMORY_MIB = 256;
/** Of which a command is left about half. */
const MIN_MEMORY_MIB = 128;
const MAX_MEMORY_MIB = 1 << 20;
const ACCELERATORS = ['auto', 'kvm', 'tcg'] as const;
/** So often a signal is passed on before the machine is ended instead. */
const PATIENCE = 2;

function wholeNumber(option: string, text: string, least: number, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new OperatorError(
    ExitCode.usage,
    option,
    `"${text}" is not a whole number from ${least} to ${most}`,
    `Type for example: ${option} ${least}`,
  );
}

/** Runs a command in a machine, with the streams of this process. @returns its exit status */
async function runIn(machine: Machine, words: readonly string[]): Promise<number> {
  const { stdin: input, stdout: output, stderr: errors } = process;
  const { status, failure } = await machine.run({ words, input, output, errors });
  if (failure !== undefined) process.stderr.write(`omerta: in the virtual machine: ${failure}\n`);
  return status;
}

async function tryCommand(context: Context, options: TryOptions, words: readonly string[]): Promise<number> {
  const cpus = wholeNumber('--cpus', options.cpus, 1, availableParallelism());
  const memoryMiB = wholeNumber('--memory', options.memory, MIN_MEMORY_MIB, MAX_MEMORY_MIB);
  const asked = ACCELERATORS.find((each) => each === options.accelerator);
  if (asked === undefined)
    throw new OperatorError(
      ExitCode.usage,
      '--accelerator',
      `"${options.accelerator}" is none of ${ACCELERATORS.join(', ')}`,
      'Leave it out: the best one that works is taken',
    );
  const network = networkOf(context, options);
  const stopped = new AbortController();
  let pass: (signal: NodeJS.Signals) => void = () => stopped.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const)
    process.on(signal, () => pass(signal));
  const { MachineHost } = await import('../../provider/machine/machine-host.js');
  const say = (what: string): void => void process.stderr.write(`omerta: ${what}\n`);
  const host = await MachineHost.open(context.state, asked, say);
  const member = network && (await startMember(context, network));
  const machine = await startMachine(host, member, {
    ...{ cpus, memoryMiB, isIdle: options.idle === true },
    signal: stopped.signal,
  });
  void member?.lost().then((why) => machine.stop(why));
  const end = (signal: NodeJS.Signals): void => void machine.stop(`it was ended by ${signal}`);
  pass = end;
  try {
    if (member !== undefined) await joinMesh(machine, member, options.exit);
    let signals = 0;
    pass = (signal) => {
      if (++signals > PATIENCE) end(signal);
      else machine.agent.signal(constants.signals[signal]);
    };
    return await runIn(machine, words);
  } finally {
    await machine.stop();
    await member?.stop();
    process.stdin.destroy();
  }
}

export function vmCommand(program: Command): void {
  const vm = program
    .command('vm')
    .summary('virtual machines of this host')
    .description('Virtual machines that are made for one command and gone with it.');
  const attempt = vm
    .command('try')
    .summary('run a command in a new virtual machine')
    .description(
      'Starts a virtual machine on this host, runs COMMAND in it as its root, with the streams of this terminal, and removes ' +
        'it. It has a kernel and busybox of Debian, and no disk. Without --exit or --network it has no network; with them it is a ' +
        'member with an identity of its own: it reaches members, and by the exit all else, and has no other way. QEMU runs ' +
        'without rights, in an empty network namespace. The first time, the image is made of Debian packages, which takes a ' +
        'network and about a minute.',
    )
    .argument('<command...>', 'the program and its arguments, after --')
    .option('--cpus <n>', 'processors', '1')
    .option('--memory <mib>', 'memory, in MiB', String(DEFAULT_MEMORY_MIB))
    .option('--accelerator <name>', 'auto, kvm or tcg; auto tries whether KVM works here', 'auto')
    .option('--exit <peer>', 'it is a member of a network, and leaves it by this one, which serves an exit')
    .option(
      '--network <name>',
      'it is a member of this network; needed beside --exit only where several are joined',
    )
    .option('--idle', 'it runs only when nothing else of this host wants to')
    .action(async (words: string[], options: TryOptions, self: Command) => {
      process.exitCode = await tryCommand(Context.of(self), options, words);
    });
  explain(
    attempt,
    [
      'omerta vm try -- uname -a',
      'omerta vm try --memory 512 -- sh < commands',
      'omerta vm try --exit home-server -- wget -O - http://example.org/',
    ],
    {
      1: 'the virtual machine cannot be started, or ended before the command',
      2: true,
      4: true,
      5: 'the exit is not known, or does not grant',
    },
    { 126: 'COMMAND cannot be started', 127: 'COMMAND is not found; else it is that of COMMAND' },
  );
  explain(vm, ['omerta vm try -- uname -a'], { 1: true, 2: true });
}
