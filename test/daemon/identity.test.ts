import assert from 'node:assert/strict';
import { chmodSync, chownSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { createIdentity, loadIdentity, loadOrCreateIdentity } from '../../ts/daemon/state/identity.js';
import { defaultStatePath, writePrivate } from '../../ts/daemon/state/state-directory.js';
import { temporaryDirectory, temporaryState } from './temporary.js';

const modeOf = (path: string): number => statSync(path).mode & 0o777;

describe('identity', () => {
  test('the first start makes it with private modes, later starts find the same', (t) => {
    const state = temporaryState(t);
    const first = loadOrCreateIdentity(state);
    const second = loadOrCreateIdentity(state);
    assert.deepEqual([first.created, second.created], [true, false]);
    assert.deepEqual(second.identity, first.identity);
    assert.equal(modeOf(state.path), 0o700);
    assert.equal(modeOf(state.identityKey), 0o600);
    assert.equal(modeOf(state.sessionKey), 0o600);
  });

  test(
    'what another user owns is refused: a directory, and a key in it',
    { skip: process.geteuid?.() !== 0 },
    (t) => {
      const state = temporaryState(t);
      createIdentity(state);
      chownSync(state.identityKey, 12_345, 12_345);
      assert.throws(() => loadIdentity(state), { exitCode: 4, message: /belongs to user 12345.*chown -R 0/ });
      chownSync(state.identityKey, 0, 0);
      chownSync(state.path, 12_345, 12_345);
      assert.throws(() => state.prepare(), { exitCode: 4, message: /belongs to user 12345.*chown -R 0/ });
    },
  );

  test('an identity is never overwritten', (t) => {
    const state = temporaryState(t);
    const { peerId } = createIdentity(state);
    assert.throws(() => createIdentity(state), /exists and is never overwritten/);
    assert.equal(loadIdentity(state)?.peerId, peerId);
  });

  for (const name of ['identityKey', 'sessionKey'] as const) {
    test(`a ${name} that others can read is refused with the chmod to type`, (t) => {
      const state = temporaryState(t);
      createIdentity(state);
      chmodSync(state[name], 0o640);
      assert.throws(() => loadIdentity(state), {
        exitCode: 4,
        message: new RegExp(`mode 0640, 0600 is needed.*chmod 0600 ${state[name]}$`),
      });
    });

    test(`a damaged ${name} is refused and left as it is`, (t) => {
      const state = temporaryState(t);
      createIdentity(state);
      const whole = readFileSync(state[name], 'utf8');
      const middle = whole.length - 20;
      const mistyped = whole.slice(0, middle) + (whole[middle] === 'q' ? 'p' : 'q') + whole.slice(middle + 1);
      for (const damaged of ['', 'hello', whole.slice(0, -5), mistyped]) {
        writeFileSync(state[name], damaged);
        assert.throws(() => loadOrCreateIdentity(state), { exitCode: 2, field: 'identity' });
        assert.equal(readFileSync(state[name], 'utf8'), damaged);
      }
    });

    test(`a missing ${name} beside its twin is an error, not a new identity`, (t) => {
      const state = temporaryState(t);
      createIdentity(state);
      unlinkSync(state[name]);
      assert.throws(() => loadOrCreateIdentity(state), /is missing while the other key is there/);
    });
  }

  test('one key file cannot stand in for the other', (t) => {
    const state = temporaryState(t);
    createIdentity(state);
    writeFileSync(state.identityKey, readFileSync(state.sessionKey));
    assert.throws(() => loadIdentity(state), /does not hold one whole "omerta-identity-secret1…" key/);
  });

  test('a state directory that others can enter is refused', (t) => {
    const state = temporaryState(t);
    state.prepare();
    chmodSync(state.path, 0o755);
    assert.throws(() => loadOrCreateIdentity(state), { exitCode: 4, message: /chmod 0700/ });
  });
});

describe('state directory', () => {
  test('its place is $OMERTA_STATE, /var/lib/omerta for root, else the XDG state directory', () => {
    assert.equal(defaultStatePath({ OMERTA_STATE: '/x' }, true), '/x');
    assert.equal(defaultStatePath({ XDG_STATE_HOME: '/s' }, true), '/var/lib/omerta');
    assert.equal(defaultStatePath({ XDG_STATE_HOME: '/s' }, false), '/s/omerta');
    for (const HOME of [undefined, '', 'relative'])
      assert.equal(
        defaultStatePath({ HOME }, false, () => '/home/o'),
        '/home/o/.local/state/omerta',
      );
    for (const home of [undefined, '', 'relative'])
      assert.throws(
        () => defaultStatePath({ HOME: '' }, false, () => home),
        /^OperatorError: state: HOME is not an absolute path .*--state DIR/,
      );
    assert.equal(
      defaultStatePath({ XDG_STATE_HOME: 'relative', HOME: '/h' }, false),
      '/h/.local/state/omerta',
    );
  });

  test('a file is replaced whole, keeps mode 0600, and no temporary file stays', (t) => {
    const directory = temporaryDirectory(t);
    const path = `${directory}/secret`;
    writePrivate('file', path, 'one', 'create');
    assert.throws(() => writePrivate('file', path, 'two', 'create'), { code: 'EEXIST' });
    assert.equal(readFileSync(path, 'utf8'), 'one');
    writePrivate('file', path, 'three', 'replace');
    assert.equal(readFileSync(path, 'utf8'), 'three');
    assert.equal(modeOf(path), 0o600);
    assert.equal(statSync(directory).nlink, 2);
    assert.throws(() => writePrivate('file', `${directory}/none/secret`, 'x', 'create'), { field: 'file' });
  });
});
