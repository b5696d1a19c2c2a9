import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FilteringBehaviour } from '../../ts/core/nat/filtering-behaviour.js';
import { mappingOf, observersAt, ofOneOutside } from '../../ts/core/nat/mapping-behaviour.js';
import { MappingLifetime } from '../../ts/core/nat/mapping-lifetime.js';
import { NatClassifier } from '../../ts/core/nat/nat-classifier.js';
import { OBSERVATION_BOUNDS, Observations, type Observation } from '../../ts/core/nat/observation.js';
import { portAllocationOf, preservesPort } from '../../ts/core/nat/port-allocation.js';
import { translationOf } from '../../ts/core/nat/translation.js';
import type { LocalInterface } from '../../ts/core/path/local-interface.js';
import { NatBehaviour } from '../../ts/core/protocol/peer-record.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

const at = (text: string): SocketAddress => {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed, text);
  return parsed;
};
/** `to>seen`: who is at `to` saw it at `seen`. */
const seen = (...texts: readonly string[]): Observation[] =>
  texts.map((text, index) => {
    const [to = '', from = ''] = text.split('>');
    return { observer: `observer-${index}`, to: at(to), local: undefined, seen: at(from), at: index };
  });
const interfaceAt = (text: string, index = 1): LocalInterface => {
  const { ip, port } = at(text);
  return { source: { ip, interface: index }, name: `eth${index}`, port, rank: 0 };
};

describe('the mapping of a NAT', () => {
  test('is endpoint-independent when two at different addresses see the same', () => {
    const both = seen('192.0.2.1:9>198.18.0.1:4000', '192.0.2.2:9>198.18.0.1:4000');
    assert.deepEqual(mappingOf(both), { value: 'endpoint-independent' });
  });

  test('is not known of one observer, nor of one who says it twice, nor of two at one address', () => {
    const [one, two] = seen('192.0.2.1:9>198.18.0.1:4000', '192.0.2.2:9>198.18.0.1:4000');
    assert.ok(one && two);
    assert.deepEqual(mappingOf([]), { unknown: 'not-observed' });
    assert.deepEqual(mappingOf([one]), { unknown: 'one-observer' });
    assert.deepEqual(mappingOf([one, { ...two, observer: one.observer }]), { unknown: 'one-observer' });
    assert.deepEqual(mappingOf([one, { ...two, to: at('192.0.2.1:10') }]), { unknown: 'one-observer' });
  });

  test('is not known of two at one IPv6 site: whoever has one address has a /48', () => {
    const [one, two] = seen(
      '[2001:db8:1::1]:9>[2001:db8:ff::1]:4000',
      '[2001:db8:1:2::2]:9>[2001:db8:ff::1]:4000',
    );
    assert.ok(one && two);
    assert.equal(observersAt([one, two]), 1);
    assert.deepEqual(mappingOf([one, two]), { unknown: 'one-observer' });
    assert.deepEqual(mappingOf([one, { ...two, seen: at('[2001:db8:ff::1]:4001') }]), {
      unknown: 'one-observer',
    });
    const elsewhere = { ...two, to: at('[2001:db8:2::2]:9') };
    assert.deepEqual(mappingOf([one, elsewhere]), { value: 'endpoint-independent' });
    // Two of the first site agree with each other against the other one.
    const third = { ...one, observer: 'third', to: at('[2001:db8:1:3::3]:9') };
    const other = { ...elsewhere, seen: at('[2001:db8:ff::1]:5000') };
    assert.deepEqual(mappingOf([one, third, other]), { unknown: 'no-second-port' });
  });

  test('depends on the address when they differ; on the port too, two ports of one address tell', () => {
    const two = ['192.0.2.1:9>198.18.0.1:4000', '192.0.2.2:9>198.18.0.1:5000'];
    assert.deepEqual(mappingOf(seen(...two)), { unknown: 'no-second-port' });
    assert.deepEqual(mappingOf(seen(...two, '192.0.2.2:10>198.18.0.1:5000')), { value: 'address-dependent' });
    assert.deepEqual(mappingOf(seen(...two, '192.0.2.2:10>198.18.0.1:6000')), {
      value: 'address-and-port-dependent',
    });
  });

  test('is what two agree on, whatever a third one claims', () => {
    const three = seen(
      '192.0.2.1:9>198.18.0.1:4000',
      '192.0.2.2:9>198.18.0.1:4000',
      '192.0.2.3:9>203.0.113.5:1',
    );
    assert.deepEqual(mappingOf(three), { value: 'endpoint-independent' });
  });

  test('is that of the outermost address: who is met in a carrier’s network sees another one', () => {
    const all = seen(
      '100.64.0.9:9>100.64.0.2:4000',
      '192.0.2.1:9>198.18.0.1:5000',
      '192.0.2.2:9>198.18.0.1:5000',
    );
    assert.deepEqual(
      ofOneOutside(all).map(({ to }) => formatSocketAddress(to)),
      ['192.0.2.1:9', '192.0.2.2:9'],
    );
  });

  test('is that of the address most sites saw, however many members of one site see another one', () => {
    const all = seen(
      '[2001:db8:1::1]:9>[2001:db8:bad::1]:4000',
      '[2001:db8:1:2::1]:9>[2001:db8:bad::1]:4000',
      '[2001:db8:1:3::1]:9>[2001:db8:bad::1]:4000',
      '[2001:db8:2::1]:9>[2001:db8:ff::1]:5000',
      '[2001:db8:3::1]:9>[2001:db8:ff::1]:5000',
    );
    assert.deepEqual(
      ofOneOutside(all).map(({ to }) => formatSocketAddress(to)),
      ['[2001:db8:2::1]:9', '[2001:db8:3::1]:9'],
    );
  });
});

