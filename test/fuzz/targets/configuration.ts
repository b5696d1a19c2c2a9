// Any text as the configuration file: it gives a configuration that every reader of it takes, or one line that
// names the key and the fix.

import assert from 'node:assert/strict';
import type { Network } from '../../../ts/core/protocol/network.js';
import { encodePeerId } from '../../../ts/core/protocol/peer-id.js';
import { encodeRelayLink } from '../../../ts/core/protocol/relay-link.js';
import { loadConfig, parseConfig, type Config } from '../../../ts/daemon/config/config.js';
import { nodeConsent, requireJoined } from '../../../ts/daemon/config/consent-configuration.js';
import { exitConfiguration, requireExitNetworks } from '../../../ts/daemon/config/exit-configuration.js';
import { pathPolicy, ranksOfInterface } from '../../../ts/daemon/config/paths-configuration.js';
import { forwardSpecs } from '../../../ts/daemon/config/port-forward.js';
import {
  privatePorts,
  requirePrivateNetwork,
} from '../../../ts/daemon/config/private-ports-configuration.js';
import {
  changeWhileRunning,
  relayLimits,
  relayPolicy,
  relaysWireguard,
} from '../../../ts/daemon/config/relay-configuration.js';
import { requireRouteNetworks, routeConfiguration } from '../../../ts/daemon/config/route-configuration.js';
import {
  asksForShaping,
  ceilingsOf,
  shapingPolicy,
  stockShaping,
} from '../../../ts/daemon/config/shaping-configuration.js';
import { OperatorError } from '../../../ts/host/operator-error.js';
import { formatWireguardKey } from '../../../ts/host/wireguard-key.js';
import { utf8 } from '../../../ts/wire/bytes.js';
import { address } from '../../core/fixtures.js';
import { node, relay } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

const ID = encodePeerId(node.identity);
const LINK = encodeRelayLink({
  identity: relay.identity,
  sessionKey: relay.sessionKey,
  addresses: [address('203.0.113.7:51900')],
});
const KEY = formatWireguardKey(node.sessionKey);

const NOWHERE = '/nonexistent/omerta.toml';
const WHOLE = `[node]
name = "gw"
port = 443
bind = "::"
announce = ["203.0.113.7:443", "[2001:db8::7]:443"]
interface = "mesh0"
mtu = 1280
engine = "wasm"
io = "mmsg"
workers = 2
disable = ["udp-gso"]
[relay]
serve = ["00112233445566778899aabbccddeeff"]
allow = ["${ID}"]
peers = ["${LINK}"]
admissions = 1
circuits_per_prefix = 1
lease_seconds = 60
host_limit = { bytes_per_second = 1_250_000, packets_per_second = 2000, burst_ms = 100 }
prefix_limit = { packets_per_second = 2000, ipv4_bits = 24, ipv6_bits = 48 }
accel = "xdp"
accel_interfaces = ["eth0"]
accel_mode = "generic"
detach = true
stun_per_second = 0
wireguard_bindings = 3
wireguard_servers = [{ public_key = "${KEY}", endpoint = "203.0.113.9:51820" }]
wireguard_sessions = 9
[relay.classes.gold]
identities = ["${ID}"]
networks = ["00112233445566778899aabbccddeeff"]
circuit_limit = { bytes_per_second = 1_250_000 }
circuit_bytes = 65536
circuit_seconds = 60
circuits = 2
[exit]
serve = true
allow = ["${ID}"]
networks = ["home"]
lan = ["192.168.7.0/24"]
ipv6 = false
chain = true
dns = false
resolvers = ["9.9.9.9"]
[exit.use]
exits = ["${ID}"]
hops = 2
allow_lan = true
include = ["203.0.113.0/24"]
exclude = ["2001:db8::/32"]
[routes]
advertise = ["192.168.7.0/24", "fd00:7::/64"]
allow = ["${ID}"]
networks = ["home"]
[[routes.accept]]
prefix = "10.1.2.0/24"
from = "${ID}"
[socks]
listen = "192.0.2.1:1080"
password_file = "/etc/omerta/socks"
[[forward]]
local = "[::1]:8081:server:80"
[[forward]]
remote = "9090:127.0.0.1:80"
udp = true
[wireguard]
relay = true
peers = [{ public_key = "${KEY}", allowed_ips = ["100.64.9.1/32"] }]
[paths]
use = "relay-only"
pin = [{ interface = "eth0" }, { remote = "203.0.113.0/24" }]
prefer = [{ relay = "${ID}" }]
forbid = [{ interface = "wwan0", remote = "2001:db8::/32" }]
port_mapping = "nat-pmp"
[paths.interfaces.wwan0]
metered = true
priority = 7
[[paths.peer]]
id = "${ID}"
use = "direct-only"
forbid = [{ remote = "10.0.0.0/8" }]
[shaping]
padding = "constant-rate"
padding_budget = 200
packets_per_second = 50
[shaping.interfaces.eth0]
bytes_per_second = 1_250_000
[shaping.networks.home]
weight = 2
[[shaping.peer]]
id = "${ID}"
padding = "buckets"
weight = 3
[[shaping.peer]]
public_key = "${KEY}"
padding = "constant"
padding_budget = "none"
[consent]
networks = "own"
identities = ["${ID}"]
until = 2026-12-31T12:00:00Z
[status]
listen = "127.0.0.1:9090"
[log]
level = "debug"
`;

