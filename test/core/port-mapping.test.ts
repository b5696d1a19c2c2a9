import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Step } from '../../ts/contract/step.js';
import { igdServices } from '../../ts/core/mapping/igd.js';
import type {
  GatewayAnswer,
  GatewayRequest,
  MapperEffect,
  MappingProtocol,
} from '../../ts/core/mapping/mapping-client.js';
import { MAPPING_PROTOCOLS } from '../../ts/core/mapping/mapping-client.js';
import { decodeNatPmpResponse, encodeNatPmpMapRequest } from '../../ts/core/mapping/nat-pmp.js';
import { decodePcpResponse, encodePcpMapRequest } from '../../ts/core/mapping/pcp.js';
import { PortMapper } from '../../ts/core/mapping/port-mapper.js';
import { ServerEpoch } from '../../ts/core/mapping/server-epoch.js';
import { decodeSearchAnswer } from '../../ts/core/mapping/ssdp.js';
import { mappedKindFor, mappedReach, toldMapping } from '../../ts/core/path/mapped-address.js';
import { CandidateKind } from '../../ts/core/protocol/contact-candidate.js';
import { fromHex, toHex, utf8, viewOf } from '../../ts/wire/bytes.js';
import { isPrivate } from '../../ts/wire/reach.js';
import { formatSocketAddress, parseIp, parseSocketAddress } from '../../ts/wire/socket-address.js';
import type { SocketAddress } from '../../ts/wire/socket-address.js';

const ip = (text: string): Uint8Array => parseIp(text) ?? assert.fail(text);
const at = (text: string): SocketAddress => parseSocketAddress(text) ?? assert.fail(text);

const GATEWAY = '192.168.1.1';
const UPLINK = { gateway: ip(GATEWAY), local: ip('192.168.1.2'), port: 51_900 };
const EXTERNAL = '203.0.113.7';

/** A gateway of the test's own: it answers by the RFCs' layouts, written down here a second time. */
class Gateway {
  /** By protocol: whether it answers. */
  pcp = true;
  natPmp = true;
  upnp = true;
  external = EXTERNAL;
  /** Undefined: the one that is suggested. */
  externalPort: number | undefined;
  /** Addresses of the last request of PCP, in hex. */
  lastPcp: { readonly client: string; readonly suggested: string } | undefined;
  lifetime = 600;
  /** When its table was empty, ms. */
  bornAt = 0;
  takenPorts: number[] = [];
  onlyPermanent = false;
  /** `protocol external port`, those that stand. */
  mappings: string[] = [];
  readonly asked: string[] = [];

  /** @returns the answer to a datagram; undefined = silence. */
  answer(bytes: Uint8Array, now: number): Uint8Array | undefined {
    const epoch = Math.floor((now - this.bornAt) / 1000);
    const view = viewOf(bytes);
    if (bytes[0] === 2) {
      this.asked.push('pcp');
      if (!this.pcp && !this.natPmp) return undefined;
      if (!this.pcp) return fromHex(`0081000100000001`);
      const answer = new Uint8Array(60);
      answer.set(bytes);
      const out = viewOf(answer);
      answer[1] = 0x81;
      answer.fill(0, 8, 24);
      const lifetime = Math.min(view.getUint32(4), this.lifetime);
      out.setUint32(4, lifetime);
      out.setUint32(8, epoch);
      this.#keep('pcp', view.getUint16(42), lifetime);
      answer.set(ip(this.external), 44);
      if (this.externalPort !== undefined) out.setUint16(42, this.externalPort);
      this.lastPcp = { client: toHex(bytes.slice(8, 24)), suggested: toHex(bytes.slice(44, 60)) };
      return answer;
    }
    this.asked.push('nat-pmp');
    if (!this.natPmp) return undefined;
    const answer = new Uint8Array(bytes[1] === 0 ? 12 : 16);
    const out = viewOf(answer);
    answer[1] = 0x80 | (bytes[1] ?? 0);
    out.setUint32(4, epoch);
    if (bytes[1] === 0) answer.set(ip(this.external).subarray(12), 8);
    else {
      const lifetime = Math.min(view.getUint32(8), this.lifetime);
      out.setUint16(8, view.getUint16(4));
      out.setUint16(10, view.getUint16(6));
      out.setUint32(12, lifetime);
      this.#keep('nat-pmp', view.getUint16(6), lifetime);
    }
    return answer;
  }

