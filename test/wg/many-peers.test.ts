// `omerta wg` with more peers than anybody types, by the stock tools.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { World, type Node } from '../../ts/lab/world.js';
import { OMERTA_WG, ask, processesOf, until, wgUnavailable } from './wg-lab.js';

const NAME = `om${process.pid}m`;
const PEERS = 10_000;
const MOST_RESIDENT_KB = 150 * 1024;

const skip = wgUnavailable() ?? false;
if (skip !== false) console.log(`omerta wg with many peers is not tested: ${skip}`);

/** Any 32 bytes are a public key; these are told apart by their number. */
function publicKey(peer: number): Buffer {
  const key = Buffer.alloc(32, 0x42);
  key.writeUInt32BE(peer, 0);
  return key;
}

const prefixOf = (peer: number): string => `10.${peer >> 16}.${(peer >> 8) & 255}.${peer & 255}/32`;

describe('omerta wg with many peers', { skip, timeout: 300_000 }, () => {
  let world: World;
  let node: Node;

  const residentKb = (): number => {
    const status = readFileSync(`/proc/${processesOf(NAME)[0] ?? ''}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]);
  };
  const cpuTicks = (): number => {
    const fields = readFileSync(`/proc/${processesOf(NAME)[0] ?? ''}/stat`, 'utf8')
      .split(') ')[1]
      ?.split(' ');
    return Number(fields?.[11]) + Number(fields?.[12]);
  };

  before(async () => {
    world = await World.create();
    node = await world.addNode('node');
    await node.mustRun(OMERTA_WG, [NAME]);
    await node.ip(`address add 10.255.0.1/32 dev ${NAME}`, `link set ${NAME} up`);
  });
  after(async () => {
    await node.run('ip', ['link', 'delete', NAME]);
    await until('the process ended', () => processesOf(NAME).length === 0);
    world.remove();
  });

  it('takes 10,000 from wg setconf and gives them back, in less than 150 MB', async () => {
    let config = `[Interface]\nListenPort = 7200\nPrivateKey = ${Buffer.alloc(32, 0x48).toString('base64')}\n`;
    for (let i = 0; i < PEERS; i++) {
      const key = publicKey(i).toString('base64');
      config += `\n[Peer]\nPublicKey = ${key}\nAllowedIPs = ${prefixOf(i)}\nEndpoint = 198.51.${i >> 8}.${i & 255}:51820\n`;
    }
    const file = join(world.folder, 'many.conf');
    writeFileSync(file, config, { mode: 0o600 });
    await node.mustRun('wg', ['setconf', NAME, file]);
    assert.equal(await node.mustRun('wg', ['showconf', NAME]), config);
    assert.ok(residentKb() < MOST_RESIDENT_KB, `${residentKb()} kB resident`);
  });

  it('costs next to nothing while they are idle', async () => {
    const before = cpuTicks();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    // 100 ticks a second: at 15 peers were looked at all the time.
    assert.ok(cpuTicks() - before <= 8, `${cpuTicks() - before} ticks in 1.5 s`);
  });

  it('takes one change after the other as quickly with 10,000 peers as with one', async () => {
    const changes = async (count: number, from: number): Promise<number> => {
      const start = performance.now();
      for (let i = 0; i < count; i++) {
        const key = publicKey(from + i).toString('hex');
        const answer = await ask(NAME, `set=1\npublic_key=${key}\nallowed_ip=${prefixOf(from + i)}\n\n`);
        assert.equal(answer, 'errno=0\n\n');
      }
      return (performance.now() - start) / count;
    };
    const withMany = await changes(300, PEERS);
    assert.equal(await ask(NAME, 'set=1\nreplace_peers=true\n\n'), 'errno=0\n\n');
    const withFew = await changes(300, PEERS);
    assert.ok(withMany < 4 * withFew + 1, `${withMany} ms with many, ${withFew} ms with few`);
  });
});
