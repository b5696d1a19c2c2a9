// Ports of the configuration: a change opens what is new, ends what is gone, and leaves the rest alone; one that cannot be
// made changes nothing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { pino } from 'pino';
import { parseConfig } from '../../ts/daemon/config/config.js';
import { privatePorts } from '../../ts/daemon/config/private-ports-configuration.js';
import { PrivatePorts } from '../../ts/daemon/lifecycle/private-ports.js';
import { machineNetwork } from '../../ts/exit/inner-network.js';
import { freePort } from '../exit/free-port.js';
import { until } from '../wg/wg-lab.js';
import { temporaryDirectory } from './temporary.js';

const SOURCE = '/etc/omerta.toml';

/** Ports between this machine and itself, as it were. */
function portsOf(t: TestContext): (toml: string) => Promise<void> {
  const status = (): never => {
    throw new Error('nobody asks for a name');
  };
  const ports = new PrivatePorts({
    network: machineNetwork,
    log: pino({ level: 'silent' }),
    source: SOURCE,
    status,
  });
  t.after(() => ports.close());
  return (toml) => ports.configure(privatePorts(parseConfig(toml, SOURCE)));
}

async function echoPort(t: TestContext): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function open(t: TestContext, port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  t.after(() => socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function echoes(socket: Socket): Promise<void> {
  socket.write('asked');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  assert.equal(answer.toString(), 'asked');
}

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

const local = (port: number, to: number): string =>
  `[[forward]]\nlocal = "127.0.0.1:${port}:127.0.0.1:${to}"\n`;

describe('ports of the configuration', { timeout: 60_000 }, () => {
  it('are opened and ended by a change, and what stays in the file goes on, wherever in it', async (t) => {
    const configure = portsOf(t);
    const [echo, stays, goes, comes] = [
      await echoPort(t),
      await freePort(),
      await freePort(),
      await freePort(),
    ];
    await configure(local(goes, echo) + local(stays, echo));
    const [lasting, ending] = [await open(t, stays), await open(t, goes)];
    await echoes(lasting);
    await echoes(ending);
    const ended = once(ending, 'close');
    await configure(`${local(stays, echo)}[socks]\nlisten = "127.0.0.1:${comes}"\n`);
    await ended;
    await echoes(lasting);
    assert.deepEqual([await isOpen(goes), await isOpen(comes)], [false, true]);
    await configure('');
    assert.deepEqual([await isOpen(stays), await isOpen(comes)], [false, false]);
  });

  it('lead elsewhere by the same port after a change', async (t) => {
    const configure = portsOf(t);
    const [port, first, second] = [await freePort(), await echoPort(t), await echoPort(t)];
    await configure(local(port, first));
    await configure(local(port, second));
    await echoes(await open(t, port));
  });

  it('are as they were where one cannot be taken, which is named', async (t) => {
    const configure = portsOf(t);
    const [echo, port] = [await echoPort(t), await freePort()];
    await configure(local(port, echo));
    const other = await freePort();
    await assert.rejects(
      configure(local(other, echo) + local(echo, echo)),
      /config forward\.1\.local: the port of local .* cannot be taken \(.*EADDRINUSE.*\/etc\/omerta\.toml/,
    );
    await echoes(await open(t, port));
    assert.equal(await isOpen(other), false);
  });

  it('ask for the password of the file, also when that has changed', async (t) => {
    const configure = portsOf(t);
    const file = `${temporaryDirectory(t)}/password`;
    const port = await freePort();
    const toml = `[socks]\nlisten = "127.0.0.1:${port}"\npassword_file = "${file}"`;
    await assert.rejects(configure(toml), /config socks\.password_file: .* does not hold one line USER:PASS/);
    const answer = async (word: string): Promise<number | undefined> => {
      const socket = await open(t, port);
      const parts: Buffer[] = [];
      socket.on('data', (part: Buffer) => parts.push(part));
      socket.write(Buffer.from([5, 1, 2, 1, 2, ...Buffer.from('me'), word.length, ...Buffer.from(word)]));
      await until('it is answered', () => Buffer.concat(parts).length === 4);
      return Buffer.concat(parts)[3];
    };
    for (const word of ['first', 'second']) {
      writeFileSync(file, `me:${word}\n`, { mode: 0o600 });
      await configure(toml);
      assert.deepEqual([await answer(word), await answer('wrong')], [0, 1]);
    }
  });
});
