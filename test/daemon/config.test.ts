import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { decodePeerId } from '../../ts/core/protocol/peer-id.js';
import { encodeRelayLink } from '../../ts/core/protocol/relay-link.js';
import { loadConfig, machineName, parseConfig } from '../../ts/daemon/config/config.js';
import { nodeConsent } from '../../ts/daemon/config/consent-configuration.js';
import { pathPolicy, ranksOfInterface } from '../../ts/daemon/config/paths-configuration.js';
import { relayPolicy } from '../../ts/daemon/config/relay-configuration.js';
import { ceilingsOf, shapingPolicy, stockShaping } from '../../ts/daemon/config/shaping-configuration.js';
import { toHex } from '../../ts/wire/bytes.js';
import { parsePrefix } from '../../ts/wire/prefix.js';
import { packageRoot } from '../../ts/host/version.js';
import { OperatorError } from '../../ts/host/operator-error.js';
import { temporaryDirectory } from './temporary.js';

function errorOf(toml: string): OperatorError {
  try {
    parseConfig(toml, '/etc/omerta.toml');
  } catch (error) {
    if (error instanceof OperatorError) return error;
    throw error;
  }
  assert.fail(`accepted: ${toml}`);
}

const LINK = encodeRelayLink({
  identity: new Uint8Array(32).fill(1),
  sessionKey: new Uint8Array(32).fill(2),
  addresses: [{ ip: new Uint8Array(16).fill(3), port: 51900 }],
});
const WIREGUARD_KEY = Buffer.alloc(32, 7).toString('base64');
const ID = 'omerta1th6lgnkdzldyue0yjuyfqmez0ml0x9t3v0gt57a00s3599jqrcustcsaks';

