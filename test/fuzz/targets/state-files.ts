// What a state directory may hold after an earlier version, a damaged disk or an operator's editor: read whole, or
// refused in one line that names the file. Input: a kind, then the file.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Network } from '../../../ts/core/protocol/network.js';
import { encodePeerId } from '../../../ts/core/protocol/peer-id.js';
import {
  loadExitSettings,
  saveExitSettings,
  type StoredExitSettings,
} from '../../../ts/daemon/state/exit-settings.js';
import { createIdentity, loadIdentity } from '../../../ts/daemon/state/identity.js';
import { encodeBatch, JournalDamaged, journalStart, readJournal } from '../../../ts/daemon/state/journal.js';
import { addNetwork, loadNetworks } from '../../../ts/daemon/state/network-files.js';
import {
  loadRouteSettings,
  saveRouteSettings,
  type StoredRouteSettings,
} from '../../../ts/daemon/state/route-settings.js';
import { StateDirectory } from '../../../ts/daemon/state/state-directory.js';
import { OperatorError } from '../../../ts/host/operator-error.js';
import { concat, utf8 } from '../../../ts/wire/bytes.js';
import { address, bytes } from '../../core/fixtures.js';
import { node, relay } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

// What is saved is flushed to the disk: where there is a disk in memory, on that.
const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'omerta-fuzz-'));
const state = new StateDirectory(folder);
const invite = join(state.networks, 'home.invite');

const ID = encodePeerId(node.identity);
const exits: StoredExitSettings = {
  serve: {
    allow: [ID],
    networks: ['home'],
    lan: ['192.168.7.0/24'],
    ipv4: true,
    ipv6: false,
    chain: false,
    dns: true,
    resolvers: ['9.9.9.9'],
  },
  grants: [{ subject: { peer: ID }, until: 1_800_000_000_000 }, { subject: { key: 'ab'.repeat(32) } }],
  use: { exits: [ID], hops: 2, allowLan: true, include: ['203.0.113.0/24'], exclude: [], paranoid: false },
};
const routes: StoredRouteSettings = {
  advertise: { prefixes: ['192.168.7.0/24'], allow: [ID], networks: ['home'] },
  accept: [{ prefix: '10.1.2.0/24', from: ID }],
};
const network: Network = {
  id: bytes(16),
  name: 'home',
  key: bytes(32),
  bootstraps: [
    { identity: relay.identity, sessionKey: relay.sessionKey, addresses: [address('203.0.113.7:51900')] },
  ],
};

/** What is read, or undefined where it is refused as it has to be. */
function read<T>(path: string, load: () => T): T | undefined {
  try {
    return load();
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    assert.ok(!/[\n\r]/.test(error.message) && error.message.includes(path), JSON.stringify(error.message));
    return undefined;
  }
}

/** What was read of a file is read again after it was written. */
function settled<T extends object>(path: string, load: () => T, save: (settings: T) => void): void {
  const found = read(path, load);
  if (found === undefined) return;
  save(found);
  assert.deepEqual(load(), found);
}

function readStore(file: Uint8Array): void {
  let entries: Map<string, Uint8Array>;
  try {
    entries = readJournal(Buffer.from(file));
  } catch (error) {
    if (!(error instanceof JournalDamaged)) throw error;
    return;
  }
  const writes = [...entries].map(([key, value]) => ({ key, value }));
  assert.deepEqual(readJournal(Buffer.concat([journalStart(), encodeBatch(writes)])), entries);
}

/** A journal with one batch whose length and digest are right, whatever is in it. */
function journalOf(entries: Uint8Array): Uint8Array {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(entries.length, 0);
  header.writeUInt32LE(~entries.length >>> 0, 4);
  const digest = createHash('sha256').update(entries).digest().subarray(0, 16);
  return concat(journalStart(), header, digest, entries);
}

const kinds: readonly ((file: Uint8Array) => void)[] = [
  readStore,
  (file) => readStore(journalOf(file)),
  (file) => {
    writeFileSync(state.exitSettings, file, { mode: 0o600 });
    settled(
      state.exitSettings,
      () => loadExitSettings(state),
      (settings) => saveExitSettings(state, settings),
    );
  },
  (file) => {
    writeFileSync(state.routeSettings, file, { mode: 0o600 });
    settled(
      state.routeSettings,
      () => loadRouteSettings(state),
      (settings) => saveRouteSettings(state, settings),
    );
  },
  (file) => {
    writeFileSync(invite, file, { mode: 0o600 });
    const [found] = read(invite, () => loadNetworks(state)) ?? [];
    if (found === undefined) return;
    rmSync(invite);
    addNetwork(state, found);
    assert.deepEqual(loadNetworks(state), [found]);
    rmSync(join(state.networks, `${found.name}.invite`));
  },
  (file) => {
    writeFileSync(state.identityKey, file, { mode: 0o600 });
    const found = read(state.identityKey, () => loadIdentity(state));
    if (found !== undefined) assert.equal(found.seed.length, 32);
  },
];

const target: FuzzTarget = {
  seeds() {
    const identity = createIdentity(state);
    addNetwork(state, network);
    const stored = Buffer.concat([
      journalStart(),
      encodeBatch([
        { key: 'a', value: bytes(4) },
        { key: 'b', value: new Uint8Array(0) },
      ]),
      encodeBatch([{ key: 'a', value: undefined }]),
    ]);
    const files: readonly [kind: number, file: Uint8Array][] = [
      [0, stored],
      [0, stored.subarray(0, -3)],
      [0, stored.subarray(0, 9)],
      [0, concat(stored, new Uint8Array(40))],
      [1, encodeBatch([{ key: 'key', value: bytes(3) }]).subarray(24)],
      [1, encodeBatch([{ key: 'key', value: undefined }]).subarray(24)],
      [1, Uint8Array.of(255)],
      [1, Uint8Array.of(1, 0, 9, 0, 0, 0, 97)],
      [2, utf8(JSON.stringify(exits))],
      [2, utf8('{"grants":[]}')],
      [3, utf8(JSON.stringify(routes))],
      [3, utf8('{}')],
      [4, new Uint8Array(readFileSync(invite))],
      [5, new Uint8Array(readFileSync(state.identityKey))],
    ];
    assert.deepEqual(loadIdentity(state), identity);
    rmSync(invite);
    return files.map(([kind, file]) => concat(Uint8Array.of(kind), file));
  },
  dictionary: [
    ...[
      '"serve":',
      '"grants":',
      '"use":',
      '"until":',
      '"subject":',
      '"peer":',
      '"key":',
      '"advertise":',
      '"accept":',
    ],
    ...[
      '"0.0.0.0/0"',
      '"prefix":',
      '"from":',
      'null',
      'true',
      '-1',
      '1e400',
      '{',
      '}',
      '[',
      ']',
      'omerta://join/',
    ],
  ],
  run(input) {
    kinds[(input[0] ?? 0) % kinds.length]?.(input.subarray(1));
  },
  close() {
    rmSync(folder, { recursive: true, force: true });
    return Promise.resolve();
  },
};
export default target;
