// What the core's tests share: a step, keys, a record.

import fc from 'fast-check';
import type { Step } from '../../ts/contract/step.js';
import { NatBehaviour, type RecordFields } from '../../ts/core/protocol/peer-record.js';
import { Turn } from '../../ts/core/runtime/turn.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { Prng } from '../../ts/sim/kernel/prng.js';
import { parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

export const WALL_CLOCK = 1_767_225_600_000; // 2026-01-01
const prng = new Prng(20260101);

export function step(now = 0, wallClock = WALL_CLOCK + now): Step {
  return { now, wallClock, random: (length) => prng.bytes(length) };
}

export function turn(now = 0, wallClock?: number): Turn {
  return new Turn(step(now, wallClock));
}

export function bytes(length: number): Uint8Array {
  return prng.bytes(length);
}

export function address(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
}

export interface Keys {
  readonly identitySeed: Uint8Array;
  readonly identity: Uint8Array;
  readonly sessionPrivateKey: Uint8Array;
  readonly sessionKey: Uint8Array;
}

export function keys(): Keys {
  const identitySeed = bytes(32);
  const sessionPrivateKey = bytes(32);
  return {
    identitySeed,
    identity: nodePrimitives.ed25519PublicKey(identitySeed),
    sessionPrivateKey,
    sessionKey: nodePrimitives.x25519PublicKey(sessionPrivateKey),
  };
}

export function recordFields(
  { identity, sessionKey }: Keys,
  changed: Partial<RecordFields> = {},
): RecordFields {
  return {
    identity,
    sessionKey,
    networks: [],
    endpoints: [],
    relays: [],
    nat: NatBehaviour.unknown,
    capabilities: [],
    sequence: 1,
    notAfter: WALL_CLOCK / 1000 + 3600,
    name: 'node',
    addresses: (changed.networks ?? []).map(() => ({ round: 0, tenures: [] })),
    ...changed,
  };
}

/** fc.record of ordinary objects: decoded messages are such. */
export function plain<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}
