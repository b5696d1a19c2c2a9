// A manual page of a command, for man(7).

import type { CommandNode } from './command-tree.js';

/** Escapes text for roff: what begins a request, the characters it reads in its own way, and those beyond ASCII. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replace(
      /[^\x20-\x7e\n]/gu,
      (one) => `\\[u${(one.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
    )
    .split('\n')
    .map((line) => (/^[.]/.test(line) ? `\\&${line}` : line))
    .join('\n');
}

/** The name of the page: `omerta-relay-top`. */
export const pageName = ({ path }: CommandNode): string => path.join('-');

/** @param version of the program */
export function manualPage(node: CommandNode, version: string): string {
  const { path, summary, description, options, commands, explanation } = node;
  const typed = path.join(' ');
  const terms = [
    ...(options.length > 0 ? ['[options]'] : []),
    ...(commands.length > 0 ? ['[command]'] : []),
    ...node.arguments.map(({ term }) => term),
  ];
  const described = node.arguments.filter((argument) => argument.description !== '');
  const [, ...above] = path;
  const related = [...(above.length > 0 ? [path.slice(0, -1).join('-')] : []), ...commands.map(pageName)];
  const lines = [
    `.TH ${pageName(node).toUpperCase()} 1 "" "Omerta ${version}" "User Commands"`,
    '.SH NAME',
    `${roff(pageName(node))} \\- ${roff(summary)}`,
    '.SH SYNOPSIS',
    `.B ${roff(typed)}`,
    roff(terms.join(' ')),
    '.SH DESCRIPTION',
    roff(description),
    ...section(
      'ARGUMENTS',
      described.map(({ term, description: text }) => [term, text]),
    ),
    ...section(
      'OPTIONS',
      options.map(({ flags, description: text }) => [flags, text]),
    ),
    ...section(
      'COMMANDS',
      commands.map(({ path: sub, summary: text }) => [sub.at(-1) ?? '', text]),
    ),
    ...(explanation === undefined
      ? []
      : [
          ...section('EXIT STATUS', explanation.codes),
          '.SH EXAMPLES',
          ...explanation.examples.flatMap((example) => ['.PP', '.nf', `\\fB$ ${roff(example)}\\fR`, '.fi']),
        ]),
    ...(related.length === 0
      ? []
      : ['.SH SEE ALSO', related.map((name) => `.BR ${roff(name)} (1)`).join(',\n')]),
  ];
  return `${lines.filter((line) => line !== '').join('\n')}\n`;
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  if (rows.length === 0) return [];
  return [
    `.SH "${title}"`,
    ...rows.flatMap(([term, text]) => ['.TP', `\\fB${roff(term)}\\fR`, roff(text) || '\\&']),
  ];
}
