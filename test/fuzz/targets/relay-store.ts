// What a relay finds in its store: an earlier version's, or a damaged disk's. Read only as it is written.

import assert from 'node:assert/strict';
import {
  decodeStoredCircuit,
  decodeStoredClient,
  decodeStoredPolicy,
  encodeStoredCircuit,
  encodeStoredClient,
  encodeStoredPolicy,
} from '../../../ts/core/relay/relay-store.js';
import { address, bytes } from '../../core/fixtures.js';
import { mutateCbor } from '../harness/cbor-mutation.js';
import { policy, record } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

const leg = (): { id: number; key: Uint8Array; epoch: number } => ({ id: 7, key: bytes(16), epoch: 3 });
const circuit = {
  id: bytes(16),
  network: bytes(16),
  caller: bytes(32),
  callee: bytes(32),
  legCaller: leg(),
  legCallee: leg(),
  fromCaller: leg(),
  fromCallee: leg(),
  callerIdentity: bytes(32),
  calleeIdentity: bytes(32),
  path: [bytes(32)],
  onward: true,
  policy: undefined,
  opened: 1,
  expires: 2,
};

const target: FuzzTarget = {
  seeds: () => [
    encodeStoredClient({
      address: address('203.0.113.5:1'),
      record,
      boot: bytes(8),
      expires: 9,
      proven: [bytes(16)],
    }),
    encodeStoredCircuit(circuit),
    encodeStoredCircuit({ ...circuit, policy: 4, onward: false, path: [] }),
    encodeStoredPolicy({ policy, legs: [leg(), leg()] }),
  ],
  mutate: mutateCbor,
  run(input) {
    const client = decodeStoredClient(input);
    if (client !== undefined) assert.deepEqual(encodeStoredClient(client), input);
    const stored = decodeStoredCircuit(input);
    if (stored !== undefined) assert.deepEqual(encodeStoredCircuit(stored), input);
    const standing = decodeStoredPolicy(input);
    if (standing !== undefined) assert.deepEqual(encodeStoredPolicy(standing), input);
  },
};
export default target;