describe('the ports of a NAT', () => {
  const allocation = (...texts: readonly string[]) => {
    const all = seen(...texts);
    return portAllocationOf(all, 51_820, mappingOf(all));
  };

  test('are the inner one, the next in line, any, or not known where one is given to all', () => {
    assert.deepEqual(allocation('192.0.2.1:9>198.18.0.1:51820'), { value: 'preserving' });
    assert.deepEqual(allocation('192.0.2.1:9>198.18.0.1:51820', '192.0.2.2:9>198.18.0.1:51821'), {
      value: 'preserving',
    });
    assert.deepEqual(allocation('192.0.2.1:9>198.18.0.1:4000', '192.0.2.2:9>198.18.0.1:4002'), {
      value: 'sequential',
    });
    assert.deepEqual(allocation('192.0.2.1:9>198.18.0.1:4000', '192.0.2.2:9>198.18.0.1:40020'), {
      value: 'random',
    });
    assert.deepEqual(allocation('192.0.2.1:9>198.18.0.1:4000', '192.0.2.2:9>198.18.0.1:4000'), {
      unknown: 'one-mapping',
    });
    assert.deepEqual(allocation('192.0.2.1:9>198.18.0.1:4000'), { unknown: 'one-observer' });
    assert.deepEqual(preservesPort(seen('192.0.2.1:9>198.18.0.1:4000'), 51_820), { value: false });
  });
});

