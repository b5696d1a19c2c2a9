// omerta forward: what a SPEC says, and connections and datagrams that go where it leads.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { parseForward } from '../../ts/daemon/config/port-forward.js';
import { forwardPort, forwardTcp, forwardUdp } from '../../ts/exit/forwarding.js';
import { machineNetwork, type InnerNetwork } from '../../ts/exit/inner-network.js';
import { until } from '../wg/wg-lab.js';
import { freePort } from './free-port.js';

/** Of a socket that sends back what comes. */
async function echoPort(t: TestContext): Promise<number> {
  const echo = createSocket('udp4');
  echo.on('message', (data, from) => echo.send(data, from.port, from.address));
  echo.bind(0, '127.0.0.1');
  await once(echo, 'listening');
  t.after(() => echo.close());
  return echo.address().port;
}

describe('parseForward', () => {
  it('takes what ssh takes', () => {
    const of = (bind: string, port: number, host: string, hostPort: number) => ({
      bind,
      port,
      host,
      hostPort,
    });
    assert.deepEqual(parseForward('8080:server:80', '127.0.0.1'), of('127.0.0.1', 8080, 'server', 80));
    assert.deepEqual(parseForward('127.0.0.2:0:a.example:80', 'x'), of('127.0.0.2', 0, 'a.example', 80));
    assert.deepEqual(parseForward('[::1]:8080:[2001:db8::1]:80', 'x'), of('::1', 8080, '2001:db8::1', 80));
  });

  it('takes nothing else', () => {
    for (const text of [
      '',
      '80',
      '80:server',
      ':80:server:80',
      '80:server:',
      '80::80',
      '70000:server:80',
      '80:server:0',
      '80:2001:db8::1:80',
      '[::1:80:server:80',
      'a:80:server:80:1',
      '-1:server:80',
      '8 0:server:80',
    ])
      assert.equal(parseForward(text, '127.0.0.1'), undefined, text);
  });
});

describe('what is forwarded', () => {
  const free = async (): Promise<number> => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    return port;
  };
  const to = async (hostPort: number) => ({
    from: machineNetwork,
    to: machineNetwork,
    spec: { bind: '127.0.0.1', port: await free(), host: 'there', hostPort },
    resolve: (host: string) => Promise.resolve(host === 'there' ? ['127.0.0.1'] : []),
  });

  it('is a connection: whole, half-closed, reset where nobody is', async (t) => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      let size = 0;
      socket.on('data', (part) => (size += part.length));
      socket.on('end', () => socket.end(String(size)));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const forwarding = await to((server.address() as AddressInfo).port);
    const forwarded = await forwardTcp(forwarding);
    t.after(() => forwarded.close());
    const send = async (): Promise<string> => {
      const socket = connect({ port: forwarding.spec.port, host: '127.0.0.1', allowHalfOpen: true });
      let got = '';
      socket.setEncoding('utf8').on('data', (text: string) => (got += text));
      socket.end(Buffer.alloc(1_000_000));
      return new Promise((resolve) => {
        socket.once('end', () => resolve(got));
        socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      });
    };
    assert.equal(await send(), '1000000');
    server.close();
    await once(server, 'close');
    assert.match(await send(), /ECONNRESET|EPIPE/);
  });

  it('is datagrams: each client has its own answers', async (t) => {
    const forwarding = await to(await echoPort(t));
    const forwarded = await forwardUdp(forwarding);
    t.after(() => forwarded.close());
    const clients = [createSocket('udp4'), createSocket('udp4')];
    t.after(() => clients.forEach((each) => each.close()));
    const got: string[][] = [[], []];
    for (const [index, each] of clients.entries()) {
      each.on('message', (data) => got[index]?.push(data.toString()));
      each.send(`client ${index}`, forwarding.spec.port, '127.0.0.1');
    }
    await until('both are answered', () => got.every((answers) => answers.length === 1));
    assert.deepEqual(got, [['client 0'], ['client 1']]);
    clients[0]?.send('again', forwarding.spec.port, '127.0.0.1');
    await until('it is answered again', () => got[0]?.length === 2);
  });

  it('is taken by IPv4 alone where the private network has no IPv6, and is refused for any other reason', async (t) => {
    const failing = (code: string, address = '::'): InnerNetwork => {
      const fail = (at: string): Promise<never> | undefined =>
        at === address ? Promise.reject(Object.assign(new Error(code), { code })) : undefined;
      // It is asked for any address, and this machine serves others meanwhile.
      const own = (at: string): string => (at === '0.0.0.0' ? '127.0.0.1' : at);
      return {
        ...machineNetwork,
        listen: (server, at, port) => fail(at) ?? machineNetwork.listen(server, own(at), port),
        openUdp: (at, port) => fail(at) ?? machineNetwork.openUdp(own(at), port),
      };
    };
    const hosts = (): Promise<string[]> => Promise.resolve([]);
    for (const udp of [false, true]) {
      const port = await freePort();
      const text = `${port}:127.0.0.1:${await echoPort(t)}`;
      for (const code of ['EAFNOSUPPORT', 'EADDRNOTAVAIL'])
        (await forwardPort({ side: 'remote', text, udp }, failing(code), hosts)).close();
      for (const [wanted, network] of [
        [text, failing('EADDRINUSE')],
        [text, failing('EAFNOSUPPORT', '0.0.0.0')],
        [`[::]:${text}`, failing('EAFNOSUPPORT')],
      ] as const)
        await assert.rejects(forwardPort({ side: 'remote', text: wanted, udp }, network, hosts), wanted);
      // Of one that was refused nothing stays.
      (await forwardPort({ side: 'remote', text, udp }, failing('EAFNOSUPPORT'), hosts)).close();
    }
  });

  it('takes a port the kernel chooses, the same for both families, and says which', async (t) => {
    const taken: number[] = [];
    const network: InnerNetwork = {
      ...machineNetwork,
      listen: async (server, at, port) => {
        await machineNetwork.listen(server, at === '0.0.0.0' ? '127.0.0.1' : '::1', port);
        taken.push((server.address() as AddressInfo).port);
      },
      openUdp: async (at, port) => {
        const socket = await machineNetwork.openUdp(at === '0.0.0.0' ? '127.0.0.1' : '::1', port);
        taken.push(socket.address().port);
        return socket;
      },
    };
    for (const udp of [false, true]) {
      taken.length = 0;
      const text = `0:127.0.0.1:${await echoPort(t)}`;
      const forwarded = await forwardPort({ side: 'remote', text, udp }, network, () => Promise.resolve([]));
      forwarded.close();
      assert.deepEqual(taken, [forwarded.port, forwarded.port]);
      assert.ok(forwarded.port > 0);
    }
  });

  it('is nothing where there is no way, and others go on', async (t) => {
    const forwarding = await to(await echoPort(t));
    // To a broadcast address connect(2) fails, as it does without a route.
    const addresses = ['255.255.255.255'];
    const resolve = (): Promise<string[]> => Promise.resolve([addresses.pop() ?? '127.0.0.1']);
    const forwarded = await forwardUdp({ ...forwarding, resolve });
    t.after(() => forwarded.close());
    const client = createSocket('udp4');
    t.after(() => client.close());
    let answers = 0;
    client.on('message', () => answers++);
    client.send('nowhere', forwarding.spec.port, '127.0.0.1');
    await until('there is a way', () => {
      client.send('there', forwarding.spec.port, '127.0.0.1');
      return answers > 0;
    });
  });
});
