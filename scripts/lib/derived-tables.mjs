// Tables in docs/ that are derived from the code, and where in a file they stand.

/** Each: the document, the name in its marks, and which function of which module in dist/ renders it. */
export const derivedTables = [
  {
    file: 'docs/operators-guide.md',
    name: 'limits of a relay',
    module: 'ts/cli/relay-limits-table.js',
    render: 'relayLimitsMarkdown',
  },
  {
    file: 'docs/threat-model.md',
    name: 'tables that grow',
    module: 'ts/core/node/growing-tables.js',
    render: 'growingTablesMarkdown',
  },
];

/** The document with the table between its marks replaced; undefined when it has no such marks. */
export function withTable(document, name, table, command = 'npm run docs') {
  const begin = `<!-- ${name}: written by ${command} -->\n`;
  const end = `\n<!-- end of ${name} -->`;
  const from = document.indexOf(begin);
  const to = document.indexOf(end, from);
  if (from < 0 || to < 0) return undefined;
  return document.slice(0, from + begin.length) + table + document.slice(to);
}
