// Ports of the configuration: a change opens what is new, ends what is gone, and leaves the rest alone; one that cannot be
// made changes nothing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { pino } from 'pino';
import { parseConfig } from '../../ts/daemon/config/config.js';
import { privatePorts, requirePrivateNetwork } from '../../ts/daemon/config/private-ports-configuration.js';
import { PrivatePorts } from '../../ts/daemon/lifecycle/private-ports.js';
import { machineNetwork } from '../../ts/exit/inner-network.js';
import { ExitCode, OperatorError } from '../../ts/host/operator-error.js';
import { exitLines } from '../../ts/status/model/exit-lines.js';
import { freePort } from '../exit/free-port.js';
import { until } from '../wg/wg-lab.js';
import { STATUS } from './status-fixture.js';
import { temporaryDirectory } from './temporary.js';

const SOURCE = '/etc/omerta.toml';

/** Ports between this machine and itself, as it were. */
function portsOf(t: TestContext): { (toml: string): Promise<void>; readonly ports: PrivatePorts } {
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
  const configure = (toml: string): Promise<void> => ports.configure(privatePorts(parseConfig(toml, SOURCE)));
  return Object.assign(configure, { ports });
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
    const ended = new Promise((resolve) => ending.once('close', resolve)); // reset or not
    await configure(`${local(stays, echo)}[socks]\nlisten = "127.0.0.1:${comes}"\n`);
    await ended;
    await echoes(lasting);
    assert.deepEqual([await isOpen(goes), await isOpen(comes)], [false, true]);
    await configure('');
    assert.deepEqual([await isOpen(stays), await isOpen(comes)], [false, false]);
  });

  it('are shown with who uses them', async (t) => {
    const configure = portsOf(t);
    const [echo, port, listen] = [await echoPort(t), await freePort(), await freePort()];
    await configure(`${local(port, echo)}[socks]\nlisten = "127.0.0.1:${listen}"\n`);
    await echoes(await open(t, port));
    const spec = `127.0.0.1:${port}:127.0.0.1:${echo}`;
    assert.deepEqual(configure.ports.status(), [
      { kind: 'socks', listen: `127.0.0.1:${listen}`, hasPassword: false, open: 0, refused: 0 },
      { kind: 'forward', side: 'local', spec, udp: false, open: 1, refused: 0 },
    ]);
    assert.deepEqual(exitLines({ ...STATUS, privatePorts: configure.ports.status() }), [
      ['socks', `at 127.0.0.1:${listen}, 0 open`],
      ['forward', `local ${spec}, 1 open`],
    ]);
  });

  it('lead nowhere without a private network, and it is said what opens one', () => {
    const closed = { reason: 'user namespaces are closed', remedy: 'sudo sysctl -w x=1' };
    for (const [toml, section] of [
      ['[socks]\n', 'socks'],
      ['[[forward]]\nlocal = "8080:server:80"\n', 'forward'],
    ] as const) {
      const config = parseConfig(toml, SOURCE);
      requirePrivateNetwork(config, undefined, SOURCE);
      for (const [without, exitCode, says] of [
        ['relay', ExitCode.usage, /a relay has no private network/],
        ['interface', ExitCode.usage, /one of the machine.* omerta up --no-tun/],
        ['guest', ExitCode.usage, /a virtual machine’s, which has none/],
        ['stack', ExitCode.usage, /with --stack .* a member has none.* omerta up --no-tun/],
        [
          closed,
          ExitCode.permission,
          /namespaces are closed\. Type: sudo sysctl -w x=1, then omerta up --no-tun/,
        ],
      ] as const)
        assert.throws(
          () => requirePrivateNetwork(config, without, SOURCE),
          (error) => {
            assert.ok(error instanceof OperatorError);
            assert.equal(error.exitCode, exitCode);
            assert.match(error.message, new RegExp(`^config ${section}: .*${says.source}.*`));
            assert.ok(error.message.includes(SOURCE));
            return true;
          },
        );
      requirePrivateNetwork(parseConfig('', SOURCE), 'stack', SOURCE);
    }
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
    await assert.rejects(configure(toml), /config socks\.password_file: .* does not exist\. Write one line/);
    writeFileSync(file, 'me\n', { mode: 0o600 });
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
