// The commands as data, for what is made of all of them: completions and manual pages.

import type { Argument, Command, Option } from 'commander';
import { explanationOf, type Explanation } from './help.js';

export interface OptionNode {
  /** As the help has them: `-c, --count <n>`. */
  readonly flags: string;
  /** `--count`, `-c`. */
  readonly names: readonly string[];
  /** What stands for its value, such as `dir`; undefined = it takes none. */
  readonly value: string | undefined;
  readonly choices: readonly string[];
  readonly description: string;
}

export interface ArgumentNode {
  /** As a synopsis has it: `[peer]`, `<command...>`. */
  readonly term: string;
  readonly choices: readonly string[];
  readonly description: string;
}

export interface CommandNode {
  /** `['omerta', 'relay', 'top']` */
  readonly path: readonly string[];
  readonly aliases: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly arguments: readonly ArgumentNode[];
  readonly options: readonly OptionNode[];
  readonly commands: readonly CommandNode[];
  readonly explanation: Explanation | undefined;
}

export function commandTree(command: Command, above: readonly string[] = []): CommandNode {
  const path = [...above, command.name()];
  return {
    path,
    aliases: command.aliases(),
    summary: command.summary() === '' ? command.description() : command.summary(),
    description: command.description(),
    arguments: command.registeredArguments.map(argumentNode),
    options: command.options.filter(({ hidden }) => !hidden).map(optionNode),
    commands: command
      .createHelp()
      .visibleCommands(command)
      .filter((sub) => sub.name() !== 'help')
      .map((sub) => commandTree(sub, path)),
    explanation: explanationOf(command),
  };
}

/** It and all below it, parents first. */
export function allCommands(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(allCommands)];
}

function argumentNode(argument: Argument): ArgumentNode {
  const name = argument.name() + (argument.variadic ? '...' : '');
  return {
    term: argument.required ? `<${name}>` : `[${name}]`,
    choices: argument.argChoices ?? [],
    description: argument.description,
  };
}

function optionNode(option: Option): OptionNode {
  const value = /[<[]([^>\]]*)[>\]]/.exec(option.flags)?.[1];
  return {
    flags: option.flags,
    names: [option.short, option.long].filter((name) => name !== undefined),
    value,
    choices: option.argChoices ?? [],
    description: option.description,
  };
}