/** Begins a configuration that has a WireGuard peer. */
const STOCK = `[wireguard]\npeers = [{ public_key = "${KEY}", allowed_ips = ["100.64.9.1/32"] }]\n`;

const DEFAULTS = parseConfig('', NOWHERE);

/** A network that is joined by this name. */
const named = (name: string): Network => ({
  name,
  id: new Uint8Array(16),
  key: new Uint8Array(32),
  bootstraps: [],
});

/** A key without a value is none. */
const said = (config: Config): unknown => JSON.parse(JSON.stringify(config));

/** What is served and used, each said by the file or not at all, and by networks that were joined alone. */
function useExits(config: Config): void {
  const { serve, use } = exitConfiguration(config);
  assert.equal(serve === undefined, config.exit.serve === undefined);
  assert.equal(use === undefined, config.exit.use === undefined);
  const { advertise, accept } = routeConfiguration(config);
  assert.equal(accept, config.routes.accept);
  assert.equal(advertise?.prefixes, config.routes.advertise);
  for (const [names, require] of [
    [config.exit.networks, requireExitNetworks],
    [config.routes.networks, requireRouteNetworks],
  ] as const) {
    require(config, names.map(named));
    if (names.length > 0) assert.throws(() => require(config, [named('.')]), OperatorError);
  }
}

/** Whatever is asked of an engine, it is told of each peer once; a WireGuard peer is sent no covers. */
function useShaping(config: Config): void {
  const { shaping, wireguard } = config;
  const policy = shapingPolicy(config);
  assert.equal(policy.members.size, shaping.peer.filter(({ id }) => id !== undefined).length);
  assert.equal(ceilingsOf(config).length, Object.keys(shaping.interfaces).length);
  const stock = stockShaping(config);
  assert.equal(stock.length, wireguard.peers.length);
  for (const { queue } of stock) {
    assert.equal(queue?.slotMs, undefined);
    assert.equal(queue !== undefined, policy.limited);
  }
  for (const { padding, packetsPerSecond } of [policy.rules, ...policy.members.values()]) {
    if (padding !== 'off' || policy.limited) assert.ok(asksForShaping(config));
    if (padding === 'constant-rate') assert.ok((packetsPerSecond ?? 0) > 0, 'it has a rate');
  }
}

/** What the daemon makes of a configuration that was taken. */
function use(config: Config): void {
  const { rules, members } = pathPolicy(config);
  assert.equal(members.size, config.paths.peer.length);
  for (const { use, pin, prefer, forbid } of [rules, ...members.values()]) {
    assert.match(use, /^(any|direct-only|relay-only)$/);
    for (const way of [...pin, ...prefer, ...forbid])
      assert.ok(
        'relay' in way ? way.relay.length === 64 : way.interface !== undefined || way.remote !== undefined,
      );
  }
  for (const name of Object.keys(config.paths.interfaces))
    assert.ok(ranksOfInterface(config, name).rank >= 0);
  const ports = privatePorts(config);
  for (const port of ports)
    if (port.kind === 'forward')
      assert.equal(
        forwardSpecs(port.side, port.text).every(({ hostPort }) => hostPort > 0),
        true,
        port.text,
      );
  requirePrivateNetwork(config, undefined, 'x');
  const closed = { reason: 'closed', remedy: 'open it' };
  for (const without of ['relay', 'interface', 'stack', 'guest', closed] as const)
    if (ports.length > 0) assert.throws(() => requirePrivateNetwork(config, without, 'x'), OperatorError);
    else requirePrivateNetwork(config, without, 'x');
  nodeConsent(config);
  const names = config.consent.networks === 'own' ? [] : config.consent.networks;
  requireJoined(config, names.map(named));
  if (names.length > 0) assert.throws(() => requireJoined(config, [named('.')]), OperatorError);
  useExits(config);
  useShaping(config);
  for (const limit of Object.values(relayLimits(config))) assert.ok(limit >= 0);
  const policy = relayPolicy(config, [], relaysWireguard(config));
  assert.equal(policy.classes?.length, Object.keys(config.relay.classes).length);
  // A running relay takes over a part of it, says which, and has nothing more to take over then.
  const once = changeWhileRunning('relay', DEFAULTS, DEFAULTS, config);
  const twice = changeWhileRunning('relay', DEFAULTS, once.config, config);
  assert.deepEqual(twice.change.applied, []);
  assert.deepEqual(said(twice.config), said(once.config));
  assert.deepEqual(twice.change.restart, once.change.restart);
  const back = changeWhileRunning('relay', DEFAULTS, once.config, DEFAULTS);
  assert.deepEqual(said(back.config), said(DEFAULTS));
  assert.deepEqual(back.change.applied.toSorted(), once.change.applied.toSorted());
}

