// The command line: global options, commands, and how an error becomes one line and an exit code.

import { Command, CommanderError } from 'commander';
import { EngineError } from '../contract/engine.js';
import { ExitCode, OperatorError, messageOf } from '../host/operator-error.js';
import { VERSION } from '../host/version.js';
import { explain } from './help.js';

/**
 * In the order of the help. A module is loaded when its command is asked for: what runs for long, as
 * `omerta wg` does, would keep all of them in memory.
 */
const COMMANDS: readonly (readonly [name: string, load: () => Promise<(program: Command) => void>])[] = [
  ['relay', async () => (await import('./commands/relay.js')).relayCommand],
  ['up', async () => (await import('./commands/up.js')).upCommand],
  ['down', async () => (await import('./commands/down.js')).downCommand],
  ['reload', async () => (await import('./commands/reload.js')).reloadCommand],
  ['status', async () => (await import('./commands/status.js')).statusCommand],
  ['peers', async () => (await import('./commands/peers.js')).peersCommand],
  ['path', async () => (await import('./commands/path.js')).pathCommand],
  ['nat', async () => (await import('./commands/nat.js')).natCommand],
  ['ping', async () => (await import('./commands/ping.js')).pingCommand],
  ['exit', async () => (await import('./commands/exit.js')).exitCommand],
  ['route', async () => (await import('./commands/route.js')).routeCommand],
  ['guard', async () => (await import('./commands/guard.js')).guardCommand],
  ['exec', async () => (await import('./commands/exec.js')).execCommand],
  ['socks', async () => (await import('./commands/socks.js')).socksCommand],
  ['forward', async () => (await import('./commands/forward.js')).forwardCommand],
  ['vm', async () => (await import('./commands/vm.js')).vmCommand],
  ['receipts', async () => (await import('./commands/receipts.js')).receiptsCommand],
  ['network', async () => (await import('./commands/network.js')).networkCommand],
  ['keygen', async () => (await import('./commands/keygen.js')).keygenCommand],
  ['doctor', async () => (await import('./commands/doctor.js')).doctorCommand],
  ['wg', async () => (await import('./commands/wg.js')).wgCommand],
  ['completion', async () => (await import('./commands/completion.js')).completionCommand],
  ['man', async () => (await import('./commands/man.js')).manCommand],
];
/** They are about all the others. */
const OF_ALL = ['completion', 'man'];

/** The command these arguments name: their first word that is neither an option of the program nor its value. */
function commandNamed(program: Command, words: readonly string[]): string | undefined {
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    if (word?.startsWith('-') !== true) return word;
    if (program.options.some((option) => option.required && option.long === word)) at++;
  }
  return undefined;
}

/** With the command the arguments name; with all of them when they name none and help is due. Exits become exceptions. */
async function buildProgram(words: readonly string[]): Promise<Command> {
  const program = new Command('omerta')
    .description('A mesh of machines: WireGuard sessions, relays that cannot read what they forward.')
    .version(VERSION, '-V, --version', 'print the version')
    .option(
      '--state <dir>',
      'where identity, networks and store are kept (default: $OMERTA_STATE; /var/lib/omerta for root, else ~/.local/state/omerta)',
    )
    .option('--config <file>', 'configuration (default: omerta.toml in the state directory, if there is one)')
    .helpCommand('help [command]', 'show the help of a command')
    .showHelpAfterError(false)
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  explain(program, ['omerta relay', 'omerta network join LINK', 'sudo omerta up', 'omerta doctor'], {
    1: true,
    2: true,
    3: true,
    4: true,
    5: true,
  });
  // Help is asked for something: for what there is not, it is an error and not the help of its parent.
  program.addHelpText('beforeAll', ({ command }) => {
    const [first, second] = command.args;
    const name = first === 'help' ? second : first;
    const isNamed = name !== undefined && !name.startsWith('-');
    const takesNone = command.commands.length > 0 && command.registeredArguments.length === 0;
    if (isNamed && takesNone && !command.commands.some((c) => c.name() === name))
      throw unknownCommand(command, name);
    return '';
  });
  const asked = commandNamed(program, words);
  const named = COMMANDS.filter(([name]) => name === asked && !OF_ALL.includes(name));
  const isVersion = asked === undefined && words.some((word) => word === '--version' || word === '-V');
  for (const [, load] of isVersion || named.length > 0 ? named : COMMANDS) (await load())(program);
  return program;
}

/** As Commander words it for the program, and `usageError` for a group. */
function unknownCommand(command: Command, name: string): CommanderError {
  return command.parent === null
    ? new CommanderError(1, 'commander.unknownCommand', `error: unknown command '${name}'`)
    : new CommanderError(
        1,
        'commander.excessArguments',
        `error: unknown command '${name}' of '${command.name()}'`,
      );
}

/** What comes behind `omerta exec` without -- before it, such as an option of another program. */
function withoutDashes(error: CommanderError, words: readonly string[]): readonly string[] | undefined {
  if (error.code !== 'commander.unknownOption') return undefined;
  const at = words.indexOf('exec');
  const command = words.slice(at + 1);
  const isPlain = at >= 0 && !command.includes('--') && command[0]?.startsWith('-') === false;
  return isPlain ? command : undefined;
}

/** Commander's complaint as one line that says what to type. */
function usageError(
  error: CommanderError,
  program: Command | undefined,
  words: readonly string[],
): OperatorError {
  const command = withoutDashes(error, words);
  if (command !== undefined)
    return new OperatorError(
      ExitCode.usage,
      'command line',
      `the options of ${command[0]} are taken for those of omerta exec without -- before it`,
      `Type: omerta exec -- ${command.join(' ')}`,
    );
  // A group that does something by itself takes a mistyped command for an argument.
  const group =
    error.code === 'commander.excessArguments'
      ? program?.commands.find((c) => c.commands.length > 0 && error.message.includes(`'${c.name()}'`))
      : undefined;
  const commands = group?.commands.map((c) => c.name()).join(', ');
  const complaint =
    group === undefined ? error.message : `unknown command of '${group.name()}'. There are: ${commands}`;
  const expected = complaint
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  return new OperatorError(
    ExitCode.usage,
    'command line',
    expected,
    'Type: omerta --help, or omerta COMMAND --help',
  );
}

/** Runs a command line. @returns the exit code; what went wrong is on standard error by then. */
export async function run(argv: readonly string[]): Promise<number> {
  // A reader that has seen enough (`omerta peers | head`) is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? 0 : ExitCode.failure),
  );
  let program: Command | undefined;
  try {
    program = await buildProgram(argv.slice(2));
    await program.parseAsync(argv);
    return ExitCode.ok;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return ExitCode.ok;
    // Help that nobody asked for: a command is missing.
    if (error instanceof CommanderError && error.code === 'commander.help') return ExitCode.usage;
    const shown = error instanceof CommanderError ? usageError(error, program, argv.slice(2)) : error;
    // What cannot be said is not said; the exit code is.
    process.stderr.on('error', () => undefined);
    process.stderr.write(`omerta: ${lineOf(shown)}\n`);
    return shown instanceof OperatorError ? shown.exitCode : ExitCode.failure;
  }
}

function lineOf(error: unknown): string {
  const prefix = error instanceof OperatorError || error instanceof EngineError ? '' : 'internal error: ';
  return prefix + messageOf(error).replace(/\s*\n\s*/g, ' ');
}
