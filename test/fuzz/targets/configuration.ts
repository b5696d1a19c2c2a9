// Any text as the configuration file: it gives a configuration that every reader of it takes, or one line that
// names the key and the fix.

import assert from 'node:assert/strict';
import { encodePeerId } from '../../../ts/core/protocol/peer-id.js';
import { encodeRelayLink } from '../../../ts/core/protocol/relay-link.js';
import { loadConfig, parseConfig } from '../../../ts/daemon/config/config.js';
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
[wireguard]
relay = true
peers = [{ public_key = "${KEY}", allowed_ips = ["100.64.9.1/32"] }]
[consent]
networks = "own"
identities = ["${ID}"]
until = 2026-12-31T12:00:00Z
[status]
listen = "127.0.0.1:9090"
[log]
level = "debug"
`;

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
      '[consent]\nnetworks = ["1","2","3","4","5","6","7","8","9"]\n',
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
      '[wireguard]',
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
    } catch (error) {
      if (!(error instanceof OperatorError)) throw error;
      assert.match(error.field, /^config/);
      assert.ok(!/[\n\r]/.test(error.message), JSON.stringify(error.message));
      assert.ok(error.message.includes('/etc/omerta.toml'));
    }
  },
};
export default target;
