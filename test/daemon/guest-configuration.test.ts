import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseConfig } from '../../ts/daemon/config/config.js';
import { guestConfiguration, type GuestConfiguration } from '../../ts/daemon/config/guest-configuration.js';
import { ExitCode, OperatorError } from '../../ts/host/operator-error.js';
import type { DaemonMode } from '../../ts/status/model/daemon-status.js';

const read = (node: string, mode: DaemonMode = 'up'): GuestConfiguration | undefined =>
  guestConfiguration(parseConfig(`[node]\n${node}\n`, 'omerta.toml'), mode);
const SOCKET = 'guest_socket = "/run/vm.sock"';

describe('a member of a virtual machine, as it is configured', () => {
  it('has its socket, and the address QEMU gives by default', () => {
    assert.equal(read(''), undefined);
    assert.deepEqual(read(SOCKET), { path: '/run/vm.sock', mac: '52:54:00:12:34:56', uid: undefined });
    assert.deepEqual(read(`${SOCKET}\nguest_mac = "02:00:00:00:00:07"\nguest_uid = 107`), {
      path: '/run/vm.sock',
      mac: '02:00:00:00:00:07',
      uid: 107,
    });
  });

  it('is refused beside what is another inside, or has none', () => {
    for (const [node, field, says, mode] of [
      [`${SOCKET}\ntun = false`, '--guest-socket', /--no-tun asks for another/, 'up'],
      [`${SOCKET}\nstack = true`, '--guest-socket', /--stack asks for another/, 'up'],
      [`${SOCKET}\nengine = "wasm"`, '--guest-socket', /the wasm engine has no inside/, 'up'],
      [`${SOCKET}\nmtu = 1279`, '--guest-socket', /MTU of 1280, .* is 1279/, 'up'],
      [SOCKET, '--guest-socket', /a relay has no inside/, 'relay'],
      ['guest_mac = "02:00:00:00:00:07"', '--guest-mac', /no socket that it is of/, 'up'],
      ['guest_uid = 107', '--guest-uid', /no socket that it is of/, 'up'],
    ] as const)
      assert.throws(
        () => read(node, mode),
        (error) => {
          assert.ok(error instanceof OperatorError);
          assert.equal(error.exitCode, ExitCode.usage);
          assert.ok(error.message.startsWith(field), error.message);
          assert.match(error.message, says);
          return true;
        },
        node,
      );
  });

  it('is refused for what cannot be its socket, its address or a user', () => {
    for (const [node, key] of [
      ['guest_socket = "vm.sock"', 'guest_socket'],
      [`guest_socket = "/${'x'.repeat(107)}"`, 'guest_socket'],
      [`${SOCKET}\nguest_mac = "52:54:00:12:34"`, 'guest_mac'],
      [`${SOCKET}\nguest_mac = "33:33:00:00:00:01"`, 'guest_mac'],
      [`${SOCKET}\nguest_mac = "02:6f:6d:65:72:74"`, 'guest_mac'],
      [`${SOCKET}\nguest_uid = -1`, 'guest_uid'],
    ] as const)
      assert.throws(() => read(node), new RegExp(`config node\\.${key}: `), node);
  });
});