describe('the translation of an address', () => {
  const own = ['10.0.0.2', '2001:db8:1:2::5', '2001:db8:1:2:a1b2:c3d4:e5f6:7'].map(
    (ip) => at(ip.includes(':') ? `[${ip}]:1` : `${ip}:1`).ip,
  );
  const of = (local: string, outside: string) => translationOf(at(local), own, at(outside));

  test('is none for an own address, a temporary one and one that was made since among them', () => {
    assert.equal(of('10.0.0.2:9', '10.0.0.2:9'), 'none');
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:1:2:a1b2:c3d4:e5f6:7]:9'), 'none');
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:1:2:1:2:3:4]:9'), 'none');
  });

  test('is of the prefix alone where identifier and port stay, or the checksum does (RFC 6296)', () => {
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:ffff:2::5]:9'), 'nptv6');
    // 0x0001 + 0x0002 + 0 = 0x0100 + 0 + (0 - 0xfd): the identifier's first word makes up for the prefix.
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:100:0:ff02::5]:9'), 'nptv6');
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:100:0:ff03::5]:9'), 'nat66');
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:ffff:2::5]:10'), 'nat66');
  });

  test('is that of many behind one otherwise', () => {
    assert.equal(of('10.0.0.2:9', '198.18.0.1:9'), 'nat44');
    assert.equal(of('[2001:db8:1:2::5]:9', '[2001:db8:ffff:2::1]:4000'), 'nat66');
  });
});

describe('the filtering of a NAT or firewall', () => {
  test('is known by who got in, and by who did not and was reached afterwards', () => {
    const filtering = new FilteringBehaviour();
    assert.deepEqual([filtering.finding, filtering.wanted], [{ unknown: 'not-tried' }, 'nothing']);
    filtering.refused('nothing');
    assert.deepEqual([filtering.finding, filtering.wanted], [{ unknown: 'no-second-try' }, 'other-port']);
    filtering.refused('other-port');
    assert.deepEqual(filtering.finding, { value: 'address-and-port-dependent' });
    assert.equal(filtering.wanted, undefined);
    filtering.arrived('other-port');
    assert.deepEqual(filtering.finding, { value: 'address-dependent' });
    filtering.arrived('nothing');
    assert.deepEqual(filtering.finding, { value: 'endpoint-independent' });
  });
});

test('the lifetime of a mapping is between what was seen, and what was seen last counts', () => {
  const lifetime = new MappingLifetime();
  lifetime.held(20_000);
  lifetime.held(40_000);
  lifetime.gone(90_000);
  assert.deepEqual(lifetime.bounds, { atLeastMs: 40_000, belowMs: 90_000 });
  lifetime.gone(35_000);
  assert.deepEqual(lifetime.bounds, { atLeastMs: undefined, belowMs: 35_000 });
  lifetime.held(36_000);
  assert.deepEqual(lifetime.bounds, { atLeastMs: 36_000, belowMs: undefined });
});

