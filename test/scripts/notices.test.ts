import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Package name → license, from the tables of the notices. */
const listed = new Map<string, string>(
  read('THIRD-PARTY-NOTICES.md')
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => cells.length === 5)
    .map(([, name = '', license = '']) => [name, license]),
);

interface Lock {
  readonly packages: Record<string, { readonly dev?: boolean; readonly license?: string }>;
}

describe('THIRD-PARTY-NOTICES.md', () => {
  it('lists every dependency that package.json names', () => {
    const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
    const missing = Object.keys(dependencies).filter((name) => !listed.has(name));
    assert.deepEqual(missing, [], 'add these to THIRD-PARTY-NOTICES.md');
  });

  it('lists every package the dependencies bring along', () => {
    const { packages } = JSON.parse(read('package-lock.json')) as Lock;
    const names = Object.entries(packages)
      .filter(([path, { dev }]) => path !== '' && dev !== true)
      .map(([path]) => path.replace(/^.*node_modules\//, ''));
    assert.ok(names.length > 0);
    assert.deepEqual(
      [...new Set(names)].filter((name) => !listed.has(name)),
      [],
      'add these',
    );
  });

  it('names nothing that is no longer used', () => {
    const { packages } = JSON.parse(read('package-lock.json')) as Lock;
    const stale = [...listed.keys()].filter((name) => {
      if (name === 'package' || /^-+$/.test(name)) return false;
      return !Object.entries(packages).some(
        ([path, { dev }]) => path.endsWith(`node_modules/${name}`) && dev !== true,
      );
    });
    assert.deepEqual(stale, [], 'remove these');
  });

  it('gives the license each installed package states', () => {
    for (const [name, license] of listed) {
      const file = `node_modules/${name}/package.json`;
      if (!existsSync(join(root, file))) continue;
      assert.equal(license, (JSON.parse(read(file)) as { license: string }).license, name);
    }
  });
});

const addon = join(root, 'build/native/omerta.node');
const agent = join(root, 'build/native/omerta-agent');

/** Why the libraries of a program or module cannot be listed here. */
function unreadable(file: string): string | false {
  if (!existsSync(file)) return `${file} is not built`;
  return spawnSync('readelf', ['--version']).status === 0 ? false : 'readelf is not installed';
}

/** The libraries a file is linked with dynamically. */
function needed(file: string): string[] {
  const { stdout } = spawnSync('readelf', ['--dynamic', file], { encoding: 'utf8' });
  return [...stdout.matchAll(/\(NEEDED\).*\[(\w[\w+-]*?)\.so/g)].map(([, name = '']) => name);
}

describe('the addon', { skip: unreadable(addon) }, () => {
  it('links only system libraries that THIRD-PARTY-NOTICES.md lists', () => {
    const libraries = needed(addon);
    assert.ok(libraries.length > 0);
    const notices = read('THIRD-PARTY-NOTICES.md');
    const unlisted = libraries.filter((name) => !name.startsWith('ld-linux') && !notices.includes(name));
    assert.deepEqual(unlisted, [], 'add these');
  });
});

describe('the agent of guest machines', { skip: unreadable(agent) }, () => {
  it('is static, and THIRD-PARTY-NOTICES.md says what it contains', () => {
    assert.deepEqual(needed(agent), []);
    assert.match(
      read('THIRD-PARTY-NOTICES.md'),
      /`omerta-agent`.*\s.*static program: it\s+contains parts of libc/,
    );
  });
});

describe('the license files', () => {
  it('are those package.json and the BPF sources name', () => {
    assert.equal((JSON.parse(read('package.json')) as { license: string }).license, 'Apache-2.0');
    assert.match(read('LICENSE'), /Apache License\s+Version 2\.0/);
    assert.match(read('xdp/LICENSE.GPL-2.0'), /GNU GENERAL PUBLIC LICENSE\s+Version 2, June 1991/);
    assert.match(read('xdp/LICENSE.BSD-2-Clause'), /Redistribution and use in source and binary forms/);
  });
});