  #keep(protocol: string, port: number, lifetime: number): void {
    this.mappings = lifetime === 0 ? [] : [`${protocol} ${port}`];
  }

  page({ page, action }: GatewayRequest): GatewayAnswer | undefined {
    this.asked.push(`upnp ${page.port}${page.path} ${action?.name.split('#')[1] ?? ''}`.trim());
    if (!this.upnp) return undefined;
    if (action === undefined) return { status: 200, body: DESCRIPTION };
    if (action.name.includes('#GetExternalIPAddress'))
      return {
        status: 200,
        body: `<a><NewExternalIPAddress>${this.external}</NewExternalIPAddress></a>`,
      };
    const [, port = ''] = /<NewExternalPort>(\d+)</.exec(action.body) ?? [];
    if (action.name.includes('#DeletePortMapping')) {
      this.mappings = this.mappings.filter((each) => each !== `upnp ${port}`);
      return { status: 200, body: '' };
    }
    if (this.takenPorts.includes(Number(port))) return fault(718);
    if (this.onlyPermanent && !action.body.includes('<NewLeaseDuration>0<')) return fault(725);
    this.mappings = [`upnp ${port}`];
    return { status: 200, body: '' };
  }
}

const fault = (code: number): GatewayAnswer => ({
  status: 500,
  body: `<s:Fault><detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail></s:Fault>`,
});

const DESCRIPTION = `<?xml version="1.0"?><root><device>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/l3</controlURL></service></serviceList>
<deviceList><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ctl?a=1&amp;b=2</controlURL></service>
</serviceList></device></deviceList></device></root>`;

const searchAnswer = (location: string): Uint8Array =>
  utf8(`HTTP/1.1 200 OK\r\nST: urn:x\r\nLocation: ${location}\r\n\r\n`);

/** A mapper and its gateway in virtual time. */
class Bench {
  now = 1000;
  readonly gateway = new Gateway();
  readonly mapper: PortMapper;
  #seed = 1;

  constructor(protocols: readonly MappingProtocol[] = MAPPING_PROTOCOLS) {
    this.mapper = new PortMapper(protocols);
  }

  get step(): Step {
    return {
      now: this.now,
      wallClock: 0,
      random: (length) =>
        Uint8Array.from({ length }, () => (this.#seed = (this.#seed * 171) % 30_269) & 0xff),
    };
  }

  begin(): this {
    this.apply(this.mapper.setUplink(UPLINK, this.step));
    return this;
  }

  apply(effects: readonly MapperEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'send': {
          const answer = this.gateway.answer(effect.bytes, this.now);
          if (answer !== undefined) this.hear(answer);
          break;
        }
        case 'search':
          this.gateway.asked.push('search');
          if (this.gateway.upnp)
            this.apply(
              this.mapper.handleSearchAnswer(
                at(`${GATEWAY}:1900`),
                searchAnswer(`http://${GATEWAY}:5000/d.xml`),
                this.step,
              ),
            );
          break;
        case 'fetch':
          this.apply(this.mapper.handleFetched(effect.fetch, this.gateway.page(effect.request), this.step));
          break;
      }
    }
  }

  /** Where the gateway answers from. */
  from = `${GATEWAY}:5351`;

  hear(bytes: Uint8Array, from = this.from): void {
    this.apply(this.mapper.handleDatagram(at(from), bytes, this.step));
  }

  run(ms: number): void {
    const until = this.now + ms;
    for (;;) {
      const deadline = this.mapper.deadline();
      if (deadline === undefined || deadline > until) break;
      this.now = Math.max(this.now, deadline);
      this.apply(this.mapper.handleTimeout(this.step));
    }
    this.now = until;
  }

  get mapped(): string | undefined {
    return this.mapper.mapped && formatSocketAddress(this.mapper.mapped);
  }
}

