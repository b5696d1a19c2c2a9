// Exits of a private network: what is said of a gateway that ended.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { programPath } from '../../ts/exit/host-commands.js';
import { PrivateExit } from '../../ts/exit/private-exit.js';
import { PrivateNetwork } from '../../ts/exit/private-network.js';
import { addonMissing } from '../engine/addon.js';

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

const WISH = {
  tunnel: 'omerta0',
  port: 51900,
  serving: { ipv4: true, ipv6: false, lan: [], chain: false },
  using: undefined,
};

function exitOf(t: TestContext, network: PrivateNetwork): PrivateExit {
  const place = new PrivateExit({ network, now: () => performance.now(), own: () => ['100.64.0.1'] });
  t.after(() => place.end());
  return place;
}

describe('the exit of a private network', { skip: unavailable() ?? false, timeout: 60_000 }, () => {
  it('says that its gateway ended, also while it was being made, until there is another', async (t) => {
    const network = PrivateNetwork.make();
    t.after(() => network.close());
    const place = exitOf(t, network);
    let thread: Worker | undefined;
    process.once('worker', (worker) => (thread = worker));
    const run = network.run.bind(network);
    network.run = async (file, args, input) => {
      const printed = await run(file, args, input);
      if (file !== 'nft') return printed;
      thread?.emit('error', new Error('it fell'));
      thread = undefined;
      return printed;
    };
    await place.set(WISH);
    assert.equal(place.error, 'the gateway ended (it fell)');
    await place.check();
    assert.equal(place.error, undefined);
    assert.ok(place.gateway);
  });
});
