// Which backends of exits `omerta doctor` says can be used, and why not the others.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { exitCheck, pingCheck, type ExitFacts } from '../../ts/daemon/doctor/exit-checks.js';
import { pingsClosed } from '../../ts/host/ping-access.js';

const ALL: ExitFacts = {
  hasNativeEngine: true,
  tun: { ok: true, reason: '' },
  network: { ok: true, detail: '' },
  notInstalled: [],
};

it('names each backend with what starts it', () => {
  const { ok, detail } = exitCheck(ALL);
  assert.ok(ok);
  assert.equal(
    detail,
    'kernel (omerta up as root): yes; namespace (omerta up --no-tun): yes; stack (omerta up --stack): yes',
  );
});

it('says what each lacks', () => {
  const { ok, detail } = exitCheck({
    ...ALL,
    tun: { ok: false, reason: 'the capability CAP_NET_ADMIN is missing' },
    network: { ok: false, detail: 'user namespaces are closed' },
    notInstalled: ['nft'],
  });
  assert.ok(ok, 'the stack is left');
  assert.equal(
    detail,
    'kernel: no, the capability CAP_NET_ADMIN is missing, nft is not installed; ' +
      'namespace: no, user namespaces are closed, nft is not installed; stack (omerta up --stack): yes',
  );
  const none = exitCheck({ ...ALL, hasNativeEngine: false });
  assert.ok(!none.ok);
  assert.equal(none.remedy, 'npm run build');
});

it('says what lets pings of guests pass', () => {
  const of = (range: string | undefined, ...groups: number[]) => pingsClosed(() => range, groups);
  assert.equal(of('0\t2147483647', 1000), undefined);
  assert.equal(of('100 100', 7, 100), undefined);
  assert.match(of(undefined, 0)?.reason ?? '', /not readable/);
  const closed = of('1\t0', 0, 1);
  assert.deepEqual(pingCheck(closed), {
    name: 'exit pings',
    ok: false,
    required: false,
    detail:
      "ping sockets are closed to this user (net.ipv4.ping_group_range = 1 0): by namespace and stack, guests' pings are refused",
    remedy: 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"',
  });
  assert.ok(pingCheck(undefined).ok);
});
