import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { relayLimitsHelp, relayLimitsMarkdown } from '../../ts/cli/relay-limits-table.js';
import {
  CAPS,
  DEFAULT_RELAY_LIMITS,
  RELAY_LIMITS,
  type RelayLimitRow,
} from '../../ts/core/relay/relay-limits.js';
import { parseConfig } from '../../ts/daemon/config/config.js';
import { changeWhileRunning, relayLimits } from '../../ts/daemon/config/relay-configuration.js';
import { OperatorError } from '../../ts/host/operator-error.js';
import { packageRoot } from '../../ts/host/version.js';

const ROWS: readonly RelayLimitRow[] = Object.values(RELAY_LIMITS);
const CONFIGURABLE = ROWS.flatMap((row) => (row.key === undefined ? [] : [{ ...row, key: row.key }]));
const configured = (key: string, value: number): ReturnType<typeof parseConfig> =>
  parseConfig(`[relay]\n${key} = ${value}`, 'omerta.toml');

describe('a limit of a relay is written in one table, and', () => {
  it('the table in the operator\u2019s guide is that of the code', () => {
    const guide = readFileSync(join(packageRoot(), 'docs/operators-guide.md'), 'utf8');
    const [, table] = /<!-- limits of a relay: .*-->\n([^]*?)\n<!-- end of/.exec(guide) ?? [];
    assert.equal(table, relayLimitsMarkdown(), 'type: npm run docs');
  });

  it('the help of omerta relay has each with its default', () => {
    for (const { key, default: value, of } of CONFIGURABLE)
      assert.match(relayLimitsHelp(), new RegExp(`^  ${key} +${value} +${of.slice(0, 8)}`, 'm'));
  });

  it('an empty configuration gives the defaults', () => {
    assert.deepEqual(relayLimits(parseConfig('', 'omerta.toml')), DEFAULT_RELAY_LIMITS);
  });

  it('the configuration takes its range and nothing beyond it', () => {
    for (const [name, row] of Object.entries<RelayLimitRow>(RELAY_LIMITS)) {
      const { key, least, most } = row;
      if (key === undefined) continue;
      for (const value of [least, most])
        assert.equal(
          relayLimits(configured(key, value))[name as keyof typeof RELAY_LIMITS],
          value,
          `${key} = ${value}`,
        );
      for (const value of [least - 1, most + 1, least + 0.5])
        assert.throws(
          () => configured(key, value),
          (error: unknown) =>
            error instanceof OperatorError &&
            error.field === `config relay.${key}` &&
            error.message.includes(`a whole number from ${least} to ${most}`),
          `${key} = ${value}`,
        );
    }
  });

  it('what refuses is counted under its key', () => {
    const refusing = CONFIGURABLE.filter(({ refuses }) => refuses).map(({ key }) => key.replaceAll('_', '-'));
    assert.deepEqual([...CAPS].sort(), refusing.sort());
    assert.ok(CAPS.includes('circuits-per-identity'));
  });

  it('a reload changes what the table says it changes', () => {
    const opened = parseConfig('[relay]\nwireguard_bindings = 1', 'omerta.toml');
    for (const row of CONFIGURABLE) {
      const { key, change, default: value } = row;
      for (const wanted of [value + 1, value === row.least ? value + 2 : value - 1]) {
        const text = `[relay]\nwireguard_bindings = 1\n${key} = ${wanted}`;
        const toml = key === 'wireguard_bindings' ? `[relay]\n${key} = ${wanted + 1}` : text;
        const { change: made } = changeWhileRunning(
          'relay',
          opened,
          opened,
          parseConfig(toml, 'omerta.toml'),
        );
        const later = change === 'next-start' || (change === 'up-to-start' && wanted > value);
        assert.deepEqual(
          made,
          later
            ? { applied: [], removed: [], restart: [`relay.${key}`] }
            : { applied: [`relay.${key}`], removed: [], restart: [] },
          `${key} = ${wanted}`,
        );
      }
    }
  });

  it('a limit that was taken out of the file is told with its default', () => {
    const opened = parseConfig('', 'omerta.toml');
    for (const { key, change, default: value, most } of CONFIGURABLE) {
      if (change === 'next-start' || key === 'wireguard_bindings') continue;
      const running = parseConfig(
        `[relay]\n${key} = ${value === most ? value - 1 : value + 1}`,
        'omerta.toml',
      );
      const { change: made } = changeWhileRunning('relay', opened, running, opened);
      assert.deepEqual(made.removed, [{ key: `relay.${key}`, default: value }]);
    }
  });
});
