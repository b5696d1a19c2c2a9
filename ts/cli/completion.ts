// Completion scripts for shells. Each finds the command that is being typed by the words that are commands, and offers
// what that one takes.

import { allCommands, type CommandNode, type OptionNode } from './command-tree.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** @param root the program, whose options are taken by all commands */
export function completionScript(shell: Shell, root: CommandNode): string {
  return { bash, zsh, fish }[shell](root);
}

/** The words behind `omerta` that name it: `relay top`. */
const wordsOf = ({ path }: CommandNode): string => path.slice(1).join(' ');
const isFile = ({ value }: OptionNode): boolean => value === 'file' || value === 'dir';
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const withGlobal = (root: CommandNode, node: CommandNode): readonly OptionNode[] =>
  node === root ? node.options : [...node.options, ...root.options];
/** For a column beside the word. */
const brief = (text: string): string => text.replace(/([.;:] |\n).*$/s, '');

function bash(root: CommandNode): string {
  const commands = allCommands(root).map((node) => {
    const options = withGlobal(root, node);
    const words = [
      ...node.commands.map(({ path }) => path.at(-1) ?? ''),
      ...node.arguments.flatMap(({ choices }) => choices),
      ...options.flatMap(({ names }) => names),
    ];
    return `    ${quoted(wordsOf(node))}) words=${quoted(words.join(' '))} ;;`;
  });
  const values = new Map<string, string>();
  for (const node of allCommands(root))
    for (const option of withGlobal(root, node))
      for (const name of option.names)
        if (isFile(option)) values.set(`${wordsOf(node)}:${name}`, 'COMPREPLY=($(compgen -f -- "$current"))');
        else if (option.value !== undefined)
          values.set(
            `${wordsOf(node)}:${name}`,
            `COMPREPLY=($(compgen -W ${quoted(option.choices.join(' '))} -- "$current"))`,
          );
  return `# bash completion for omerta: put it into /usr/share/bash-completion/completions/omerta, or
#   source <(omerta completion bash)
${bashPath(root)}
_omerta() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} words=
  local path
  path=$(_omerta_path "\${COMP_WORDS[@]:1:COMP_CWORD - 1}")
  case "$path:$previous" in
${[...values].map(([key, reply]) => `    ${quoted(key)}) ${reply}; return ;;`).join('\n')}
  esac
  case "$path" in
${commands.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -o filenames -F _omerta omerta
`;
}

/** A function that prints which command the words before the current one have come to; bash and zsh read it alike. */
function bashPath(root: CommandNode): string {
  const steps = allCommands(root).flatMap((node) =>
    node.commands.map((sub) => `${wordsOf(node)}:${sub.path.at(-1) ?? ''}`),
  );
  return `_omerta_path() {
  local at= word
  for word in "$@"; do
    [ "$word" = -- ] && break
    case "$at:$word" in
      ${steps.map(quoted).join(' | ')}) at="\${at:+$at }$word" ;;
    esac
  done
  printf '%s' "$at"
}`;
}

function zsh(root: CommandNode): string {
  const describe = (word: string, text: string): string =>
    quoted(`${word.replaceAll(':', '\\:')}:${brief(text)}`);
  const cases = allCommands(root).map((node) => {
    const commands = node.commands.map((sub) => describe(sub.path.at(-1) ?? '', sub.summary));
    const options = withGlobal(root, node).flatMap(({ names, description }) =>
      names.map((name) => describe(name, description)),
    );
    const choices = node.arguments.flatMap((argument) =>
      argument.choices.map((choice) => describe(choice, '')),
    );
    return `    ${quoted(wordsOf(node))})
      commands=(${[...commands, ...choices].join(' ')})
      options=(${options.join(' ')}) ;;`;
  });
  const values = allCommands(root).flatMap((node) =>
    withGlobal(root, node).flatMap((option) => {
      const { value, choices, names } = option;
      if (value === undefined) return [];
      const words = choices.length > 0 ? `compadd -- ${choices.join(' ')}` : `_message ${quoted(value)}`;
      return names.map(
        (name) =>
          `    ${quoted(`${wordsOf(node)}:${name}`)}) ${isFile(option) ? '_files' : words}; return ;;`,
      );
    }),
  );
  return `#compdef omerta
# zsh completion for omerta: put it into a folder of $fpath as _omerta, or
#   source <(omerta completion zsh)
${bashPath(root)}
_omerta() {
  local path_typed previous=\${words[CURRENT-1]}
  local -a commands options
  path_typed=$(_omerta_path "\${(@)words[2,CURRENT-1]}")
  case "$path_typed:$previous" in
${values.join('\n')}
  esac
  case "$path_typed" in
${cases.join('\n')}
  esac
  if [[ \${words[CURRENT]} == -* ]]; then
    _describe option options
  else
    (( $#commands )) && _describe command commands || _files
  fi
}
if [ "$funcstack[1]" = _omerta ]; then _omerta "$@"; else compdef _omerta omerta; fi
`;
}

function fish(root: CommandNode): string {
  const steps = allCommands(root).flatMap((node) =>
    node.commands.map((sub) => quoted(`${wordsOf(node)}:${sub.path.at(-1) ?? ''}`)),
  );
  const lines = allCommands(root).flatMap((node) => {
    const condition = `-n ${quoted(`__omerta_at ${quoted(wordsOf(node))}`)}`;
    return [
      ...node.commands.map(
        (sub) =>
          `complete -c omerta -f ${condition} -a ${quoted(sub.path.at(-1) ?? '')} -d ${quoted(brief(sub.summary))}`,
      ),
      ...node.arguments
        .filter(({ choices }) => choices.length > 0)
        .map(({ choices }) => `complete -c omerta -f ${condition} -a ${quoted(choices.join(' '))}`),
      ...withGlobal(root, node).map((option) => {
        const names = option.names.map((name) =>
          name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
        );
        const value = isFile(option)
          ? ['-r']
          : option.value === undefined
            ? []
            : ['-x', ...(option.choices.length > 0 ? [`-a ${quoted(option.choices.join(' '))}`] : [])];
        return [
          'complete -c omerta',
          condition,
          ...names,
          ...value,
          `-d ${quoted(brief(option.description))}`,
        ].join(' ');
      }),
    ];
  });
  return `# fish completion for omerta: put it into ~/.config/fish/completions/omerta.fish, or
#   omerta completion fish | source
function __omerta_at
  set -l at ''
  for word in (commandline -opc)[2..-1]
    test "$word" = --; and break
    switch "$at:$word"
      case ${steps.join(' ')}
        set at (string trim -- "$at $word")
    end
  end
  test "$at" = "$argv[1]"
end
${lines.join('\n')}
`;
}
