import assert from 'node:assert/strict';
import { statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { makeFolders } from '../../ts/host/make-folders.js';
import { temporaryDirectory } from '../daemon/temporary.js';

describe('folders', () => {
  it('are made with those they are in, and named by the first that was made', (t) => {
    const root = temporaryDirectory(t);
    assert.equal(makeFolders(join(root, 'a/b/c'), 0o700), join(root, 'a'));
    for (const made of ['a', 'a/b', 'a/b/c']) assert.equal(statSync(join(root, made)).mode & 0o777, 0o700);
    assert.equal(makeFolders(join(root, 'a/b/c')), undefined);
    assert.equal(makeFolders(join(root, 'a/b/d')), join(root, 'a/b/d'));
    symlinkSync('a', join(root, 'link'));
    assert.equal(makeFolders(join(root, 'link')), undefined);
  });

  it('that cannot be made are an error, soon', (t) => {
    assert.throws(() => makeFolders('/proc/omerta/state'), { code: 'ENOENT' });
    const file = join(temporaryDirectory(t), 'file');
    writeFileSync(file, '');
    assert.throws(() => makeFolders(join(file, 'state')), { code: 'ENOTDIR' });
    assert.throws(() => makeFolders(file), { code: 'EEXIST' });
  });
});
