// Either end of a tunnel between `omerta wg` and a stock wireguard-go moves: to another address, to the other
// family, to another interface. The session goes on, and pings of 10 ms tell how long it took.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ping } from '../../ts/lab/ping.js';
import { StockWireguard } from '../../ts/lab/stock-wireguard.js';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, carriesPings, until, wgUnavailable } from './wg-lab.js';

const NAME = `or${process.pid}`;
const INSIDE = { omerta: '10.77.0.1', stock: '10.77.0.2' };
const PORT = { omerta: 51820, stock: 51821 };
const PINGS = 200;
const INTERVAL_MS = 10;
/** Of a move: what was on its way, and what a busy machine needs until both have seen the new address. */
const MOST_LOST = 50;

describe('omerta wg and a stock peer that move', { skip: wgUnavailable('wireguard-go') ?? false }, () => {
  let world: World;
  let omerta: Node;
  let stock: StockWireguard;
  let omertaKey: string;

  before(async () => {
    world = await World.create();
    omerta = await world.addNode('omerta');
    stock = await StockWireguard.start(world, await world.addNode('stock'), 'r', INSIDE.stock);
    omerta.spawn(OMERTA_WG, ['-f', NAME], { stdio: 'ignore' });
    await until(`${NAME} is there`, async () => (await omerta.run('wg', ['show', NAME])).code === 0);
    const file = join(world.folder, 'omerta.key');
    writeFileSync(file, await omerta.mustRun('wg', ['genkey']), { mode: 0o600 });
    const options = ['private-key', file, 'listen-port', String(PORT.omerta)];
    const peer = ['peer', stock.publicKey, 'allowed-ips', `${INSIDE.stock}/32`];
    await omerta.mustRun('wg', ['set', NAME, ...options, ...peer]);
    await omerta.ip(`address add ${INSIDE.omerta}/24 dev ${NAME}`, `link set ${NAME} up`);
    omertaKey = (await omerta.mustRun('wg', ['show', NAME, 'public-key'])).trim();
    const at = `${omerta.address}:${PORT.omerta}`;
    await stock.set('listen-port', String(PORT.stock));
    await stock.set('peer', omertaKey, 'endpoint', at, 'allowed-ips', `${INSIDE.omerta}/32`);
    await carriesPings(stock.node, INSIDE.omerta);
  });
  after(() => {
    world.remove();
    stock.remove();
  });

  const endpointOf = async (node: Node, name: string): Promise<string> =>
    (await node.mustRun('wg', ['show', name, 'endpoints'])).trim().split('\t')[1] ?? '';

  /** Pings go on while `move` is carried out; the session stays, and no more than a few pings are lost. */
  const moves = async (from: Node, to: string, move: () => Promise<void>): Promise<void> => {
    const handshake = await stock.handshakeAt(omertaKey);
    const pinged = ping(from, to, PINGS, INTERVAL_MS);
    await sleep((PINGS * INTERVAL_MS) / 4);
    await move();
    const { lost } = await pinged;
    assert.ok(lost <= MOST_LOST, `${lost} of ${PINGS} pings were lost`);
    assert.equal(await stock.handshakeAt(omertaKey), handshake, 'in the same session');
  };
  it('the stock peer’s address is another one, as after a change of the NAT in front of it', async () => {
    const other = '198.51.100.201';
    await stock.node.ip(`address add ${other}/24 dev eth0`);
    const rules = `table ip moved {
      chain out { type filter hook output priority -300; udp sport ${PORT.stock} ip saddr set ${other}; }
      chain in { type filter hook prerouting priority -300; ip daddr ${other} ip daddr set ${stock.node.address}; }
    }`;
    await moves(stock.node, INSIDE.omerta, () => stock.node.nft(rules));
    assert.equal(await endpointOf(omerta, NAME), `${other}:${PORT.stock}`);
    await moves(stock.node, INSIDE.omerta, () => stock.node.nft('delete table ip moved'));
    assert.equal(await endpointOf(omerta, NAME), `${stock.node.address}:${PORT.stock}`);
  });

  /**
   * Sets an endpoint until the other end is seen to have moved: an answer that was on its way from where the peer was
   * before takes one back to there, at either end.
   */
  const goesOver = (
    over: () => Promise<unknown>,
    seen: () => Promise<string>,
    expected: string,
  ): Promise<void> =>
    until(`the endpoint is ${expected}`, async () => {
      if ((await seen()) === expected) return true;
      await over();
      await sleep(3 * INTERVAL_MS);
      return false;
    });

  it('the stock peer goes over to IPv6, and back', async () => {
    for (const [to, from] of [
      [`[${omerta.address6 ?? ''}]`, `[${stock.node.address6 ?? ''}]`],
      [omerta.address, stock.node.address],
    ])
      await moves(stock.node, INSIDE.omerta, () =>
        goesOver(
          () => stock.set('peer', omertaKey, 'endpoint', `${to ?? ''}:${PORT.omerta}`),
          () => endpointOf(omerta, NAME),
          `${from ?? ''}:${PORT.stock}`,
        ),
      );
  });

  it('this end gets another address, and the stock peer follows', async () => {
    await moves(omerta, INSIDE.stock, () =>
      omerta.ip(`address delete ${omerta.address}/24 dev eth0`, 'address add 198.51.100.202/24 dev eth0'),
    );
    assert.equal(await endpointOf(stock.node, stock.name), `198.51.100.202:${PORT.omerta}`);
  });

  it('this end goes over to IPv6, and back', async () => {
    for (const [to, from] of [
      [`[${stock.node.address6 ?? ''}]`, `[${omerta.address6 ?? ''}]`],
      [stock.node.address, '198.51.100.202'],
    ])
      await moves(omerta, INSIDE.stock, () =>
        goesOver(
          () =>
            omerta.mustRun('wg', [
              'set',
              NAME,
              'peer',
              stock.publicKey,
              'endpoint',
              `${to ?? ''}:${PORT.stock}`,
            ]),
          () => endpointOf(stock.node, stock.name),
          `${from ?? ''}:${PORT.omerta}`,
        ),
      );
  });

  it('this end’s way out leads over another interface', async () => {
    const other = await world.addUplink(omerta, 'eth1');
    await moves(omerta, INSIDE.stock, () => omerta.ip('link set eth0 down'));
    assert.equal(await endpointOf(stock.node, stock.name), `${other}:${PORT.omerta}`);
    await omerta.ip('link set eth0 up');
    await moves(omerta, INSIDE.stock, () => omerta.ip('link set eth1 down'));
    assert.equal(await endpointOf(stock.node, stock.name), `198.51.100.202:${PORT.omerta}`);
  });
});
