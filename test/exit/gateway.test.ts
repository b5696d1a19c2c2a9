// A gateway in a private network of the test's own: what fails leaves nothing behind, and it is made without a helper too.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it, type TestContext } from 'node:test';
import { DnsForwarder } from '../../ts/exit/dns-forwarder.js';
import { Gateway, type GatewayWish } from '../../ts/exit/gateway.js';
import { HostCommandError, programPath } from '../../ts/exit/host-commands.js';
import { NAME_TYPE, nameQuestion } from '../../ts/exit/name-message.js';
import { PrivateNetwork } from '../../ts/exit/private-network.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';

function unavailable(): string | undefined {
  const missing = addonMissing();
  if (missing !== undefined) return missing;
  try {
    programPath('nft');
    PrivateNetwork.make().close();
    return undefined;
  } catch (error) {
    return String(error);
  }
}

const WISH: GatewayWish = { tunnel: 'omerta0', own: ['100.64.0.1'], ipv4: true, ipv6: false };

function networkOf(t: TestContext): PrivateNetwork {
  const network = PrivateNetwork.make();
  t.after(() => network.close());
  return network;
}
const open = (network: PrivateNetwork, wish = WISH): Promise<Gateway> =>
  Gateway.open(network, wish, (error) => assert.ifError(error));

describe('a gateway', { skip: unavailable() ?? false, timeout: 60_000 }, () => {
  it('says what it means when a set of nftables is full, and nothing of the change is made', async (t) => {
    const network = networkOf(t);
    const full =
      'table inet small { set two { type ipv4_addr; size 2; elements = { 192.0.2.1, 192.0.2.2 }; }\n}\n';
    await network.run('nft', ['-f', '-'], full);
    const more = 'table inet other {}\nadd element inet small two { 192.0.2.3 }\n';
    await assert.rejects(network.run('nft', ['-f', '-'], more), /nft.*is full\)/);
    assert.equal((await network.run('nft', ['list', 'tables'], '')).trim(), 'table inet small');
  });

  it('that nft refuses leaves its port free for the next', async (t) => {
    const network = networkOf(t);
    // No name of an interface: nft says no, as it does where it is not installed.
    await assert.rejects(open(network, { ...WISH, tunnel: '"' }), HostCommandError);
    const gateway = await open(network);
    await gateway.close();
  });

  it('is taken back while there is no helper', async (t) => {
    const network = networkOf(t);
    const gateway = await open(network);
    const before = network.pid;
    process.kill(before, 'SIGKILL');
    await until('the helper is gone', () => !existsSync(`/proc/${before}/ns/net`));
    await gateway.close();
    assert.equal(await network.run('nft', ['list', 'tables'], ''), '');
    assert.doesNotMatch(await network.run('ip', ['-4', 'rule'], ''), /fwmark/);
  });

  it('asks nobody for names while there is no helper, and goes on', async (t) => {
    const network = networkOf(t);
    const [server, port] = ['127.0.0.1', 5353];
    const forwarder = new DnsForwarder(
      () => [server],
      () => performance.now(),
      { port, resolverPort: 53, answerMs: 100 },
      { guests: network, resolvers: network },
    );
    await forwarder.listen([server]);
    t.after(() => forwarder.close());
    forwarder.setGuests([server]);
    const program = await network.openUdp(server, 0);
    t.after(() => program.close());
    process.kill(network.pid, 'SIGKILL');
    const question = nameQuestion(1, 'shop.example', NAME_TYPE.ipv4);
    assert.ok(question);
    program.send(question, port, server);
    await until('the question has had its time', () => forwarder.counts.unanswered === 1);
  });
});
