// What comes to a node's UDP port that cannot be answered, and what cannot be sent.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { describe, it } from 'node:test';
import { UdpShell } from '../../ts/engine/wasm/udp-shell.js';
import { parseIp, type SocketAddress } from '../../ts/wire/socket-address.js';
import { until } from '../wg/wg-lab.js';

const LOOPBACK = {
  netmask: '255.0.0.0',
  family: 'IPv4',
  mac: '00:00:00:00:00:00',
  internal: true,
  cidr: null,
} as const;

const RAW = `
import socket, struct, sys
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP).sendto(
    struct.pack('!HHHH', 0, int(sys.argv[1]), 12, 0) + b'none', ('127.0.0.1', 0))`;

describe('the UDP port of a node', () => {
  it('hears nobody at port 0, and sends nothing there', { skip: process.getuid?.() !== 0 }, async (t) => {
    const heard: SocketAddress[] = [];
    let failed = 0;
    const shell = await UdpShell.open(0, '127.0.0.1', {
      onDatagram: (_datagram, from) => heard.push(from),
      onAddressGone: () => undefined,
      onSendError: () => failed++,
      onSendQueueFull: () => undefined,
    });
    t.after(() => shell.close());
    execFileSync('python3', ['-c', RAW, String(shell.port)]);
    const other = createSocket('udp4');
    t.after(() => other.close());
    other.send('some', shell.port, '127.0.0.1');
    await until('the other is heard', () => heard.some(({ port }) => port !== 0));
    assert.deepEqual(
      heard.filter(({ port }) => port === 0),
      [],
    );
    const ip = parseIp('127.0.0.1');
    assert.ok(ip);
    shell.send({ ip, port: 0 }, new Uint8Array(4));
    assert.equal(failed, 1);
  });

  it('is at each of the host’s addresses, and follows them though nothing comes in', async (t) => {
    let addresses: readonly string[] | undefined = ['127.0.0.1'];
    let refused = 0;
    const gone: string[] = [];
    const shell = await UdpShell.open(
      0,
      undefined,
      {
        onDatagram: () => undefined,
        onAddressGone: (local) => gone.push(local),
        onSendError: () => undefined,
        onSendQueueFull: () => undefined,
      },
      () => {
        // As the kernel does a process without a descriptor left.
        if (addresses === undefined && ++refused > 0) throw new Error('uv_interface_addresses: EMFILE');
        return { lo: (addresses ?? []).map((address) => ({ ...LOOPBACK, address })) };
      },
    );
    t.after(() => shell.close());
    assert.ok(shell.hasAddress('127.0.0.1'));
    assert.ok(!shell.hasAddress('127.0.0.2'));
    addresses = undefined;
    await until('nobody can tell them', () => refused > 0);
    assert.ok(shell.hasAddress('127.0.0.1'));
    addresses = ['127.0.0.2'];
    await until('it is at the new address', () => shell.hasAddress('127.0.0.2'));
    assert.deepEqual([gone, shell.hasAddress('127.0.0.1')], [['127.0.0.1'], false]);
  });
});