const target: FuzzTarget = {
  seeds() {
    assert.throws(() => loadConfig(NOWHERE, 'named'), OperatorError);
    assert.equal(loadConfig(NOWHERE, 'optional').read, false);
    return [
      WHOLE,
      '',
      ...WHOLE.split(/\n(?=\[)/),
      `[relay]\nserve = "any"\nwireguard_bindings = 64\nwireguard_servers = [{ public_key = "${KEY}", endpoint = "1.2.3.4:5" }]\n`,
      `[relay.classes.a]\nidentities = ["${ID}"]\n[relay.classes.b]\nidentities = ["${ID}"]\n`,
      `[relay.classes.default]\nidentities = ["${ID}"]\n`,
      '[consent]\nuntil = "2026-12-31"\nnetworks = ["home"]\n',
      '[relay.classes.a]\nx = 1\n',
      '[relay.prefix_limit]\nx = 1\n',
      '[relay.host_limit]\nx = 1\n',
      '[node]\nx = 1\n',
      '[paths]\nx = 1\n',
      '[paths.interfaces.eth0]\nx = 1\n',
      '[[paths.peer]]\nx = 1\n',
      `[[paths.peer]]\nid = "${ID}"\n[[paths.peer]]\nid = "${ID}"\n`,
      '[paths]\npin = [{ x = 1 }]\nprefer = [{}]\n',
      `[paths]\nforbid = [{ interface = "eth0", relay = "${ID}" }]\n`,
      '[consent]\nnetworks = ["1","2","3","4","5","6","7","8","9"]\n',
      '[socks]\nx = 1\n',
      '[[forward]]\nx = 1\n',
      '[[forward]]\nlocal = "80:a:b"\n',
      '[[forward]]\nlocal = "0.0.0.0:80:a:80"\n',
      '[[forward]]\nlocal = "80:a:80"\nremote = "80:a:80"\n',
      '[[forward]]\nremote = "[::1]:80:[fd00::1]:80"\n',
      '[socks]\n',
      '[socks]\nlisten = "1080"\n',
      '[socks]\nlisten = "0.0.0.0:1080"\n',
      'forward = 1\n',
      `[[shaping.peer]]\nid = "${ID}"\n[[shaping.peer]]\nid = "${ID}"\n`,
      `[[shaping.peer]]\npublic_key = "${KEY}"\n`,
      `${STOCK}[[shaping.peer]]\npublic_key = "${KEY}"\npadding = "constant-rate"\n`,
      `${STOCK}[[shaping.peer]]\npublic_key = "${KEY}"\nweight = 2\n`,
      '[shaping]\npadding = "constant-rate"\n',
      '[shaping.networks.home]\nweight = 2\n',
      '[shaping]\nx = 1\n',
      '[shaping.interfaces.eth0]\nx = 1\n',
      '[[routes.accept]]\nx = 1\n',
      '[routes]\nnetworks = ["home"]\n',
      '[exit]\nlan = ["10.0.0.0/8"]\n',
      `[exit.use]\nexits = ["${ID}"]\nparanoid = true\ninclude = ["203.0.113.0/24"]\n`,
      'x = 1\n',
      'node = 1\n[relay.host_limit]\nburst_ms = 1\nx = 2\n',
    ].map(utf8);
  },
  dictionary: [
    ...[
      '[node]',
      '[relay]',
      '[relay.classes.a]',
      '[status]',
      '[log]',
      '[consent]',
      '[socks]',
      '[[forward]]',
      '[wireguard]',
      '[paths]',
      '[[paths.peer]]',
      '[paths.interfaces.eth0]',
      '[exit]',
      '[exit.use]',
      '[routes]',
      '[[routes.accept]]',
      '[shaping]',
      '[[shaping.peer]]',
      '[shaping.interfaces.a]',
      '[shaping.networks.a]',
      '[[',
      ']]',
    ],
    ...[
      ' = ',
      '"""',
      "'''",
      '{ ',
      ' }',
      'true',
      '1e400',
      '0x7fffffffffffffff',
      'nan',
      '-inf',
      '\\u0000',
      '\r\n',
    ],
    ...[
      '9007199254740993',
      '1979-05-27T07:32:00Z',
      '07:32:00',
      'off',
      'own',
      'any',
      '__proto__',
      'constructor',
    ],
    ...['name', 'serve', 'classes', 'port', 'listen', 'until', 'peers', 'networks', 'identities'],
  ],
  run(input) {
    try {
      const config = parseConfig(Buffer.from(input).toString('utf8'), '/etc/omerta.toml');
      assert.match(config.node.name, /^[a-z0-9-]{1,63}$/);
      assert.ok(config.node.port >= 1 && config.node.port <= 65535);
      assert.ok(config.relay.wireguard_bindings + config.relay.wireguard_servers.length <= 64);
      use(config);
    } catch (error) {
      if (!(error instanceof OperatorError)) throw error;
      assert.match(error.field, /^config/);
      assert.ok(!/[\n\r]/.test(error.message), JSON.stringify(error.message));
      assert.ok(error.message.includes('/etc/omerta.toml'));
    }
  },
};
export default target;
