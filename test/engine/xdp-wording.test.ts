// What the addon of the kernel path says in codes, worded.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { packageRoot } from '../../ts/host/version.js';
import { XdpError, xdpError } from '../../ts/engine/xdp/xdp-addon.js';
import { wordXdpReason } from '../../ts/engine/xdp/xdp-wording.js';

const PLACE = { name: 'eth7', driver: 'veth' };

describe('why the kernel path is not there', () => {
  it('is said for every code the addon has', () => {
    const source = readFileSync(join(packageRoot(), 'native/xdp/xdp_error.h'), 'utf8');
    const codes = [...source.matchAll(/return "([A-Z_]+)";/g)].map(([, code]) => code ?? '');
    assert.ok(codes.length > 10);
    for (const code of codes) {
      const { reason } = wordXdpReason({ code, detail: 'something', number: 1 }, PLACE);
      assert.match(reason, /[a-z].* /, code);
    }
  });

  it('names what it is about, and what to type', () => {
    assert.deepEqual(wordXdpReason({ code: 'BUSY', detail: '', number: 41 }, PLACE), {
      reason: 'another XDP program (id 41) is attached; bpftool prog show id 41 tells whose',
      remedy: 'sudo ip link set dev eth7 xdp off',
    });
    const lost = { code: 'LOSES_FRAMES', detail: '100', number: 90 };
    assert.equal(
      wordXdpReason(lost, PLACE).reason,
      'its driver lost 90 of the last 100 frames (ethtool -S eth7 | grep xdp)',
    );
    assert.match(wordXdpReason(lost, PLACE).remedy ?? '', /other end of the veth/);
    assert.equal(wordXdpReason(lost, { name: 'eth7', driver: 'ixgbe' }).remedy, undefined);
    const elsewhere = wordXdpReason({ code: 'TAKES_NOTHING_REDIRECTED', detail: '', number: 0 }, PLACE);
    assert.match(elsewhere.reason, /veth.*by another interface.*by the socket/);
    assert.match(elsewhere.remedy ?? '', /GRO on at the other end/);
    assert.match(wordXdpReason({ code: 'MTU', detail: '', number: 9000 }, PLACE).reason, /MTU of 9000.*veth/);
    assert.equal(wordXdpReason({ code: 'OF_TOMORROW', detail: '', number: 0 }).reason, 'OF_TOMORROW');
  });

  it('is an XdpError, which tells whether privileges are what is missing', () => {
    const thrown = (code: string, detail: string, number: number): unknown =>
      xdpError(Object.assign(new Error('in whatever words'), { code, detail, number }));
    const refused = thrown('FILE_REFUSED', '/sys/fs/bpf/omerta', 13);
    assert.ok(refused instanceof XdpError && refused.isRefused);
    assert.equal(refused.message, '/sys/fs/bpf/omerta: permission denied');
    const missing = thrown('BPFFS', '/sys/fs/bpf', 0);
    assert.ok(missing instanceof XdpError && !missing.isRefused);
    assert.equal(missing.remedy, 'sudo mount -t bpf bpf /sys/fs/bpf');
    const other = new Error('something else');
    assert.equal(xdpError(other), other);
  });
});
