import assert from 'node:assert/strict';
import { chmodSync, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { encodeInvite } from '../../ts/core/protocol/invite.js';
import {
  addNetwork,
  freeNetworkName,
  loadNetworks,
  newNetwork,
  parseInvite,
  removeNetworkFile,
  renameNetwork,
  replaceNetwork,
  requireNetworkName,
  selectNetwork,
} from '../../ts/daemon/state/network-files.js';
import { parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import { temporaryState } from './temporary.js';

function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed);
  return parsed;
}

const bootstrap = {
  identity: new Uint8Array(32).fill(1),
  sessionKey: new Uint8Array(32).fill(2),
  addresses: [address('203.0.113.7:51900'), address('[2001:db8::7]:51900')],
};

describe('network files', () => {
  test('a network is kept with mode 0600 and read back the same', (t) => {
    const state = temporaryState(t);
    const network = newNetwork('home', [bootstrap]);
    addNetwork(state, network);
    assert.deepEqual(loadNetworks(state), [network]);
    assert.equal(statSync(join(state.networks, 'home.invite')).mode & 0o777, 0o600);
    assert.equal(statSync(state.networks).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(state.networks), ['home.invite']);
  });

  test('a name or an id is taken once', (t) => {
    const state = temporaryState(t);
    const network = newNetwork('home', [bootstrap]);
    addNetwork(state, network);
    assert.throws(
      () => addNetwork(state, newNetwork('home', [bootstrap])),
      /"home" is taken .*omerta network create home-2/,
    );
    assert.throws(() => addNetwork(state, { ...network, name: 'other' }), /joined already, as "home"/);
    assert.deepEqual(loadNetworks(state), [network]);
  });

  test('a network is called otherwise on this machine, and a free name is proposed when it is taken', (t) => {
    const state = temporaryState(t);
    const [home, lab] = [newNetwork('home', [bootstrap]), newNetwork('lab', [bootstrap])];
    for (const network of [home, lab]) addNetwork(state, network);
    assert.throws(
      () => renameNetwork(state, home, 'lab'),
      /"lab" is taken .*omerta network rename home lab-2/,
    );
    assert.deepEqual(loadNetworks(state), [home, lab]);
    renameNetwork(state, home, 'cabin');
    assert.deepEqual(loadNetworks(state), [{ ...home, name: 'cabin' }, lab]);
    assert.deepEqual(readdirSync(state.networks).sort(), ['cabin.invite', 'lab.invite']);
  });

  test('a free name has room in 63 characters', () => {
    const long = 'x'.repeat(63);
    const networks = [long, `${'x'.repeat(61)}-2`, 'home'].map((name) => newNetwork(name, [bootstrap]));
    assert.equal(freeNetworkName(networks, long), `${'x'.repeat(61)}-3`);
    assert.equal(freeNetworkName(networks, 'home'), 'home-2');
    assert.equal(freeNetworkName(networks, 'lab'), 'lab');
  });

  test('a pasted link is taken with the line breaks, quotes and brackets a mail or shell put into it', () => {
    const network = newNetwork('home', [bootstrap]);
    const link = encodeInvite(network);
    const broken = [link.slice(0, 40), link.slice(40, 90), link.slice(90)];
    for (const pasted of [
      `<${link}>`,
      `"${link}"\n`,
      `\u201c${link}\u201d`,
      `> ${broken.join('\r\n> ')}`,
      ` ${broken.join(' \n\t')} `,
      `\ufeff'${broken.join('\u200b')}'`,
    ])
      assert.deepEqual(parseInvite(pasted), network, JSON.stringify(pasted.slice(0, 50)));
    assert.throws(() => parseInvite(link.slice(0, -1)), /cut short or mistyped/);
  });

  test('at most eight networks are joined, as many as a record has room for', (t) => {
    const state = temporaryState(t);
    for (let i = 0; i < 8; i++) addNetwork(state, newNetwork(`n${i}`, [bootstrap]));
    assert.throws(() => addNetwork(state, newNetwork('n8', [bootstrap])), /at most 8/);
    assert.equal(loadNetworks(state).length, 8);
  });

  test('replacing changes the bootstraps, removing forgets the network', (t) => {
    const state = temporaryState(t);
    const network = newNetwork('home', [bootstrap]);
    addNetwork(state, network);
    const moved = { ...network, bootstraps: [{ ...bootstrap, addresses: [address('192.0.2.1:1')] }] };
    replaceNetwork(state, moved);
    assert.deepEqual(loadNetworks(state), [moved]);
    removeNetworkFile(state, network);
    assert.deepEqual(loadNetworks(state), []);
  });

  test('a damaged or readable file stops the start and names the file', (t) => {
    const state = temporaryState(t);
    addNetwork(state, newNetwork('home', [bootstrap]));
    const path = join(state.networks, 'home.invite');
    chmodSync(path, 0o644);
    assert.throws(() => loadNetworks(state), { exitCode: 4, message: /chmod 0600/ });
    chmodSync(path, 0o600);
    writeFileSync(path, 'omerta://join/join1qqq');
    assert.throws(() => loadNetworks(state), {
      exitCode: 2,
      message: /home\.invite does not hold a whole invite/,
    });
  });

  test('an invite that is cut, mistyped, foreign or empty is refused without repeating it', (t) => {
    const state = temporaryState(t);
    const link = encodeInvite(newNetwork('home', [bootstrap]));
    const middle = Math.floor(link.length / 2);
    const mistyped = link.slice(0, middle) + (link[middle] === 'q' ? 'p' : 'q') + link.slice(middle + 1);
    for (const bad of ['', 'hello', 'https://example.com/', link.slice(0, -1), mistyped, `${link}q`])
      assert.throws(
        () => parseInvite(bad),
        (error: Error) =>
          /^invite: .+\. [A-Z]/.test(error.message) && (bad === '' || !error.message.includes(bad)),
        bad,
      );
    assert.equal(existsSync(state.networks), false);
  });

  test('the only network need not be named', () => {
    const home = newNetwork('home', []);
    const lab = newNetwork('lab', []);
    assert.equal(selectNetwork([home], undefined), home);
    assert.equal(selectNetwork([home, lab], 'lab'), lab);
    assert.throws(() => selectNetwork([home, lab], undefined), /several are joined \(home, lab\)/);
    assert.throws(() => selectNetwork([home], 'lab'), /"lab" is not joined; joined: home/);
    assert.throws(() => selectNetwork([], undefined), /none is joined yet.*omerta network join LINK/);
  });

  test('a network name that could leave its directory is no name', () => {
    for (const name of ['', '../x', 'a/b', 'A', 'x'.repeat(64)])
      assert.throws(() => requireNetworkName(name), { exitCode: 2 });
    requireNetworkName('home-2');
  });
});
