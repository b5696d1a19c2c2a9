// What guests of a gateway may have open, and where it goes on to.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { exitRules } from '../../ts/exit/denied-ranges.js';
import { ALL_BOUNDS, GatewayFlows, GUEST_BOUNDS } from '../../ts/exit/gateway-flows.js';
import { gatewayTable } from '../../ts/exit/gateway-rules.js';
import { Permitted } from '../../ts/exit/permitted.js';

const [A, B] = ['100.64.0.1', '100.64.0.2'];

describe('flows of guests', () => {
  const made = (): { flows: GatewayFlows; clock: { now: number } } => {
    const clock = { now: 0 };
    const flows = new GatewayFlows(() => clock.now);
    flows.setGuests([A, B]);
    return { flows, clock };
  };

  it('are bounded for each, and others are unharmed', () => {
    const { flows, clock } = made();
    const ends: (() => void)[] = [];
    for (let count = 0; count < GUEST_BOUNDS.udp; count++) {
      clock.now += 10;
      assert.ok(flows.mayBegin(A, 'udp'));
      ends.push(flows.enter(A, 'udp'));
    }
    clock.now += 1000;
    assert.equal(flows.mayBegin(A, 'udp'), false);
    assert.ok(flows.mayBegin(A, 'tcp'), 'of another kind');
    assert.ok(flows.mayBegin(B, 'udp'));
    assert.equal(flows.refused, 1);
    ends[0]?.();
    ends[0]?.();
    assert.equal(flows.all.udp, GUEST_BOUNDS.udp - 1, 'it ends once');
    assert.ok(flows.mayBegin(A, 'udp'));
  });

  it('may be connecting only so many at a time', () => {
    const { flows, clock } = made();
    const connected = Array.from({ length: GUEST_BOUNDS.connecting }, () => flows.enter(A, 'connecting'));
    assert.equal(flows.mayBegin(A, 'tcp'), false);
    connected[0]?.();
    clock.now += 1000;
    assert.ok(flows.mayBegin(A, 'tcp'));
  });

  it('leave descriptors to the rest of the process', () => {
    const flows = new GatewayFlows(() => 0, 18);
    flows.setGuests([A, B]);
    const ends = [A, A, B].map((guest) => flows.enter(guest, 'tcp'));
    flows.enter(B, 'udp');
    flows.answerers = 1;
    assert.ok(flows.mayBegin(A, 'tcp'), 'the last four of eighteen');
    flows.answerers = 2;
    assert.deepEqual([flows.mayBegin(A, 'tcp'), flows.mayBegin(B, 'udp'), flows.refused], [false, false, 2]);
    ends[0]?.();
    assert.ok(flows.mayBegin(B, 'udp'));
  });

  it('may begin only so fast', () => {
    const { flows, clock } = made();
    let begun = 0;
    while (flows.mayBegin(A, 'tcp')) begun++;
    assert.equal(begun, 200);
    assert.ok(flows.mayBegin(B, 'tcp'));
    clock.now += 100;
    begun = 0;
    while (flows.mayBegin(A, 'tcp')) begun++;
    assert.equal(begun, 20);
  });

  it('are bounded for all together', () => {
    const { flows } = made();
    const many = Array.from({ length: 20 }, (_, index) => `100.64.1.${index}`);
    flows.setGuests([...many, A]);
    for (let count = 0; count < ALL_BOUNDS.tcp; count++) flows.enter(many[count % many.length] ?? '', 'tcp');
    assert.equal(flows.mayBegin(A, 'tcp'), false);
    assert.ok(flows.mayBegin(A, 'udp'));
  });

  it('end with the right of their guest, and are of nobody else', () => {
    const { flows } = made();
    const ended: string[] = [];
    for (const guest of [A, B]) {
      const left = flows.enter(guest, 'tcp', () => {
        ended.push(guest);
        left();
      });
    }
    flows.setGuests([B]);
    assert.deepEqual([ended, flows.all.tcp], [[A], 1]);
    assert.equal(flows.mayBegin(A, 'tcp'), false);
    let told = false;
    flows.enter(A, 'tcp', () => (told = true));
    assert.deepEqual([told, flows.all.tcp], [true, 1]);
  });
});

describe('where a gateway goes on to', () => {
  it('is what the engine forwards to: the longest prefix decides, and what is embedded counts', () => {
    const permitted = new Permitted(
      exitRules(['203.0.113.7/32', '203.0.113.0/24'], ['192.168.7.0/24', '203.0.113.0/24']),
    );
    for (const address of [
      '9.9.9.9',
      '192.168.7.2',
      '203.0.113.8',
      '2620:fe::fe',
      '64:ff9b::909:909',
      '2002:909:909::1',
    ])
      assert.ok(permitted.permits(address), address);
    for (const address of [
      ...[
        '10.0.0.1',
        '192.168.8.1',
        '127.0.0.1',
        '169.254.169.254',
        '203.0.113.7',
        '100.64.0.9',
        '224.0.0.1',
      ],
      ...['::1', 'fd00::1', 'fe80::1', 'ff02::1', '2001::1', '64:ff9b::a00:1', '2002:a00:1::1', 'nonsense'],
    ])
      assert.ok(!permitted.permits(address), address);
  });

  it('is decided by rules that leave this member\u2019s own addresses alone', () => {
    const facts = {
      tunnel: 'omerta0',
      tcp: 1,
      udp: 2,
      own: ['100.64.0.1', 'fd00::1'],
      ipv4: true,
      ipv6: false,
    };
    const text = gatewayTable(facts);
    assert.match(text, /ip daddr \{ 100\.64\.0\.1 \} accept/);
    assert.match(text, /ip6 daddr \{ fd00::1 \} accept/);
    assert.match(text, /nfproto ipv4 meta l4proto udp tproxy ip to :2 /);
    assert.doesNotMatch(text, /nfproto ipv6/);
    // A guest's rates come after what is for this member, and before what is taken.
    const places = [
      /ip6 daddr .* accept/,
      /syn update @begun4/,
      /update @sent6/,
      /tproxy/,
      /icmp type echo-request/,
    ].map((part) => text.search(part));
    assert.ok(
      places.every((place) => place > 0),
      places.join(),
    );
    assert.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
    );
  });
});
