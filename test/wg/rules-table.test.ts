// docs/wireguard.md says which test holds which rule: every test it names is there.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

function sources(folder: string, ending: string): string {
  return readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith(ending))
    .map((name) => readFileSync(join(ROOT, folder, name), 'utf8'))
    .join('\n');
}

test('every test that the tables of rules and mistakes name exists', () => {
  const document = readFileSync(join(ROOT, 'docs/wireguard.md'), 'utf8');
  const tables = document.slice(document.indexOf('## The rules of WireGuard'));
  const native = sources('native/test', '.cc');
  const typescript = ['engine', 'wg', 'tunnel'].map((folder) => sources(`test/${folder}`, '.ts')).join('\n');
  const functions = [...tables.matchAll(/`([a-z0-9]+(?:_[a-z0-9]+){2,})`/g)]
    .map(([, name]) => name ?? '')
    .filter((name) => !name.endsWith('_test')); // files
  const sentences = [...tables.matchAll(/"([^"]+)"/g)].map(([, name]) => name ?? '');
  assert.ok(functions.length > 30 && sentences.length > 25, 'the tables were read');
  const quoted = (name: string): boolean =>
    typescript.includes(`'${name}'`) || native.includes(`TEST("${name}")`);
  assert.deepEqual(
    [
      functions.filter((name) => !native.includes(`RUN(${name});`)),
      sentences.filter((name) => !quoted(name)),
    ],
    [[], []],
  );
});
