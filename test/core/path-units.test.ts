import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { contactCandidates, triedCandidates } from '../../ts/core/path/contact-addresses.js';
import { Contact } from '../../ts/core/path/contact.js';
import { MemberPaths, MOST_PATHS } from '../../ts/core/path/member-paths.js';
import { choosePaths, whyNot } from '../../ts/core/path/path-choice.js';
import { PathMtu } from '../../ts/core/path/path-mtu.js';
import { PREDICTED_PORTS, predictedAddresses } from '../../ts/core/path/port-prediction.js';
import { TrackedPath } from '../../ts/core/path/tracked-path.js';
import {
  PROBES_PER_ADDRESS,
  PROBES_PER_HOST,
  PROBES_PER_LOST_HOST,
  PROBES_PER_MEMBER,
  UnprovenBudget,
} from '../../ts/core/path/unproven-budget.js';
import { CandidateKind, MAX_CONTACT_CANDIDATES } from '../../ts/core/protocol/contact-candidate.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

const at = (text: string): SocketAddress => {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed, text);
  return parsed;
};
const token = (value: number): Uint8Array => new Uint8Array(8).fill(value);

describe('probes to addresses that have not answered', () => {
  test('are few to one address, whoever names it and however often', () => {
    const budget = new UnprovenBudget();
    const victim = at('203.0.113.7:53');
    let sent = 0;
    for (let now = 0; now < 60_000; now += 10) if (budget.take(`member-${now % 50}`, victim, now)) sent++;
    assert.equal(sent, PROBES_PER_ADDRESS);
    assert.equal(budget.refused, 6000 - sent);
    assert.ok(budget.take('member', victim, 60_000), 'a minute later it may be tried again');
  });

  test('are few to one host, on whatever ports and however its address ends', () => {
    for (const host of [
      (n: number) => `203.0.113.7:${n + 1}`,
      (n: number) => `[2001:db8::${n.toString(16)}]:9`,
    ]) {
      const budget = new UnprovenBudget();
      let sent = 0;
      for (let n = 0; n < 5000; n++) if (budget.take(`member-${n % 50}`, at(host(n)), n)) sent++;
      assert.equal(sent, PROBES_PER_HOST);
    }
  });

  test('are not all spent by the first who names an address or a host: where somebody is, others are found', () => {
    const budget = new UnprovenBudget();
    const take = (member: string, address: string): boolean => budget.take(member, at(address), 0);
    for (let n = 0; n < 100; n++) take('eager', '203.0.113.7:51820');
    assert.ok(take('who is there', '203.0.113.7:51820'));
    for (let n = 0; n < 1000; n++) take('eager', `203.0.113.7:${n + 1}`);
    assert.ok(take('who is there', '203.0.113.7:51821'));
  });

  test('of port searches: those who search again and again leave one to who has had none', () => {
    const budget = new UnprovenBudget();
    const most = 1024;
    const search = (member: string, ip: string, now: number): boolean => {
      if (!budget.maySearch(member, at(`${ip}:1`), most, now)) return false;
      for (let port = 1; port <= most; port++)
        if (!budget.takeSearch(member, at(`${ip}:${port}`), most, now)) return false;
      return true;
    };
    // Whoever comes first, first; the fifth comes too late.
    const eager = (now: number, key = ''): boolean[] =>
      [1, 2, 3, 4].map((n) => search(`eager-${key}${n}`, `203.0.113.${n}`, now));
    assert.deepEqual([...eager(0), search('late', '203.0.113.5', 1)], [true, true, true, true, false]);
    // From then on somebody is left something, whatever the four call themselves.
    for (let window = 1; window < 6; window++) {
      const now = window * 600_001;
      assert.equal(eager(now, `${window} `).includes(true), true);
      assert.equal(search(`new-${window}`, `203.0.113.${10 + window}`, now), true, `window ${window}`);
    }
    // Who is alone has it for himself.
    for (let window = 7; window < 20; window++)
      assert.equal(search('alone', '203.0.113.99', window * 600_001), true, `window ${window}`);
  });

  test('are few to a host that a member has answered from, at however many ports it was', () => {
    const budget = new UnprovenBudget();
    let sent = 0;
    for (let n = 0; n < 20_000; n++)
      if (budget.takeLost('member', at(`203.0.113.7:${(n % 90) + 1}`), n)) sent++;
    assert.equal(sent, PROBES_PER_LOST_HOST);
    assert.ok(budget.takeLost('another', at('203.0.113.7:1'), 20_000), 'who is there beside it is found');
  });

  test('are few at one member’s word, and its table has room for the words of others', () => {
    const budget = new UnprovenBudget();
    let sent = 0;
    for (let n = 0; n < 20_000; n++)
      if (budget.take('eager', at(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}:9`), 0)) sent++;
    assert.ok(sent <= PROBES_PER_MEMBER, `${sent}`);
    assert.ok(budget.take('another', at('192.0.2.1:9'), 0));
  });
});

describe('what a contact names', () => {
  const own = {
    interfaces: [{ source: { ip: at('10.0.0.2:1').ip, interface: 1 }, port: 51_820, rank: 0 }],
    announced: [at('198.51.100.1:51820')],
    mapped: [at('203.0.113.9:51820'), at('198.51.100.1:51820')],
    observed: [at('198.18.0.1:4000'), at('198.51.100.1:51820')],
    predicted: Array.from({ length: 40 }, (_, n) => at(`198.18.0.1:${4001 + n}`)),
  };

  test('each address once, the announced ones first, no more than there is room for', () => {
    const candidates = contactCandidates(own, CandidateKind.mapped);
    assert.equal(candidates.length, MAX_CONTACT_CANDIDATES);
    assert.deepEqual(
      candidates.slice(0, 4).map(({ address }) => formatSocketAddress(address)),
      ['198.51.100.1:51820', '203.0.113.9:51820', '10.0.0.2:51820', '198.18.0.1:4000'],
    );
    assert.equal(candidates[1]?.kind, CandidateKind.mapped);
  });

  test('loopback, multicast, broadcast, unspecified, link-local and own addresses are not tried', () => {
    const told = [
      '127.0.0.1:9',
      '0.0.0.0:9',
      '224.0.0.1:9',
      '255.255.255.255:9',
      '240.0.0.1:9',
      '[::1]:9',
      '[::]:9',
      '[ff02::1]:9',
      '[fe80::1]:9',
      '10.0.0.2:51820',
      '198.51.100.1:51820',
      '203.0.113.9:51820',
      '203.0.113.5:9',
      '[2001:db8::5]:9',
      '10.0.0.2:9',
    ].map((text) => ({ kind: CandidateKind.host, address: at(text) }));
    assert.deepEqual(
      triedCandidates(told, own).map(({ address }) => formatSocketAddress(address)),
      ['203.0.113.5:9', '[2001:db8::5]:9', '10.0.0.2:9'],
    );
  });

  test('however many addresses a member is said to have, so many paths are kept, those of use longest', () => {
    const paths = new MemberPaths(() => false);
    const first = paths.add({ remote: { address: at('192.0.2.1:1') }, local: undefined });
    assert.ok(first);
    for (let n = 0; n < 1000; n++)
      paths.add({ remote: { address: at(`192.0.2.2:${n + 1}`) }, local: undefined });
    assert.equal(paths.all().length, MOST_PATHS);
    assert.equal(paths.get(first.id), first);
  });

  test('makes no room where a path is in use, dead as it is, but where the operator lets nothing be sent', () => {
    const contact = new Contact(0);
    const add = (n: number): TrackedPath | undefined =>
      contact.paths.add({ remote: { address: at(`192.0.2.1:${n}`) }, local: undefined });
    const [used, out] = [add(1), add(2)];
    assert.ok(used && out);
    used.state = 'dead';
    contact.set = [used];
    out.ruleOut();
    for (let n = 3; n <= MOST_PATHS + 1; n++) assert.ok(add(n), `${n}`);
    assert.equal(contact.paths.get(out.id), undefined);
    assert.equal(add(MOST_PATHS + 2), undefined);
    assert.equal(contact.paths.get(used.id), used);
  });
});

test('a contact that comes to nothing is asked for again after 5 s, twice as long each time, 10 min at most', () => {
  const contact = new Contact(0);
  const waits = Array.from({ length: 9 }, () => {
    contact.failed(1000);
    return (contact.askAt ?? 0) - 1000;
  });
  assert.deepEqual(waits, [5000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]);
});

describe('the ports a NAT will give next', () => {
  const predicted = (ports: readonly number[], since = 0): number[] =>
    predictedAddresses(
      ports.map((port) => at(`198.18.0.1:${port}`)),
      since,
    ).map(({ port }) => port);

  test('are the next in line, by the step it takes, after those that were taken since', () => {
    assert.deepEqual(predicted([5001, 5000]).slice(0, 3), [5002, 5003, 5004]);
    assert.deepEqual(predicted([5000, 5002, 5004]).slice(0, 2), [5006, 5008]);
    assert.deepEqual(predicted([5000, 5001], 10).slice(0, 2), [5012, 5013]);
    assert.equal(predicted([5000, 5001]).length, PREDICTED_PORTS);
    assert.deepEqual(predicted([65_533, 65_534]), [65_535]);
  });

  test('are not known when all see one port, when they are far apart, or when there are two addresses', () => {
    assert.deepEqual(predicted([5000]), []);
    assert.deepEqual(predicted([5000, 5000]), []);
    assert.deepEqual(predicted([5000, 41_007]), []);
    assert.deepEqual(predicted([]), []);
    assert.deepEqual(predictedAddresses([at('198.18.0.1:1'), at('198.18.0.2:2')], 0), []);
  });
});

describe('a path that is probed', () => {
  const path = (id = 1): TrackedPath =>
    new TrackedPath(id, { remote: { address: at('192.0.2.1:9') }, local: undefined });

  test('is proven by the answer to one of its probes, once each, and by nothing else', () => {
    const probed = path();
    probed.sent(token(1), 0);
    assert.equal(probed.answered(token(2), 10, 10), false);
    assert.equal(probed.state, 'untried');
    assert.equal(probed.answered(token(1), 10, 10), true);
    assert.equal(probed.state, 'proven');
    assert.equal(probed.answered(token(1), 10, 10), false);
  });

  test('is as slow as its answers were late, whatever stamp the peer wrote into them', () => {
    const answeredAfter = (elapsed: number, rttMs: number): TrackedPath => {
      const probed = path();
      probed.sent(token(1), 1000);
      assert.ok(probed.answered(token(1), rttMs, 1000 + elapsed));
      return probed;
    };
    assert.equal(answeredAfter(30, 25).quality.rttMs, 25);
    assert.equal(answeredAfter(30, 9e12).quality.rttMs, 30);
    assert.equal(answeredAfter(30, -9e12).quality.rttMs, 0);
    assert.ok(answeredAfter(3_600_000, 3_600_000).quality.timeoutMs <= 10_000, 'nor held back');
  });

  test('fails after six probes in vain, and is dead after four when it was proven', () => {
    const probed = path();
    const probesUntilGivenUp = (): number => {
      for (let sent = 0; ; sent++) {
        if (!probed.due()) return sent;
        probed.sent(token(sent), 0);
      }
    };
    assert.equal(probesUntilGivenUp(), 6);
    assert.equal(probed.state, 'failed');
    assert.equal(probed.answered(token(5), 10, 10), true, 'a late answer proves it all the same');
    assert.equal(probesUntilGivenUp(), 4);
    assert.equal(probed.state, 'dead');
  });

  const ranks = new Map<TrackedPath, number>();
  const proven = (
    id: number,
    rttMs: number,
    loss: number,
    options: { rank?: number; leg?: boolean } = {},
  ) => {
    const remote = options.leg === true ? { leg: id } : { address: at(`192.0.2.${id}:9`) };
    const made = new TrackedPath(id, { remote, local: undefined });
    ranks.set(made, options.rank ?? 0);
    made.state = 'proven';
    made.quality.rttMs = rttMs;
    made.quality.probeLoss = loss;
    return made;
  };
  const first = (paths: readonly TrackedPath[], used?: TrackedPath): number | undefined =>
    choosePaths(paths, used, (each) => [0, ranks.get(each) ?? 0])[0]?.id;

  test('is chosen by rank, then directness, loss, round trip', () => {
    const relayed = proven(1, 5, 0, { leg: true });
    assert.equal(first([relayed, proven(2, 80, 0)]), 2, 'direct though slower');
    assert.equal(first([relayed, proven(2, 80, 0.08)]), 2, 'direct though it loses a little');
    assert.equal(first([relayed, proven(2, 80, 0.3)]), 1, 'not when it loses much');
    assert.equal(first([proven(1, 50, 0), proven(2, 20, 0)]), 2);
    assert.equal(first([proven(1, 50, 0), proven(2, 20, 0.2)]), 1);
    assert.equal(first([proven(1, 50, 0, { rank: 0 }), proven(2, 5, 0, { rank: 1 })]), 1);
    assert.equal(first([path(3)]), undefined, 'nothing that is not proven');
  });

  test('is one that the inner MTU fits, and over a relay only where the direct ones take less than IPv6 asks', () => {
    const taking = (path: TrackedPath, plpmtu: number): TrackedPath => {
      path.mtu = new PathMtu(1432, 1312, 0);
      path.mtu.plpmtu = plpmtu;
      return path;
    };
    const why = (path: TrackedPath, used: TrackedPath): string => whyNot(path, used, () => [0, 0]);
    const [small, narrow] = [taking(proven(1, 5, 0), 1372), taking(proven(2, 5, 0), 1300)];
    const [whole, relayed] = [taking(proven(3, 90, 0), 1432), taking(proven(4, 5, 0, { leg: true }), 1432)];
    assert.equal(first([small, whole], small), 3, 'slower, and the one in use is left for it');
    assert.equal(first([small, relayed]), 1);
    assert.equal(first([narrow, relayed], narrow), 4);
    assert.equal(first([narrow, taking(proven(5, 1, 0, { leg: true }), 1300)]), 2);
    assert.equal(first([small, proven(6, 4, 0)]), 6, 'what is not known is no reason');
    assert.deepEqual(
      [why(small, whole), why(narrow, relayed), why(relayed, small)],
      ['mtu', 'mtu', 'relayed'],
    );
  });

  test('is not left for one that is better by little', () => {
    const used = proven(1, 50, 0.02);
    assert.equal(first([used, proven(2, 45, 0)], used), 1);
    assert.equal(first([used, proven(2, 30, 0)], used), 2);
    assert.equal(first([used, proven(2, 45, 0)], proven(9, 1, 0)), 2, 'one that is gone is');
  });
});