describe('a port mapping', () => {
  test('is asked for by PCP first, and by the next protocol where that is not spoken', () => {
    const pcp = new Bench().begin();
    assert.deepEqual([pcp.mapped, pcp.mapper.status(pcp.now).protocol], [`${EXTERNAL}:51900`, 'pcp']);

    const natPmp = new Bench();
    natPmp.gateway.pcp = false;
    natPmp.begin();
    assert.equal(natPmp.mapper.status(natPmp.now).protocol, 'nat-pmp');
    assert.deepEqual(natPmp.mapper.status(natPmp.now).attempts, [
      { protocol: 'pcp', failure: 'unsupported-version' },
    ]);

    const upnp = new Bench();
    upnp.gateway.pcp = upnp.gateway.natPmp = false;
    upnp.begin().run(9000);
    assert.deepEqual([upnp.mapped, upnp.mapper.status(upnp.now).protocol], [`${EXTERNAL}:51900`, 'upnp']);
    assert.ok(upnp.gateway.asked.includes('upnp 5000/ctl?a=1&b=2 AddPortMapping"'));
  });

  test('is asked for in few datagrams where nobody answers, and again after minutes', () => {
    const bench = new Bench();
    bench.gateway.pcp = bench.gateway.natPmp = bench.gateway.upnp = false;
    bench.begin().run(60_000);
    const { length } = bench.gateway.asked;
    assert.equal(length, 4 + 4 + 2);
    assert.equal(bench.mapper.status(bench.now).state, 'none');
    bench.run(230_000);
    assert.equal(bench.gateway.asked.length, length);
    bench.run(20_000);
    assert.ok(bench.gateway.asked.length > length);
  });

  for (const protocol of MAPPING_PROTOCOLS)
    test(`by ${protocol} is renewed at half of its time, and is given up at the end`, () => {
      const bench = new Bench([protocol]);
      bench.begin();
      const first = bench.gateway.asked.length;
      const half = (protocol === 'upnp' ? 3600 : 600) * 500;
      bench.run(half - 1000);
      assert.equal(bench.gateway.asked.length, first);
      bench.run(1100);
      assert.ok(bench.gateway.asked.length > first);
      assert.ok((bench.mapper.status(bench.now).expiresInSeconds ?? 0) > half / 1000 + 1);
      bench.run(half * 10);
      assert.deepEqual(bench.gateway.mappings, [`${protocol} 51900`]);
      bench.apply(bench.mapper.release(bench.step));
      assert.deepEqual(
        [bench.gateway.mappings, bench.mapped, bench.mapper.isReleased],
        [[], undefined, true],
      );
      bench.run(half * 10);
      assert.deepEqual(bench.gateway.mappings, []);
    });

  test('whose renewal fails is tried again in what is left of its time, then is no more', () => {
    const bench = new Bench(['pcp']);
    bench.begin();
    bench.gateway.pcp = bench.gateway.natPmp = false;
    bench.run(590_000);
    assert.equal(bench.mapped, `${EXTERNAL}:51900`);
    const { length } = bench.gateway.asked;
    assert.ok(length > 10 && length < 60, `${length}`);
    bench.run(15_000);
    assert.equal(bench.mapped, undefined);
  });

  test('that the gateway has forgotten is asked for at once when it says so', () => {
    for (const protocol of ['pcp', 'nat-pmp'] as const) {
      const bench = new Bench([protocol]);
      bench.begin().run(100_000);
      bench.gateway.bornAt = bench.now;
      bench.gateway.mappings = [];
      const announcement =
        protocol === 'pcp'
          ? fromHex('0280000000000000000000000000000000000000000000000000')?.slice(0, 24)
          : fromHex('008000000000000000000000');
      assert.ok(announcement !== undefined);
      bench.apply(bench.mapper.handleAnnouncement(at(`${GATEWAY}:5351`), announcement, bench.step));
      assert.deepEqual(bench.gateway.mappings, []);
      bench.run(5001); // hosts do not ask all at once
      assert.deepEqual(bench.gateway.mappings, [`${protocol} 51900`]);
    }
  });

  test('is not asked for over and over because somebody announces over and over', () => {
    const bench = new Bench(['pcp']);
    bench.begin().run(100_000);
    const { length } = bench.gateway.asked;
    for (let n = 0; n < 1000; n++) {
      const announcement = new Uint8Array(24);
      announcement.set([2, 0x80]);
      viewOf(announcement).setUint32(8, n % 2 === 0 ? 0 : 4_000_000);
      bench.apply(bench.mapper.handleAnnouncement(at(`${GATEWAY}:5351`), announcement, bench.step));
      bench.run(10);
    }
    assert.ok(bench.gateway.asked.length - length <= 3, `${bench.gateway.asked.length - length}`);
  });

  test('is one of the new network when the network is another', () => {
    const bench = new Bench(['pcp']);
    bench.begin();
    bench.apply(bench.mapper.setUplink(undefined, bench.step));
    assert.deepEqual([bench.mapped, bench.mapper.status(bench.now).state], [undefined, 'no-gateway']);
    bench.begin();
    assert.equal(bench.mapped, `${EXTERNAL}:51900`);
    const { length } = bench.gateway.asked;
    bench.begin();
    assert.equal(bench.gateway.asked.length, length);
  });

  test('of a port that another machine has is one of another port', () => {
    const bench = new Bench(['upnp']);
    bench.gateway.takenPorts = [51_900];
    bench.begin();
    assert.match(bench.mapped ?? '', /^203\.0\.113\.7:\d+$/);
    assert.notEqual(bench.mapped, `${EXTERNAL}:51900`);
    const permanent = new Bench(['upnp']);
    permanent.gateway.onlyPermanent = true;
    permanent.begin();
    assert.equal(permanent.mapped, `${EXTERNAL}:51900`);
    permanent.apply(permanent.mapper.release(permanent.step));
    assert.deepEqual(permanent.gateway.mappings, []);
  });

  test('at an address nobody could send to is given back', () => {
    for (const bad of ['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '169.254.0.1'])
      for (const protocol of MAPPING_PROTOCOLS) {
        const bench = new Bench([protocol]);
        bench.gateway.external = bad;
        bench.begin();
        assert.deepEqual([bench.mapped, bench.gateway.mappings], [undefined, []], `${bad} ${protocol}`);
        assert.deepEqual(bench.mapper.status(bench.now).attempts, [{ protocol, failure: 'bad-address' }]);
      }
  });
});

describe('a hole in a firewall of IPv6', () => {
  const LOCAL = '2001:db8:1::2';
  const V6 = { gateway: ip('fe80::1'), local: ip(LOCAL), port: 51_900 };
  const bench = (external: string, port?: number): Bench => {
    const made = new Bench(['pcp']);
    made.gateway.external = external;
    if (port !== undefined) made.gateway.externalPort = port;
    made.from = '[fe80::1]:5351';
    made.apply(made.mapper.setUplink(V6, made.step));
    return made;
  };

  test('is asked for at the own address, renewed, and given up', () => {
    const made = bench(LOCAL);
    assert.equal(made.mapped, `[${LOCAL}]:51900`);
    const { client, suggested } = made.gateway.lastPcp ?? assert.fail('not asked');
    assert.deepEqual([client, suggested], [toHex(ip(LOCAL)), toHex(ip(LOCAL))]);
    made.run(1_200_000);
    assert.equal(made.mapped, `[${LOCAL}]:51900`);
    assert.ok(made.gateway.asked.length >= 3);
    made.apply(made.mapper.release(made.step));
    assert.deepEqual(made.gateway.mappings, []);
    assert.ok(made.mapper.isReleased);
  });

  test('at another address or port is none, and is given back', () => {
    for (const made of [bench('2001:db8:9::2'), bench(LOCAL, 1234), bench('203.0.113.7')]) {
      assert.equal(made.mapped, undefined);
      assert.deepEqual(made.gateway.mappings, []);
      assert.deepEqual(made.mapper.status(made.now).attempts, [{ protocol: 'pcp', failure: 'bad-address' }]);
    }
  });
});

describe('what arrives', () => {
  const asked = (): { bench: Bench; answer: Uint8Array } => {
    const bench = new Bench(['pcp']);
    bench.gateway.pcp = bench.gateway.natPmp = false;
    let request: Uint8Array | undefined;
    bench.gateway.answer = (bytes) => {
      request ??= bytes;
      return undefined;
    };
    bench.begin();
    assert.ok(request !== undefined);
    const teller = new Gateway();
    return { bench, answer: teller.answer(request, bench.now) ?? assert.fail() };
  };

  test('from anybody but the gateway, or from another port of it, is nothing', () => {
    for (const from of ['192.168.1.9:5351', '192.168.1.1:5350', '203.0.113.7:5351']) {
      const { bench, answer } = asked();
      bench.hear(answer, from);
      assert.equal(bench.mapped, undefined, from);
    }
    const { bench, answer } = asked();
    bench.hear(answer);
    assert.equal(bench.mapped, `${EXTERNAL}:51900`);
  });

  test('with another nonce, port, protocol, length, version or no response bit is nothing', () => {
    const changes: readonly ((bytes: Uint8Array) => Uint8Array)[] = [
      (bytes) => withByte(bytes, 24, (bytes[24] ?? 0) ^ 1),
      (bytes) => withByte(bytes, 35, (bytes[35] ?? 0) ^ 1),
      (bytes) => withByte(bytes, 40, 0),
      (bytes) => withByte(bytes, 36, 6),
      (bytes) => withByte(bytes, 0, 1),
      (bytes) => withByte(bytes, 1, 1),
      (bytes) => withByte(bytes, 1, 0x82),
      (bytes) => bytes.slice(0, 56),
      (bytes) => bytes.slice(0, 59),
      (bytes) => Uint8Array.from([...bytes, ...new Uint8Array(1044)]),
    ];
    for (const [index, change] of changes.entries()) {
      const { bench, answer } = asked();
      bench.hear(change(answer));
      assert.equal(bench.mapped, undefined, `change ${index}`);
    }
  });

  test('twice is taken once', () => {
    const { bench, answer } = asked();
    bench.hear(answer);
    const changed = withByte(answer, 59, 99);
    bench.hear(changed);
    assert.equal(bench.mapped, `${EXTERNAL}:51900`);
  });

  test('as an answer to a search leads to the gateway alone, in one spelling of its address', () => {
    const gateway = ip(GATEWAY);
    assert.deepEqual(decodeSearchAnswer(searchAnswer(`http://${GATEWAY}:5000/d.xml`), gateway), {
      port: 5000,
      path: '/d.xml',
    });
    for (const location of [
      'http://192.168.1.9:5000/d.xml',
      'http://evil.example/d.xml',
      'http://192.168.1.1@evil.example/d.xml',
      'http://192.168.1.1:80@203.0.113.9/d.xml',
      'http://192.168.1.1.evil.example/',
      'http://3232235777/d.xml',
      'http://0300.0250.1.1/d.xml',
      'http://192.168.001.001/d.xml',
      'http://[::ffff:192.168.1.1]/d.xml',
      'https://192.168.1.1/d.xml',
      'file:///etc/passwd',
      'http://192.168.1.1:0/d.xml',
      'http://192.168.1.1:65536/d.xml',
      'http://192.168.1.1:80/a b',
      'http://192.168.1.1:80/#x',
      'http://192.168.1.1:80?x',
      `http://192.168.1.1/${'a'.repeat(600)}`,
    ])
      assert.equal(decodeSearchAnswer(searchAnswer(location), gateway), undefined, location);
  });

  test('as a description that names another host has no service there', () => {
    const page = { port: 5000, path: '/dir/d.xml' };
    const described = (control: string, base = ''): unknown =>
      igdServices(
        `${base}<service><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>` +
          `<controlURL>${control}</controlURL></service>`,
        page,
        ip(GATEWAY),
      )[0]?.control;
    assert.deepEqual(described('ctl'), { port: 5000, path: '/dir/ctl' });
    assert.deepEqual(described(`http://${GATEWAY}:80/ctl`), { port: 80, path: '/ctl' });
    assert.deepEqual(described('/ctl', `<URLBase>http://${GATEWAY}:99/x</URLBase>`), {
      port: 99,
      path: '/ctl',
    });
    assert.deepEqual(described('/ctl', '<URLBase>http://203.0.113.9/</URLBase>'), {
      port: 5000,
      path: '/ctl',
    });
    for (const control of ['http://203.0.113.9/ctl', '//203.0.113.9/ctl', 'javascript:x', '/a\r\nX: y', ''])
      assert.equal(described(control), undefined, control);
  });
});

describe('a server epoch', () => {
  test('fits when it goes on about as time does (RFC 6887, 8.5; RFC 6886, 3.6)', () => {
    const rows: readonly (readonly ['pcp' | 'nat-pmp', seconds: number, server: number, lost: boolean])[] = [
      ['pcp', 100, 1100, false],
      ['pcp', 100, 1094, false],
      ['pcp', 100, 1090, true],
      ['pcp', 100, 1110, true],
      ['pcp', 0, 999, false],
      ['pcp', 0, 998, true],
      ['nat-pmp', 80, 1068, false],
      ['nat-pmp', 80, 1067, true],
      ['nat-pmp', 80, 9999, false],
    ];
    for (const [rule, seconds, server, lost] of rows) {
      const epoch = new ServerEpoch(rule);
      assert.equal(epoch.heard(1000, 0), false);
      assert.equal(epoch.heard(server, seconds * 1000), lost, `${rule} ${seconds} ${server}`);
    }
  });
});

describe('the messages of port mapping', () => {
  test('are as RFC 6887 and RFC 6886 draw them', () => {
    const request = encodePcpMapRequest({
      client: ip('10.0.0.2'),
      nonce: Uint8Array.from({ length: 12 }, (_, n) => n + 1),
      internalPort: 0xcabc,
      suggestedPort: 0x1234,
      suggestedIp: ip('0.0.0.0'),
      lifetimeSeconds: 7200,
    });
    assert.equal(
      toHex(request),
      '0201000000001c2000000000000000000000ffff0a000002' +
        '0102030405060708090a0b0c11000000cabc123400000000000000000000ffff00000000',
    );
    assert.equal(
      toHex(encodeNatPmpMapRequest({ internalPort: 0xcabc, suggestedPort: 1, lifetimeSeconds: 7200 })),
      '00010000cabc000100001c20',
    );
    const mapped = fromHex('0081000000000010cabc100000000e10') ?? assert.fail();
    assert.deepEqual(decodeNatPmpResponse(mapped), {
      opcode: 'map',
      epochSeconds: 16,
      internalPort: 0xcabc,
      externalPort: 0x1000,
      lifetimeSeconds: 3600,
    });
    const refused = fromHex('0081000200000010') ?? assert.fail();
    assert.deepEqual(decodeNatPmpResponse(refused), {
      opcode: 'failed',
      of: 'map',
      result: 'not-authorized',
      epochSeconds: 16,
    });
    for (const hex of ['', '00', '00810000000000', '0081000000000010cabc1000', '0181000000000010'])
      assert.equal(decodeNatPmpResponse(fromHex(hex) ?? assert.fail()), undefined, hex);
    const announcement = new Uint8Array(24);
    announcement.set([2, 0x80]);
    assert.equal(decodePcpResponse(announcement)?.opcode, 'announce');
  });
});

describe('what a gateway says of its address', () => {
  const mapped = at('203.0.113.7:51900');

  test('is told to members unless relays see another one', () => {
    assert.equal(mappedReach(mapped, []), 'public');
    assert.equal(mappedReach(mapped, [at('203.0.113.7:4000'), at('[2001:db8::1]:9')]), 'public');
    assert.equal(mappedReach(mapped, [at('10.0.0.9:4000')]), 'public');
    assert.equal(mappedReach(mapped, [at('198.51.100.1:4000')]), 'unconfirmed');
    assert.deepEqual(toldMapping(mapped, [at('198.51.100.1:4000')]), []);
    assert.deepEqual(toldMapping(mapped, [at('203.0.113.7:1')]), [mapped]);
  });

  test('is worth less when it is private: a second NAT is behind it', () => {
    for (const text of ['10.0.0.1:9', '172.31.0.1:9', '192.168.9.9:9', '100.64.0.1:9', '192.0.0.2:9'])
      assert.equal(mappedReach(at(text), [at('198.51.100.1:4000')]), 'private', text);
    for (const text of ['172.32.0.1', '100.128.0.1', '11.0.0.1', '192.0.2.1'])
      assert.ok(!isPrivate(ip(text)));
  });

  test('goes to members who cannot read that kind as an announced address', () => {
    assert.equal(mappedKindFor(['paths']), CandidateKind.announced);
    assert.equal(mappedKindFor(['paths', 'mapped-candidates']), CandidateKind.mapped);
  });
});

function withByte(bytes: Uint8Array, index: number, value: number): Uint8Array {
  const copy = bytes.slice();
  copy[index] = value;
  return copy;
}
