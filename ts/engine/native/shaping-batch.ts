// Shaping in one buffer, as it crosses into the native addon; native/addon/shaping_calls.cc draws the layout.

import { EngineError } from '../../contract/engine.js';
import {
  LEAST_SLOT_MS,
  MAX_PADDED_SIZES,
  MAX_WEIGHT,
  type Ceiling,
  type CeilingCounts,
  type PeerQueue,
  type PeerShaping,
  type ShapingControl,
  type ShapingCounts,
} from '../../contract/shaping-control.js';
import { fromHex, viewOf } from '../../wire/bytes.js';
import type { NativeHandle } from './native-addon.js';
import { keyBytes } from './peer-batch.js';

const SIZES_AT = 40;
const QUEUE_AT = SIZES_AT + 2 * MAX_PADDED_SIZES;
const SHAPING_BYTES = QUEUE_AT + 32;
const NETWORK_BYTES = 8;
const INTERFACE_BYTES = 16;
const CEILING_BYTES = INTERFACE_BYTES + 8;
const MAX_BUDGET = 100_000;
const LEAST_CEILING = 1000;
const MAX_CEILING = 1e11;
const MAX_SLOT_MS = 60_000;

function requireShaping({ paddedSizes, paddingBudget, queue }: PeerShaping): void {
  if (paddedSizes.length > MAX_PADDED_SIZES)
    refuse(`paddedSizes: ${paddedSizes.length} given, at most ${MAX_PADDED_SIZES} are possible`);
  paddedSizes.forEach((size, index) => {
    requireInteger('paddedSizes', size, 1, 0xffff);
    if (size <= (paddedSizes[index - 1] ?? 0)) refuse(`paddedSizes: ${size} is not more than the one before`);
  });
  if (paddingBudget !== undefined) requireInteger('paddingBudget', paddingBudget, 1, MAX_BUDGET);
  if (queue !== undefined) requireQueue(queue);
}

function requireQueue({ weight, networkWeight, network, slotMs }: PeerQueue): void {
  requireInteger('weight', weight, 1, MAX_WEIGHT);
  requireInteger('networkWeight', networkWeight, 1, MAX_WEIGHT);
  if ((fromHex(network)?.length ?? 0) < NETWORK_BYTES)
    refuse(`network: '${network}' given, must be ${2 * NETWORK_BYTES} hex digits or more`);
  if (slotMs !== undefined && !(slotMs >= LEAST_SLOT_MS && slotMs <= MAX_SLOT_MS))
    refuse(`slotMs: ${slotMs} given, must be from ${LEAST_SLOT_MS} to ${MAX_SLOT_MS}`);
}

function requireCeilings(ceilings: readonly Ceiling[]): void {
  ceilings.forEach(({ interface: name, bytesPerSecond }, index) => {
    if (!/^[^\s/]{1,15}$/.test(name)) refuse(`interface: '${name}' is not the name of one`);
    if (ceilings.findIndex((other) => other.interface === name) < index)
      refuse(`interface: '${name}' has a ceiling already`);
    requireInteger('bytesPerSecond', bytesPerSecond, LEAST_CEILING, MAX_CEILING);
  });
}

function requireInteger(field: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max)
    refuse(`${field}: ${value} given, must be an integer from ${min} to ${max}`);
}

function refuse(message: string): never {
  throw new EngineError('BAD_ARGUMENT', message);
}

/** @throws EngineError BAD_ARGUMENT */
export function packShaping(all: readonly PeerShaping[]): Uint8Array {
  const packed = new Uint8Array(all.length * SHAPING_BYTES);
  const view = viewOf(packed);
  all.forEach((shaping, index) => {
    requireShaping(shaping);
    const at = index * SHAPING_BYTES;
    packed.set(keyBytes(shaping.peer), at);
    view.setUint32(at + 32, shaping.paddingBudget ?? 0, true);
    view.setUint32(at + 36, shaping.paddedSizes.length, true);
    shaping.paddedSizes.forEach((size, place) => view.setUint16(at + SIZES_AT + 2 * place, size, true));
    const { queue } = shaping;
    if (queue === undefined) return;
    view.setUint32(at + QUEUE_AT, 1, true);
    view.setUint32(at + QUEUE_AT + 4, queue.weight, true);
    packed.set((fromHex(queue.network) ?? new Uint8Array()).subarray(0, NETWORK_BYTES), at + QUEUE_AT + 8);
    view.setUint32(at + QUEUE_AT + 16, queue.networkWeight, true);
    view.setFloat64(at + QUEUE_AT + 24, queue.slotMs ?? 0, true);
  });
  return packed;
}

/** @throws EngineError BAD_ARGUMENT */
export function packCeilings(ceilings: readonly Ceiling[]): Uint8Array {
  requireCeilings(ceilings);
  const packed = new Uint8Array(ceilings.length * CEILING_BYTES);
  const view = viewOf(packed);
  ceilings.forEach(({ interface: name, bytesPerSecond }, index) => {
    const at = index * CEILING_BYTES;
    packed.set(Buffer.from(name, 'latin1'), at);
    view.setBigUint64(at + INTERFACE_BYTES, BigInt(bytesPerSecond), true);
  });
  return packed;
}

function unpackShapingCounts(counts: Float64Array): ShapingCounts | undefined {
  if (counts.length === 0) return undefined;
  const of = (index: number): number => counts[index] ?? 0;
  return {
    dataBytes: of(0),
    paddingBytes: of(1),
    unpaddedPackets: of(2),
    covers: of(3),
    coversLeftOut: of(4),
    queuedPackets: of(5),
    droppedFull: of(6),
    droppedLate: of(7),
    markedPackets: of(8),
    waitingBytes: of(9),
  };
}

function unpackCeilingCounts(counts: Float64Array): CeilingCounts[] {
  return Array.from({ length: counts.length / 2 }, (_, index) => ({
    sentBytes: counts[2 * index] ?? 0,
    waitingBytes: counts[2 * index + 1] ?? 0,
  }));
}

/** The part of the native engine that shapes. `call`: as all calls of the addon are made. */
export function shapingControl(handle: () => NativeHandle, call: <T>(run: () => T) => T): ShapingControl {
  return {
    setShaping: (shaping) => {
      const packed = packShaping(shaping);
      call(() => handle().setShaping(packed));
    },
    shapingCounts: (peer) => unpackShapingCounts(call(() => handle().shapingCounts(keyBytes(peer)))),
    setCeilings: (ceilings) => {
      const packed = packCeilings(ceilings);
      call(() => handle().setCeilings(packed));
    },
    ceilingCounts: () => unpackCeilingCounts(call(() => handle().ceilingCounts())),
  };
}
