// The limits of a relay as persons read them: in the help of `omerta relay`, and as the table in
// docs/operators-guide.md.

import {
  RELAY_LIMITS,
  type LimitChange,
  type RelayLimitKey,
  type RelayLimitRow,
} from '../core/relay/relay-limits.js';
import { columns } from './context.js';

type ConfigurableRow = RelayLimitRow & { readonly key: RelayLimitKey };

const ROWS = Object.values<RelayLimitRow>(RELAY_LIMITS).filter(
  (row): row is ConfigurableRow => row.key !== undefined,
);

const CHANGES: Readonly<Record<LimitChange, string>> = {
  'at-once': 'at once',
  'up-to-start': 'at once; above what the relay was started with, at the next start',
  'next-start': 'at the next start',
};

/** For the end of a command's help. */
export function relayLimitsHelp(): string {
  const rows = ROWS.map((row) => [`  ${row.key}`, String(row.default), row.of]);
  return `\nLimits, [relay] in the configuration, with their defaults:\n${columns(rows)}`;
}

/** A table in Markdown, its lines without an end of line after the last. */
export function relayLimitsMarkdown(): string {
  const rows = ROWS.map((row) => [
    `\`${row.key}\``,
    String(row.default),
    `${row.least} to ${row.most}`,
    row.of,
    row.refuses ? `${row.beyond}, counted as \`${row.key.replaceAll('_', '-')}\`` : row.beyond,
    CHANGES[row.change],
  ]);
  const titles = ['key', 'default', 'from, to', 'of what', 'beyond it', 'a change holds'];
  return [titles, titles.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
