// Text on the configuration socket of `omerta wg`: it is cut into the same requests however it arrives, a
// refusal is an errno of the protocol, and what is shown of an accepted change is that change.

import assert from 'node:assert/strict';
import type { PeerState } from '../../../ts/contract/engine.js';
import { prefixTexts } from '../../../ts/wire/prefix-batch.js';
import {
  Errno,
  formatErrno,
  formatState,
  RequestReader,
  UapiError,
  type DeviceChange,
  type UapiRequest,
} from '../../../ts/wg/uapi.js';
import { utf8 } from '../../../ts/wire/bytes.js';
import type { FuzzTarget } from '../harness/target.js';

const KEY = 'a1'.repeat(32);
const PEER = `public_key=${'b2'.repeat(32)}`;

function read(text: string, cut: number): (UapiRequest | UapiError)[] | UapiError {
  const reader = new RequestReader();
  const requests: (UapiRequest | UapiError)[] = [];
  try {
    for (let at = 0; at < text.length; at += cut) requests.push(...reader.push(text.slice(at, at + cut)));
  } catch (error) {
    if (!(error instanceof UapiError)) throw error;
    return error;
  }
  return requests;
}

/** The device after a change, if it had been empty. */
function peersOf({ peers }: DeviceChange): PeerState[] {
  return peers.map((peer) => ({
    sessionKey: peer.sessionKey,
    presharedKey: peer.presharedKey ?? undefined,
    endpoint: peer.endpoint,
    lastHandshake: 1_000_000_002n,
    rxBytes: 3,
    txBytes: 4,
    persistentKeepalive: peer.persistentKeepalive ?? 0,
    allowedIps: prefixTexts(peer.allowedIps.bytes),
  }));
}

function shown(change: DeviceChange): string {
  const { privateKey, listenPort, fwmark } = change;
  const state = {
    privateKey: privateKey ?? undefined,
    listenPort: listenPort ?? 0,
    fwmark: fwmark ?? 0,
    peers: peersOf(change),
  };
  return [...formatState(state)].join('');
}

/** What `get` shows that `set` does not take. */
const REPORTED = /^(errno|rx_bytes|tx_bytes|last_handshake_time)/;

const target: FuzzTarget = {
  seeds: () =>
    [
      'get=1\n\n',
      `set=1\nprivate_key=${KEY}\nlisten_port=51820\nfwmark=7\nreplace_peers=true\n${PEER}\nupdate_only=true\n` +
        `preshared_key=${KEY}\nendpoint=192.0.2.1:1\npersistent_keepalive_interval=25\nreplace_allowed_ips=true\n` +
        'allowed_ip=10.0.0.0/8\nallowed_ip=-fd00::1/64\nprotocol_version=1\n\n',
      `set=1\n${PEER}\nremove=true\n\nget=1\n\nset=1\nlisten_port=99999\n\nset=1\nallowed_ip\n\nx\n\n\n`,
      `set=1\nprivate_key=${'00'.repeat(32)}\n${PEER}\nendpoint=[2001:db8::1]:5\n\n`,
    ].map(utf8),
  dictionary: [
    ...['get=1\n\n', 'set=1\n', '\n\n', 'true', 'private_key=', 'listen_port=', 'fwmark=', 'replace_peers='],
    ...['public_key=', 'remove=', 'update_only=', 'preshared_key=', 'endpoint=', 'replace_allowed_ips='],
    ...['persistent_keepalive_interval=', 'allowed_ip=', 'protocol_version=1', KEY, '00'.repeat(32), '/128'],
  ],
  run(input) {
    const text = Buffer.from(input).toString('latin1');
    const requests = read(text, text.length || 1);
    assert.deepEqual(read(text, 1 + ((input[0] ?? 0) % 61)), requests);
    if (requests instanceof UapiError) return;
    for (const request of requests) {
      if (request instanceof UapiError) {
        assert.ok(Object.values<number>(Errno).includes(request.errno));
        assert.equal(formatErrno(request.errno), `errno=-${request.errno}\n\n`);
        continue;
      }
      if (request.type === 'get') continue;
      const once = shown(request.change);
      const lines = once.split('\n').filter((line) => line !== '' && !REPORTED.test(line));
      const [again] = new RequestReader().push(['set=1', ...lines, '', ''].join('\n'));
      assert.ok(again !== undefined && !(again instanceof UapiError) && again.type === 'set', once);
      assert.equal(shown(again.change), once);
    }
  },
};
export default target;