describe('what others say of where they see this node', () => {
  test('is kept of each as little as of any, whatever one of them says', () => {
    const observations = new Observations();
    const [first] = seen('192.0.2.1:9>198.18.0.1:4000');
    assert.ok(first);
    observations.add(first);
    for (let port = 1; port < 5000; port++)
      observations.add({ ...first, observer: 'eager', to: at(`192.0.2.2:${port}`), at: port });
    const kept = observations.of('ipv4', undefined, 0);
    assert.equal(kept.length, 1 + OBSERVATION_BOUNDS.shares.observer);
    assert.equal(kept[0]?.to.port, 4999, 'the newest');
    for (let n = 0; n < 2000; n++) observations.add({ ...first, observer: `one of ${n}`, at: 10_000 + n });
    assert.equal(observations.of('ipv4', undefined, 0).length, OBSERVATION_BOUNDS.total);
  });

  const relay = (observer: string, to: string, outside: string, now: number): Observation => ({
    observer,
    to: at(to),
    local: undefined,
    seen: at(outside),
    at: now,
  });

  test('begins anew when a relay sees it elsewhere, and not when a member does', () => {
    const nat = new NatClassifier([interfaceAt('10.0.0.2:51820')]);
    const verdicts = (now: number) => nat.reports(now).map(({ mapping }) => mapping);
    assert.equal(nat.relayObserved(relay('r1', '192.0.2.1:9', '198.18.0.1:4000', 0)), false);
    assert.equal(nat.relayObserved(relay('r2', '192.0.2.2:9', '198.18.0.1:4000', 0)), false);
    nat.filtering(undefined, 'ipv4').arrived('nothing');
    assert.deepEqual(verdicts(1), [{ value: 'endpoint-independent' }]);
    for (let now = 0; now < 60_000; now += 1000)
      nat.memberObserved(relay('liar', '192.0.2.9:9', `203.0.113.9:${now + 1}`, now));
    assert.deepEqual(verdicts(60_000), [{ value: 'endpoint-independent' }]);
    assert.deepEqual(nat.filtering(undefined, 'ipv4').finding, { value: 'endpoint-independent' });
    assert.equal(nat.relayObserved(relay('r1', '192.0.2.1:9', '198.18.0.1:4444', 60_000)), true);
    assert.deepEqual(nat.filtering(undefined, 'ipv4').finding, { unknown: 'not-tried' });
    assert.deepEqual(verdicts(60_000), [{ unknown: 'one-observer' }]);
    assert.equal(
      nat.relayObserved(relay('r2', '192.0.2.2:9', '198.18.0.1:4444', 60_100)),
      false,
      'the same change',
    );
    assert.deepEqual(verdicts(60_100), [{ value: 'endpoint-independent' }]);
  });

  test('is void when the interfaces are others', () => {
    const nat = new NatClassifier([interfaceAt('10.0.0.2:51820')]);
    nat.relayObserved(relay('r1', '192.0.2.1:9', '198.18.0.1:4000', 0));
    nat.interfacesChanged([interfaceAt('10.9.0.2:51820')], 5);
    assert.deepEqual(
      nat.reports(5).map(({ local, observers }) => [local, observers]),
      [['10.9.0.2:51820', 0]],
    );
  });

  test('is told apart by family and interface; of a relay it is not known by which of two it was asked', () => {
    const nat = new NatClassifier([
      interfaceAt('10.0.0.2:51820', 1),
      interfaceAt('10.1.0.2:51820', 2),
      interfaceAt('[2001:db8::5]:51820', 1),
    ]);
    nat.relayObserved(relay('r1', '192.0.2.1:9', '198.18.0.1:4000', 0));
    nat.relayObserved(relay('r1', '[2001:db8:9::1]:9', '[2001:db8::5]:51820', 0));
    const [second] = [interfaceAt('10.1.0.2:51820', 2)];
    nat.memberObserved({
      ...relay('m1', '192.0.2.7:9', '198.18.7.1:51820', 0),
      local: second.source,
    });
    assert.deepEqual(
      nat.reports(1).map((report) => [report.local, report.translation]),
      [
        ['10.0.0.2:51820', { unknown: 'which-address' }],
        ['10.1.0.2:51820', { value: 'nat44' }],
        ['[2001:db8::5]:51820', { value: 'none' }],
      ],
    );
  });

  test('makes the record’s word of the NAT', () => {
    const behaviour = (...told: readonly (readonly [string, string])[]): NatBehaviour => {
      const nat = new NatClassifier([interfaceAt('10.0.0.2:51820')]);
      for (const [to, outside] of told) nat.relayObserved(relay(to, to, outside, 0));
      return nat.behaviour(1);
    };
    assert.equal(behaviour(), NatBehaviour.unknown);
    assert.equal(behaviour(['192.0.2.1:9', '10.0.0.2:51820']), NatBehaviour.none);
    assert.equal(behaviour(['192.0.2.1:9', '198.18.0.1:1']), NatBehaviour.unknown);
    assert.equal(
      behaviour(['192.0.2.1:9', '198.18.0.1:1'], ['192.0.2.2:9', '198.18.0.1:1']),
      NatBehaviour.endpointIndependent,
    );
    assert.equal(
      behaviour(['192.0.2.1:9', '198.18.0.1:1'], ['192.0.2.2:9', '198.18.0.1:2']),
      NatBehaviour.addressAndPortDependent,
    );
  });
});
