// The options of a member that is a virtual machine's: what they make of the configuration, here and in the daemon that is
// started in the background.

import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { applyNodeOptions, nodeArguments, type NodeOptions } from '../../ts/cli/node-options.js';
import { parseConfig, type Config } from '../../ts/daemon/config/config.js';
import { ExitCode, OperatorError } from '../../ts/host/operator-error.js';

const applied = (options: NodeOptions): Config['node'] =>
  applyNodeOptions(parseConfig('', 'x'), options).node;

describe('options of a virtual machine', () => {
  it('mean a path from where they are typed, in the background too', () => {
    const options = { guestSocket: './vm.sock', guestMac: '02:00:00:00:00:07', guestUid: '107' };
    const node = applied(options);
    assert.equal(node.guest_socket, resolve('vm.sock'));
    assert.deepEqual([node.guest_mac, node.guest_uid], ['02:00:00:00:00:07', 107]);
    assert.deepEqual(nodeArguments(options), [
      ...['--guest-socket', resolve('vm.sock')],
      ...['--guest-mac', '02:00:00:00:00:07', '--guest-uid', '107'],
    ]);
    assert.deepEqual(nodeArguments({}), []);
  });

  it('are refused for what they cannot be, by name', () => {
    for (const [options, field] of [
      [{ guestSocket: 'x'.repeat(108) }, '--guest-socket'],
      [{ guestMac: '52:54:00' }, '--guest-mac'],
      [{ guestMac: '01:00:00:00:00:01' }, '--guest-mac'],
      [{ guestUid: 'root' }, '--guest-uid'],
      [{ guestUid: '-1' }, '--guest-uid'],
    ] as const)
      assert.throws(
        () => applied(options),
        (error) => {
          assert.ok(error instanceof OperatorError);
          assert.equal(error.exitCode, ExitCode.usage);
          assert.ok(error.message.startsWith(`${field}: `), error.message);
          return true;
        },
      );
  });
});
