// Which kernel parameter closes user namespaces, and what opens them again.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { namespacesClosed } from '../../ts/host/namespace-access.js';

const closedBy = (found: Readonly<Record<string, string>>): ReturnType<typeof namespacesClosed> =>
  namespacesClosed((parameter) => found[parameter]);

describe('namespacesClosed', () => {
  it('says nothing of a machine where they are open, or whose kernel has no such parameters', () => {
    assert.equal(closedBy({}), undefined);
    assert.equal(
      closedBy({ 'kernel.unprivileged_userns_clone': '1', 'user.max_user_namespaces': '96365' }),
      undefined,
    );
  });

  it('names the parameter that closes them, and the command that opens them', () => {
    for (const [parameter, closed, open] of [
      ['kernel.unprivileged_userns_clone', '0', '1'],
      ['user.max_user_namespaces', '0', '15000'],
      ['user.max_net_namespaces', '0', '15000'],
      ['kernel.apparmor_restrict_unprivileged_userns', '1', '0'],
    ] as const)
      assert.deepEqual(closedBy({ [parameter]: closed }), {
        reason: `user namespaces are closed (${parameter} = ${closed})`,
        remedy: `sudo sysctl -w ${parameter}=${open}`,
      });
  });
});