describe('configuration', () => {
  test('the quotas in the operator\u2019s guide are valid', () => {
    const guide = readFileSync(join(packageRoot(), 'docs/operators-guide.md'), 'utf8');
    const quotas = guide.slice(guide.indexOf('## Quotas'));
    const [, example = ''] = /```toml\n([^]*?)```/.exec(quotas) ?? [];
    const { classes } = parseConfig(example.replace('"omerta1…"', `"${ID}"`), 'x').relay;
    assert.deepEqual(Object.keys(classes), ['default', 'gold']);
  });

  test('an empty file gives the documented defaults', () => {
    const config = parseConfig('', 'x');
    assert.equal(config.node.port, 51900);
    assert.equal(config.node.mtu, 1400);
    assert.equal(config.node.engine, 'auto');
    assert.equal(config.node.io, 'auto');
    assert.equal(config.relay.serve, 'own');
    assert.equal(config.paths.use, 'any');
    assert.equal(config.status.listen, undefined);
    assert.equal(config.log.level, 'info');
    assert.match(config.node.name, /^[a-z0-9-]{1,63}$/);
  });

  test('what is said of a member’s paths replaces what is said of all, key by key', () => {
    const policy = pathPolicy(
      parseConfig(
        `[paths]
use = "relay-only"
forbid = [{ interface = "wwan0", remote = "203.0.113.0/24" }]
[paths.interfaces.wwan0]
metered = true
[paths.interfaces.wlan0]
priority = 5
[[paths.peer]]
id = "${ID}"
use = "any"
pin = [{ relay = "${ID}" }, { interface = "eth0" }]`,
        'x',
      ),
    );
    assert.equal(policy.rules.use, 'relay-only');
    const [[identity, rules] = []] = [...policy.members];
    assert.equal(identity, toHex(decodePeerId(ID)));
    assert.equal(rules?.use, 'any');
    assert.deepEqual(rules.pin, [{ relay: identity }, { interface: 'eth0', remote: undefined }]);
    assert.equal(rules.forbid, policy.rules.forbid);
    assert.deepEqual(policy.rules.forbid, [{ interface: 'wwan0', remote: parsePrefix('203.0.113.0/24') }]);
  });

  test('data is split by the weights of interfaces where that is asked for, and otherwise not', () => {
    const split = (toml: string): (readonly [string, number])[][] => {
      const { rules, members } = pathPolicy(parseConfig(toml, 'x'));
      return [rules, ...members.values()].map((each) => [...(each.split ?? [])]);
    };
    const weighted = '[paths.interfaces.wlan0]\nweight = 3';
    assert.deepEqual(split(weighted), [[]]);
    assert.deepEqual(split(`[paths]\nsplit = true\n${weighted}`), [[['wlan0', 3]]]);
    assert.deepEqual(split(`${weighted}\n[[paths.peer]]\nid = "${ID}"\nsplit = true`), [[], [['wlan0', 3]]]);
  });

  test('metered interfaces come after all others, and lower priorities first', () => {
    const config = parseConfig(
      '[paths.interfaces.wwan0]\nmetered = true\n[paths.interfaces.wlan0]\npriority = 5',
      'x',
    );
    const ranks = ['eth0', 'wlan0', 'wwan0'].map((name) => ranksOfInterface(config, name).rank);
    assert.deepEqual(
      ranks,
      ranks.toSorted((a, b) => a - b),
    );
    assert.equal(new Set(ranks).size, 3);
  });

  test('the control plane has an order of its own where one is given', () => {
    const config = parseConfig(
      '[paths.interfaces.wwan0]\nmetered = true\ncontrol_priority = 0\n[paths.interfaces.wlan0]\npriority = 5',
      'x',
    );
    assert.equal(ranksOfInterface(config, 'wwan0').controlRank, 0);
    for (const name of ['wlan0', 'eth0']) assert.equal(ranksOfInterface(config, name).controlRank, undefined);
    assert.throws(
      () => parseConfig('[paths.interfaces.wwan0]\ncontrol_priority = 1000', 'x'),
      /control_priority.*0 to 999/s,
    );
  });

  test('of shaping, what is said of a peer replaces what is said of all, a budget too', () => {
    const config = parseConfig(
      `[shaping]
padding = "constant-rate"
packets_per_second = 20
padding_budget = 50
[shaping.interfaces.eth0]
bytes_per_second = 1_250_000
[shaping.networks.home]
weight = 3
[[shaping.peer]]
id = "${ID}"
padding_budget = "none"
packets_per_second = 100
weight = 4
[wireguard]
peers = [{ public_key = "${WIREGUARD_KEY}", allowed_ips = ["100.64.9.1/32"] }]`,
      'x',
    );
    const policy = shapingPolicy(config);
    assert.deepEqual(policy.rules, {
      padding: 'constant-rate',
      paddingBudget: 50,
      packetsPerSecond: 20,
      weight: 1,
    });
    assert.deepEqual(
      [...policy.members.values()],
      [{ padding: 'constant-rate', paddingBudget: undefined, packetsPerSecond: 100, weight: 4 }],
    );
    assert.deepEqual([...policy.networks], [['home', 3]]);
    assert.ok(policy.limited);
    assert.deepEqual(ceilingsOf(config), [{ interface: 'eth0', bytesPerSecond: 1_250_000 }]);
    const [stock] = stockShaping(config);
    assert.equal(stock?.queue?.slotMs, undefined, 'a WireGuard peer gets no covers');
    assert.equal(stock?.paddedSizes.length, 1);
  });

  for (const [toml, field, expected] of [
    ['[paths]\nuse = "direct"', 'config paths.use', /"direct-only"/],
    ['[paths]\npin = ["eth0"]', 'config paths.pin.0', /interface = "eth0"/],
    ['[paths]\npin = [{}]', 'config paths.pin.0', /relay = /],
    [`[paths]\npin = [{ relay = "${ID}", interface = "eth0" }]`, 'config paths.pin.0', /relay = /],
    ['[paths]\nforbid = [{ remote = "203.0.113.1" }]', 'config paths.forbid.0.remote', /prefix length/],
    [
      '[paths]\nforbid = [{ device = "eth0" }]',
      'config paths.forbid.0.device',
      /known: interface, remote, relay/,
    ],
    ['[paths.interfaces.eth0]\npriority = 1000', 'config paths.interfaces.eth0.priority', /from 0 to 999/],
    [
      '[paths.interfaces.eth0]\ncost = 1',
      'config paths.interfaces.eth0.cost',
      /known: metered, priority, control_priority, weight/,
    ],
    ['[shaping]\npadding = "random"', 'config shaping.padding', /"constant"/],
    ['[shaping]\npadding_budget = 0', 'config shaping.padding_budget', /from 1 to 100000, or "none"/],
    ['[shaping]\npadding = "constant-rate"', 'config shaping.packets_per_second', /needs one/],
    ['[shaping]\npackets_per_second = 1001', 'config shaping.packets_per_second', /from 1 to 1000/],
    [
      `[shaping]\npackets_per_second = 5\n[[shaping.peer]]\npublic_key = "${WIREGUARD_KEY}"\npadding = "constant-rate"\n` +
        `[wireguard]\npeers = [{ public_key = "${WIREGUARD_KEY}", allowed_ips = [] }]`,
      'config shaping.peer.0.padding',
      /knows no covers/,
    ],
    [`[[shaping.peer]]\nid = "${ID}"\nweight = 2`, 'config shaping.peer.0.weight', /ceiling/],
    ['[shaping.networks.home]\nweight = 2', 'config shaping.networks.home.weight', /ceiling/],
    ['[shaping.networks.home]\nweight = 0', 'config shaping.networks.home.weight', /from 1 to 1000/],
    [
      '[shaping.networks.home]\nweight = 2\nceiling = 1',
      'config shaping.networks.home.ceiling',
      /known: weight/,
    ],
    [
      '[shaping.interfaces.eth0]\nbytes_per_second = 10',
      'config shaping.interfaces.eth0.bytes_per_second',
      /from 1000 to/,
    ],
    [
      '[shaping.interfaces.eth0]\nbytes_per_second = 1000\nrate = 1',
      'config shaping.interfaces.eth0.rate',
      /known: bytes_per_second/,
    ],
    ['[[shaping.peer]]\npadding = "off"', 'config shaping.peer.0', /id = .* or public_key = /],
    [
      `[[shaping.peer]]\nid = "${ID}"\npad = 1`,
      'config shaping.peer.0.pad',
      /known: id, public_key, padding/,
    ],
    [`[[shaping.peer]]\nid = "${ID}"\n[[shaping.peer]]\nid = "${ID}"`, 'config shaping.peer.1.id', /already/],
    [
      `[[shaping.peer]]\npublic_key = "${WIREGUARD_KEY}"`,
      'config shaping.peer.0.public_key',
      /is in no \[\[wireguard.peers\]\]/,
    ],
    ['[[paths.peer]]\nid = "laptop"', 'config paths.peer.0.id', /peer id/],
    [`[[paths.peer]]\nid = "${ID}"\nname = "x"`, 'config paths.peer.0.name', /known: id, use/],
    [`[[paths.peer]]\nid = "${ID}"\n[[paths.peer]]\nid = "${ID}"`, 'config paths.peer.1.id', /already/],
  ] as const)
    test(`of paths and shaping, a mistake is named: ${field}`, () => {
      const error = errorOf(toml);
      assert.equal(error.field, field);
      assert.match(error.expected, expected);
    });

  test('how a gateway is asked for a port is one of five words', () => {
    assert.equal(parseConfig('', 'x').paths.port_mapping, 'auto');
    assert.equal(parseConfig('[paths]\nport_mapping = "off"', 'x').paths.port_mapping, 'off');
    const { field, expected } = errorOf('[paths]\nport_mapping = "igd"');
    assert.equal(field, 'config paths.port_mapping');
    assert.match(expected, /"nat-pmp"/);
  });

  test('ways that are neither "any" nor "relay-only" are refused by name', () => {
    assert.equal(parseConfig('[paths]\nuse = "relay-only"', 'x').paths.use, 'relay-only');
    const { field, expected } = errorOf('[paths]\nuse = "direct"');
    assert.match(field, /paths\.use/);
    assert.match(expected, /"relay-only"/);
  });

  test('every documented key is taken', () => {
    const config = parseConfig(
      `[node]
       name = "gw"
       port = 443
       bind = "::"
       announce = ["203.0.113.7:443", "[2001:db8::7]:443"]
       interface = "mesh0"
       mtu = 1280
       engine = "wasm"
       workers = 2
       disable = ["udp-gso"]
       [relay]
       serve = ["00112233445566778899aabbccddeeff"]
       allow = ["${ID}"]
       deny = ["${ID}"]
       peers = ["${LINK}"]
       admissions = 1
       admissions_per_identity = 1
       admissions_per_prefix = 1
       registrations = 1
       circuits = 1
       circuits_per_identity = 1
       circuits_per_prefix = 1
       circuits_per_relay = 1
       half_open = 1
       lease_seconds = 60
       circuit_seconds = 60
       admissions_per_network = 1
       circuits_per_network = 1
       half_open_per_identity = 1
       host_limit = { bytes_per_second = 125_000_000, burst_ms = 20 }
       prefix_limit = { packets_per_second = 20_000, ipv4_bits = 24, ipv6_bits = 48 }
       accel = "xdp"
       accel_interfaces = ["eth0", "eth1"]
       accel_mode = "generic"
       detach = true
       wireguard_bindings = 8
       wireguard_servers = [{ public_key = "${WIREGUARD_KEY}", endpoint = "203.0.113.9:51820" }]
       wireguard_sessions = 100
       [relay.classes.default]
       circuit_limit = { bytes_per_second = 125_000 }
       [relay.classes.gold]
       identities = ["${ID}"]
       networks = ["00112233445566778899aabbccddeeff"]
       circuit_limit = { bytes_per_second = 1_250_000, packets_per_second = 2000, burst_ms = 50 }
       circuit_bytes = 10_000_000_000
       circuit_seconds = 86_400
       circuits = 8
       identity_limit = { packets_per_second = 4000 }
       network_limit = { bytes_per_second = 12_500_000 }
       [wireguard]
       relay = true
       peers = [{ public_key = "${WIREGUARD_KEY}", allowed_ips = ["100.64.9.1/32", "fd00::9/128"] }]
       [consent]
       networks = ["home"]
       identities = ["${ID}"]
       until = 2026-12-31T12:00:00Z
       [status]
       listen = "off"
       [log]
       level = "debug"`,
      'x',
    );
    assert.deepEqual(config.node.announce, ['203.0.113.7:443', '[2001:db8::7]:443']);
    const consent = nodeConsent(config);
    assert.deepEqual(consent?.networks, ['home']);
    assert.equal(consent.identities.length, 1);
    assert.equal(consent.until, Date.UTC(2026, 11, 31, 12) / 1000);
    const policy = relayPolicy(config, [], false);
    assert.deepEqual(policy.host, { bytesPerSecond: 125_000_000, packetsPerSecond: undefined, burstMs: 20 });
    assert.equal(policy.prefix?.ipv6Bits, 48);
    assert.deepEqual(
      policy.classes?.map(({ name }) => name),
      ['default', 'gold'],
    );
    const gold = policy.classes[1];
    assert.ok(gold);
    assert.deepEqual(gold.circuit, {
      rate: { bytesPerSecond: 1_250_000, packetsPerSecond: 2000, burstMs: 50 },
      byteCap: 10_000_000_000,
    });
    assert.equal(gold.circuits, 8);
    assert.equal(gold.seconds, 86_400);
    assert.equal(gold.identities.length, 1);
    assert.equal(gold.networks[0]?.[1], 0x11);
  });

  const wrong: readonly [toml: string, field: string, expected: RegExp][] = [
    ['[node]\nprot = 1', 'config node.prot', /known: name, port, bind, announce, interface, mtu, engine/],
    [
      '[nodes]',
      'config nodes',
      /not a known section; known: node, paths, shaping, relay, wireguard, consent, exit, routes, socks, forward, status, log/,
    ],
    ['[relay]\ncircuit = 5', 'config relay.circuit', /known: serve, allow, deny, admissions/],
    ['node = 3', 'config node', /write \[node\]/],
    ['[node]\nport = 0', 'config node.port', /1 to 65535/],
    ['[node]\nport = 65536', 'config node.port', /1 to 65535/],
    ['[node]\nport = 1.5', 'config node.port', /whole number/],
    ['[node]\nport = "51900"', 'config node.port', /whole number/],
    ['[node]\nname = "Living Room"', 'config node.name', /a-z, 0-9/],
    ['[node]\nname = ""', 'config node.name', /1 to 63/],
    ['[node]\nbind = "localhost"', 'config node.bind', /IP address/],
    ['[node]\nannounce = "203.0.113.7:1"', 'config node.announce', /a list/],
    ['[node]\nannounce = ["203.0.113.7"]', 'config node.announce.0', /address and port/],
    ['[node]\nannounce = ["203.0.113.07:1"]', 'config node.announce.0', /address and port/],
    ['[node]\ninterface = "a/b"', 'config node.interface', /interface name/],
    ['[node]\nmtu = 100', 'config node.mtu', /576 to 65535/],
    ['[node]\nio = "fast"', 'config node.io', /"auto", "mmsg" or "io_uring"/],
    ['[node]\nengine = "fast"', 'config node.engine', /"auto", "native" or "wasm"/],
    ['[node]\nworkers = 0', 'config node.workers', /1 to 64/],
    ['[relay]\nserve = "all"', 'config relay.serve', /"own", "any"/],
    ['[relay]\nserve = ["00"]', 'config relay.serve.0', /32 hex digits/],
    ['[relay]\ndeny = ["omerta1x"]', 'config relay.deny.0', /peer ids/],
    ['[relay]\npeers = "omerta://relay/x"', 'config relay.peers', /a list of relay links/],
    [`[relay]\npeers = ["${LINK.slice(0, -1)}"]`, 'config relay.peers.0', /omerta relay link/],
    ['[relay]\nwireguard_bindings = 65', 'config relay.wireguard_bindings', /0 to 64/],
    [
      `[relay]\nwireguard_bindings = 64\nwireguard_servers = [{ public_key = "${WIREGUARD_KEY}", endpoint = "203.0.113.9:1" }]`,
      'config relay.wireguard_bindings',
      /at most 64/,
    ],
    [
      '[relay]\nwireguard_servers = [{ public_key = "x", endpoint = "203.0.113.9:1" }]',
      'config relay.wireguard_servers.0.public_key',
      /wg pubkey/,
    ],
    [
      `[wireguard]\npeers = [{ public_key = "${WIREGUARD_KEY}", allowed_ips = ["100.64.9.1"] }]`,
      'config wireguard.peers.0.allowed_ips.0',
      /prefix length/,
    ],
    ['[wireguard]\nrelay = 1', 'config wireguard.relay', /true or false/],
    ['[relay]\ncircuits = -1', 'config relay.circuits', /1 to/],
    ['[relay]\ncircuit_seconds = 1', 'config relay.circuit_seconds', /60 to/],
    ['[relay]\nhost_limit = 5', 'config relay.host_limit', /a rate such as/],
    ['[relay]\nhost_limit = { burst_ms = 5 }', 'config relay.host_limit', /packets_per_second or both/],
    ['[relay]\nhost_limit = { bytes = 5 }', 'config relay.host_limit.bytes', /known: bytes_per_second/],
    [
      '[relay]\nhost_limit = { bytes_per_second = 5 }',
      'config relay.host_limit.bytes_per_second',
      /from 15259 to/,
    ],
    [
      '[relay]\nprefix_limit = { packets_per_second = 5, bits = 1 }',
      'config relay.prefix_limit.bits',
      /ipv4_bits, ipv6_bits/,
    ],
    ['[relay.classes.Gold]', 'config relay.classes.Gold', /a name of 1 to 63/],
    ['[relay]\nclasses = 1', 'config relay.classes', /\[relay\.classes\.NAME\]/],
    ['[relay]\nclasses.gold = 1', 'config relay.classes.gold', /\[relay\.classes\.NAME\]/],
    ['[relay.classes.gold]\nrate = 1', 'config relay.classes.gold.rate', /known: identities, networks/],
    [
      '[relay.classes.gold]\ncircuit_limit = { packets_per_second = 0 }',
      'config relay.classes.gold.circuit_limit.packets_per_second',
      /from 1 to/,
    ],
    ['[relay.classes.gold]\ncircuit_bytes = 1', 'config relay.classes.gold.circuit_bytes', /65536 to/],
    ['[relay.classes.gold]\nnetworks = ["x"]', 'config relay.classes.gold.networks.0', /32 hex digits/],
    [
      `[relay.classes.default]\nidentities = ["${ID}"]`,
      'config relay.classes.default.identities',
      /lists nobody/,
    ],
    [
      `[relay.classes.a]\nidentities = ["${ID}"]\n[relay.classes.b]\nidentities = ["${ID}"]`,
      'config relay.classes.b.identities',
      /in two classes, "a" and "b"/,
    ],
    ['[relay]\naccel = "fast"', 'config relay.accel', /"auto", "xdp", "native" or "wasm"/],
    ['[relay]\naccel_mode = "skb"', 'config relay.accel_mode', /"native" or "generic"/],
    ['[relay]\naccel_interfaces = []', 'config relay.accel_interfaces', /at least one interface/],
    ['[relay]\naccel_interfaces = ["a/b"]', 'config relay.accel_interfaces.0', /interface name/],
    ['[relay]\ndetach = "yes"', 'config relay.detach', /true or false/],
    ['[consent]\nnetworks = "home"', 'config consent.networks', /"own" .*, or a list of names/],
    ['[consent]\nnetworks = ["Living Room"]', 'config consent.networks.0', /a list of names/],
    [
      `[consent]\nnetworks = [${Array.from({ length: 9 }, (_, index) => `"n${index}"`).join()}]`,
      'config consent.networks',
      /at most 8 networks/,
    ],
    ['[consent]\nidentities = ["omerta1x"]', 'config consent.identities.0', /peer ids/],
    [
      `[consent]\nidentities = [${Array.from({ length: 17 }, () => `"${ID}"`).join()}]`,
      'config consent.identities',
      /at most 16 peer ids; "networks" accepts all/,
    ],
    ['[consent]\nuntil = "tomorrow"', 'config consent.until', /such as "2026-12-31T12:00:00Z"/],
    ['[consent]\nuntil = "2026-13-31"', 'config consent.until', /or a day/],
    ['[consent]\nuntil = 2026-12-31T12:00:00', 'config consent.until', /in UTC/],
    ['[consent]\nmembers = true', 'config consent.members', /known: networks, identities, until/],
    ['[status]\nlisten = "9090"', 'config status.listen', /or "off"/],
    ['[exit]\nallow = ["laptop"]', 'config exit.allow.0', /a list of peer ids/],
    ['[exit]\nlan = ["192.168.7.0"]\nserve = true', 'config exit.lan.0', /such as \["192/],
    [`[exit]\nallow = ["${ID}"]`, 'config exit.serve', /whether this machine serves an exit/],
    ['[exit]\nserve = true\nipv4 = false\nipv6 = false', 'config exit.ipv6', /one of ipv4 and ipv6/],
    ['[exit]\nresolver = "9.9.9.9"', 'config exit.resolver', /known: serve, allow, networks, lan/],
    ['[socks]\nlisten = "1080"', 'config socks.listen', /an address and port such as/],
    ['[socks]\nlisten = "0.0.0.0:1080"', 'config socks.listen', /a loopback address .* or password_file/],
    ['[socks]\npassword_file = "socks"', 'config socks.password_file', /an absolute path/],
    ['[socks]\nexit = "x"', 'config socks.exit', /known: listen, password_file/],
    ['[forward]\nlocal = "1:a:1"', 'config forward', /write \[\[forward\]\]/],
    ['[[forward]]', 'config forward.0', /local = .* or remote = .*, one of them/],
    ['[[forward]]\nlocal = "1:a:1"\nremote = "1:a:1"', 'config forward.0', /one of them/],
    ['[[forward]]\nlocal = "8081:server"', 'config forward.0.local', /\[ADDRESS:\]PORT:HOST:PORT/],
    ['[[forward]]\nlocal = "0.0.0.0:8081:server:80"', 'config forward.0.local', /an ADDRESS of this machine/],
    ['[[forward]]\nremote = "x:8081:server:80"', 'config forward.0.remote', /PORT:HOST:PORT/],
    ['[[forward]]\nudp = 1\nlocal = "1:a:1"', 'config forward.0.udp', /true or false/],
    ['[[forward]]\nport = 1', 'config forward.0.port', /known: local, remote, udp/],
    ['[exit.use]\nparanoid = true', 'config exit.use.exits', /a list of peer ids/],
    ['[exit.use]\nexits = []', 'config exit.use.exits', /at least one peer id/],
    [`[exit.use]\nexits = ["${ID}"]\nhops = 9`, 'config exit.use.hops', /from 1 to 3/],
    [
      `[exit.use]\nexits = ["${ID}"]\nparanoid = true\nexclude = ["10.0.0.0/8"]`,
      'config exit.use.paranoid',
      /it leaves nothing out/,
    ],
    [
      `[exit.use]\nexits = ["${ID}"]\nexit = ["${ID}"]`,
      'config exit.use.exit',
      /known: exits, hops, allow_lan/,
    ],
    ['[log]\nlevel = "verbose"', 'config log.level', /"debug", "info"/],
    ['[node\nport = 1', 'config', /line 1 column/],
    ['[node]\nport = 1\nport = 2', 'config', /line 3/],
  ];
  for (const [toml, field, expected] of wrong)
    test(`${JSON.stringify(toml)} is refused, naming ${field}`, () => {
      const error = errorOf(toml);
      assert.equal(error.exitCode, 2);
      assert.equal(error.field, field);
      assert.match(error.expected, expected);
      assert.match(error.next, /\/etc\/omerta\.toml/);
      assert.doesNotMatch(error.message, /\n/, 'an error is one line');
    });

  test('nobody is accepted without being asked for unless it is said who', () => {
    assert.equal(nodeConsent(parseConfig('', 'x')), undefined);
    assert.equal(nodeConsent(parseConfig('[consent]\nuntil = 2026-12-31', 'x')), undefined);
    const own = nodeConsent(parseConfig('[consent]\nnetworks = "own"\nuntil = 2026-12-31', 'x'));
    assert.deepEqual(own, { networks: 'own', identities: [], until: Date.UTC(2026, 11, 31) / 1000 });
  });

  test('a file named on the command line has to exist, the default one need not', (t) => {
    const path = `${temporaryDirectory(t)}/none.toml`;
    assert.equal(loadConfig(path, 'optional').config.node.port, 51900);
    assert.throws(
      () => loadConfig(path, 'named'),
      /config: .*none\.toml does not exist\. Name an existing file/,
    );
  });

  test('a host name becomes a machine name', () => {
    assert.equal(machineName('Living_Room.local'), 'living-room');
    assert.equal(machineName('---'), 'node');
    assert.equal(machineName('x'.repeat(80)).length, 63);
  });
});
