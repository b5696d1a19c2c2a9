// What every command starts from: the state directory and the configuration that --state and
// --config name, and where output goes.

import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ControlClient } from '../daemon/control/control-client.js';
import type { DaemonStatus } from '../status/model/daemon-status.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { StateDirectory, defaultStatePath } from '../daemon/state/state-directory.js';

interface GlobalOptions {
  readonly state?: string;
  readonly config?: string;
}

export class Context {
  readonly state: StateDirectory;
  readonly #configFile: string | undefined;

  constructor({ state, config }: GlobalOptions) {
    for (const [option, value] of Object.entries({ state, config }))
      if (value === '')
        throw new OperatorError(
          ExitCode.usage,
          `--${option}`,
          'a path is expected, and it is empty',
          'Give one, or leave the option out',
        );
    this.state = new StateDirectory(state ?? defaultStatePath(process.env, process.getuid?.() === 0));
    this.#configFile = config;
  }

  /** The context of the command that runs. */
  static of(command: Command): Context {
    return new Context(command.optsWithGlobals());
  }

  get configPath(): string {
    return this.#configFile === undefined ? this.state.config : resolve(this.#configFile);
  }

  /** Whether the command line names a configuration file. */
  get isConfigNamed(): boolean {
    return this.#configFile !== undefined;
  }

  /** The global options as a child process is given them. */
  globalArguments(): string[] {
    const config = this.#configFile === undefined ? [] : ['--config', this.configPath];
    return ['--state', this.state.path, ...config];
  }

  /** Runs with a connection to the daemon. @throws OperatorError (exit 3) when none runs. */
  async withDaemon<Result>(run: (client: ControlClient) => Promise<Result>): Promise<Result> {
    const client = await ControlClient.connect(this.state.socket);
    try {
      return await run(client);
    } finally {
      client.close();
    }
  }
}

/** The daemon's status. Both sides are of one protocol version, so the shape is known. */
export async function requestStatus(client: ControlClient): Promise<DaemonStatus> {
  return (await client.request({ command: 'status' })) as DaemonStatus;
}

/** Writes a line to standard output. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** A value as indented JSON. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** Writes a value as indented JSON to standard output. */
export function printJson(value: unknown): void {
  print(toJson(value));
}

/** Aligns rows into columns, two spaces apart. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  return rows
    .map((row) =>
      row
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
