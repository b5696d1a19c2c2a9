// What shells make of the completion scripts, and man of the pages.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { temporaryDirectory } from '../daemon/temporary.js';
import { omerta } from './run-omerta.js';

const missing = (program: string): string | false =>
  spawnSync(program, ['--version']).error === undefined
    ? false
    : `needs ${program}: apt install ${program === 'groff' ? 'groff-base' : program}`;

/** What is typed, and some of what is offered, or `undefined` for what is not. */
const TYPED: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['omerta rel', ['relay', 'reload'], ['relay top']],
  ['omerta relay ', ['top', 'circuits', 'stop'], ['relay', 'status']],
  ['omerta relay top --b', ['--by'], ['--bind']],
  ['omerta --state x relay top --on', ['--once'], []],
  ['omerta exit serve --backend ', ['auto', 'kernel', 'namespace', 'stack'], ['--backend']],
  ['omerta completion ', ['bash', 'zsh', 'fish'], []],
];

describe('completion', () => {
  const scripts: Record<string, string> = {};
  before(async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { code, stdout } = await omerta(['completion', shell]);
      assert.equal(code, 0);
      scripts[shell] = stdout;
    }
  });

  const offers = (shell: string, run: (line: string) => string): void => {
    for (const [line, wanted, unwanted] of TYPED) {
      const offered = run(line)
        .split('\n')
        .map((text) => text.split('\t')[0]?.trim() ?? '');
      for (const word of wanted) assert.ok(offered.includes(word), `${shell}: ${line}: ${offered.join()}`);
      for (const word of unwanted) assert.ok(!offered.includes(word), `${shell}: ${line}: ${word}`);
    }
  };

  test('by bash', (t) => {
    const file = join(temporaryDirectory(t), 'omerta.bash');
    writeFileSync(file, scripts['bash'] ?? '');
    offers('bash', (line) => {
      const words = line.split(' ').map((word) => `'${word}'`);
      const program = `. '${file}'; COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}; _omerta; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return execFileSync('bash', ['-euc', program], { encoding: 'utf8' });
    });
  });

  test('by fish', { skip: missing('fish') }, (t) => {
    const folder = temporaryDirectory(t);
    const file = join(folder, 'omerta.fish');
    writeFileSync(file, scripts['fish'] ?? '');
    offers('fish', (line) =>
      execFileSync('fish', ['--no-config', '-c', `source '${file}'; complete -C '${line}'`], {
        encoding: 'utf8',
        env: { ...process.env, HOME: folder },
      }),
    );
  });

  test('by zsh', { skip: missing('zsh') }, (t) => {
    const folder = mkdtempSync(join(temporaryDirectory(t), 'zsh-'));
    writeFileSync(join(folder, '_omerta'), scripts['zsh'] ?? '');
    // What is offered is printed instead of shown: a terminal would be needed for that.
    const program = (line: string): string => {
      const words = line.split(' ').map((word) => `'${word}'`);
      return `
        compdef() { : }
        _describe() { local -a all=("\${(@P)2}"); print -l -- "\${(@)all%%:*}" }
        compadd() { shift; print -l -- "$@" }
        _files() { print -- FILES }
        _message() { print -- "MESSAGE $1" }
        source '${folder}/_omerta'
        words=(${words.join(' ')}); CURRENT=${words.length}
        _omerta`;
    };
    offers('zsh', (line) => execFileSync('zsh', ['-fc', program(line)], { encoding: 'utf8' }));
  });

  test('is not there for another shell', async () => {
    const { code, stderr } = await omerta(['completion', 'csh']);
    assert.equal(code, 2);
    assert.match(stderr, /Allowed choices are bash, zsh, fish/);
  });
});

describe('manual pages', () => {
  test('are there for every command, and groff has nothing to complain of', async (t) => {
    const folder = join(temporaryDirectory(t), 'man1');
    assert.equal((await omerta(['man', '--out', folder])).code, 0);
    const pages = readdirSync(folder);
    for (const name of ['omerta.1', 'omerta-relay.1', 'omerta-relay-top.1', 'omerta-wg.1', 'omerta-man.1'])
      assert.ok(pages.includes(name), name);
    for (const page of pages) {
      const text = readFileSync(join(folder, page), 'utf8');
      for (const section of ['NAME', 'SYNOPSIS', 'DESCRIPTION'])
        assert.ok(text.includes(`.SH ${section}\n`), `${page} ${section}`);
      assert.doesNotMatch(text, /undefined/);
      for (const [, other = ''] of text.matchAll(/^\.BR (\S+) \(1\)/gm))
        assert.ok(pages.includes(`${other.replaceAll('\\-', '-')}.1`), `${page} names ${other}`);
    }
    if (missing('groff') !== false) {
      t.diagnostic(String(missing('groff')));
      return;
    }
    const files = pages.map((page) => join(folder, page));
    const { stderr } = spawnSync('groff', ['-man', '-ww', '-Tutf8', '-z', ...files], { encoding: 'utf8' });
    assert.equal(stderr, '');
  });

  test('say how a command is typed', async () => {
    const { stdout } = await omerta(['man', 'relay', 'top']);
    assert.match(stdout, /^\.TH OMERTA-RELAY-TOP 1 /);
    assert.match(stdout, /\\fB\\-\\-by <group>\\fR\ncircuit, identity, network/);
    assert.match(stdout, /\.SH EXAMPLES[^]*omerta relay top/);
    const { code, stderr } = await omerta(['man', 'relay', 'nothing']);
    assert.equal(code, 2);
    assert.match(stderr, /there is no command "omerta relay nothing"/);
  });
});
