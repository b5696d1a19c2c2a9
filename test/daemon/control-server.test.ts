import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { ControlClient } from '../../ts/daemon/control/control-client.js';
import { MAX_REQUEST_BYTES } from '../../ts/daemon/control/control-protocol.js';
import { ControlServer } from '../../ts/daemon/control/control-server.js';
import { ExitCode, OperatorError } from '../../ts/host/operator-error.js';
import { temporaryDirectory } from './temporary.js';

/** Sends raw bytes and reads until the server closes or one line has come. */
async function exchange(path: string, bytes: string): Promise<Record<string, unknown>> {
  const socket = connect(path);
  socket.write(bytes);
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  return JSON.parse(text) as Record<string, unknown>;
}

describe('control socket', () => {
  test('it has mode 0600, leaves no other file, and is gone after closing', async (t) => {
    const directory = temporaryDirectory(t);
    const path = `${directory}/omerta.sock`;
    const server = await ControlServer.listen(path);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(directory), ['omerta.sock']);
    await server.close();
    assert.equal(existsSync(path), false);
  });

  test('a command is answered, an OperatorError comes back whole, and others as a daemon failure', async (t) => {
    const path = `${temporaryDirectory(t)}/omerta.sock`;
    const server = await ControlServer.listen(path);
    t.after(() => server.close());
    server.handle((request) => {
      if (request.command === 'ping')
        throw new OperatorError(ExitCode.unreachable, 'peer', `no ${request.peer}`, 'Try another');
      if (request.command === 'down') throw new Error('stuck');
      return Promise.resolve({ command: request.command });
    });
    const client = await ControlClient.connect(path);
    t.after(() => client.close());
    const both = await Promise.all([
      client.request({ command: 'status' }),
      client.request({ command: 'reload-networks' }),
    ]);
    assert.deepEqual(both, [{ command: 'status' }, { command: 'reload-networks' }]);
    await assert.rejects(client.request({ command: 'ping', peer: 'x', timeoutMs: 1 }), {
      exitCode: 5,
      message: 'peer: no x. Try another',
    });
    await assert.rejects(client.request({ command: 'down' }), { exitCode: 1, message: /daemon: stuck/ });
  });

  test('before the daemon is ready it says that it is starting', async (t) => {
    const path = `${temporaryDirectory(t)}/omerta.sock`;
    const server = await ControlServer.listen(path);
    t.after(() => server.close());
    const client = await ControlClient.connect(path);
    t.after(() => client.close());
    await assert.rejects(client.request({ command: 'status' }), /it is still starting/);
  });

  test('what is asked by who reads no answers is not answered without end', async (t) => {
    const path = `${temporaryDirectory(t)}/omerta.sock`;
    const server = await ControlServer.listen(path);
    let answered = 0;
    server.handle(() => Promise.resolve({ answered: ++answered, filling: 'x'.repeat(10_000) }));
    const socket = connect(path);
    t.after(async () => {
      socket.destroy();
      await server.close();
    });
    socket.pause();
    const line = `${JSON.stringify({ v: 1, id: 7, command: 'status' }).padEnd(1000)}\n`;
    const taken = new Promise<true>((resolve) => socket.write(line.repeat(600), () => resolve(true)));
    const all = await Promise.race([taken, setTimeout(2000, false, { ref: false })]);
    assert.equal(all, false);
    assert.ok(answered > 0 && answered < 600);
    let last = '';
    for await (const chunk of socket) {
      last = (last + String(chunk)).slice(-20_000);
      if (last.includes('"answered":600,')) break;
    }
    assert.equal(answered, 600, 'all, once the answers are read');
  });

  test('it closes though somebody does not read his answer', async (t) => {
    const path = `${temporaryDirectory(t)}/omerta.sock`;
    const server = await ControlServer.listen(path);
    server.handle(() => Promise.resolve('x'.repeat(10_000_000)));
    const socket = connect(path).pause();
    t.after(() => socket.destroy());
    socket.write(`${JSON.stringify({ v: 1, id: 7, command: 'status' })}\n`);
    await once(socket, 'readable');
    await server.close();
  });

  const bad: readonly [name: string, line: string, field: RegExp][] = [
    ['what is not JSON', 'hello', /^request$/],
    ['JSON that is no object', '[1]', /^protocol version$/],
    ['null', 'null', /^request$/],
    ['another version', '{"v":2,"id":7,"command":"status"}', /^protocol version$/],
    ['an unknown command', '{"v":1,"id":7,"command":"format"}', /^request command$/],
    ['a missing number', '{"v":1,"command":"status"}', /^request id$/],
    ['an unknown key', '{"v":1,"id":7,"command":"status","x":1}', /^request/],
    ['a timeout out of range', '{"v":1,"id":7,"command":"ping","peer":"p","timeoutMs":1e9}', /timeoutMs$/],
    ['a peer that is no text', '{"v":1,"id":7,"command":"ping","peer":{},"timeoutMs":1}', /peer$/],
    ['an empty line', '', /^request$/],
  ];
  for (const [name, line, field] of bad)
    test(`${name} is answered with an error and the daemon goes on`, async (t) => {
      const path = `${temporaryDirectory(t)}/omerta.sock`;
      const server = await ControlServer.listen(path);
      t.after(() => server.close());
      server.handle(() => Promise.resolve('fine'));
      const answer = await exchange(path, `${line}\n`);
      const error = answer['error'] as OperatorError;
      assert.equal(answer['ok'], false);
      assert.equal(error.exitCode, 2);
      assert.match(error.field, field);
      if (line.includes('"id":7')) assert.equal(answer['id'], 7);
      const fine = await exchange(path, '{"v":1,"id":8,"command":"status"}\n');
      assert.deepEqual(fine, { v: 1, id: 8, ok: true, result: 'fine' });
    });

  test('a line beyond the cap is refused and the connection closed', async (t) => {
    const path = `${temporaryDirectory(t)}/omerta.sock`;
    const server = await ControlServer.listen(path);
    t.after(() => server.close());
    const socket = connect(path);
    socket.on('error', () => undefined); // the server may close while we still write
    socket.write('x'.repeat(MAX_REQUEST_BYTES + 1));
    let text = '';
    socket.on('data', (chunk) => (text += String(chunk)));
    await once(socket, 'close');
    assert.match(text, /at most 16384 bytes per line/);
  });

  test('silent connections shut nobody out, and do not end one that waits for an answer', async (t) => {
    const path = `${temporaryDirectory(t)}/omerta.sock`;
    const server = await ControlServer.listen(path);
    t.after(() => server.close());
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    server.handle(async ({ command }) => {
      if (command === 'relay-accounts') await held;
      return command;
    });
    const waiting = await ControlClient.connect(path);
    t.after(() => waiting.close());
    const slow = waiting.request({ command: 'relay-accounts' });
    const silent = Array.from({ length: 100 }, () => connect(path).on('error', () => undefined));
    t.after(() => silent.forEach((socket) => socket.destroy()));
    await Promise.all(silent.map((socket) => once(socket, 'connect')));
    const client = await ControlClient.connect(path);
    t.after(() => client.close());
    assert.equal(await client.request({ command: 'status' }), 'status');
    release();
    assert.equal(await slow, 'relay-accounts');
  });

  test('a live socket is an error that says so, and the live daemon keeps it', async (t) => {
    const directory = temporaryDirectory(t);
    const path = `${directory}/omerta.sock`;
    const first = await ControlServer.listen(path);
    t.after(() => first.close());
    await assert.rejects(ControlServer.listen(path), { exitCode: 1, message: /one is already running/ });
    assert.deepEqual(readdirSync(directory), ['omerta.sock']);
    first.handle(() => Promise.resolve(1));
    assert.equal((await exchange(path, '{"v":1,"id":1,"command":"status"}\n'))['result'], 1);
  });

  test('the socket of a daemon that was killed is replaced', async (t) => {
    const directory = temporaryDirectory(t);
    const path = `${directory}/omerta.sock`;
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await once(spawn(process.execPath, ['-e', script]), 'exit');
    assert.equal(existsSync(path), true);
    await assert.rejects(ControlClient.connect(path), { exitCode: 3 });
    const server = await ControlServer.listen(path);
    assert.deepEqual(readdirSync(directory), ['omerta.sock']);
    await server.close();
  });

  test('a path too long for a unix socket is refused with the way out', async (t) => {
    const path = `${temporaryDirectory(t)}/${'x'.repeat(90)}/omerta.sock`;
    await assert.rejects(ControlServer.listen(path), {
      exitCode: 2,
      message: /shorter directory with --state DIR/,
    });
  });
});
