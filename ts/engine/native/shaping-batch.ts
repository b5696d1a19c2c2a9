// Shaping in one buffer, as it crosses into the native addon; native/addon/shaping_calls.cc draws the layout.

import { EngineError } from '../../contract/engine.js';
import {
  MAX_PADDED_SIZES,
  type PeerShaping,
  type ShapingControl,
  type ShapingCounts,
} from '../../contract/shaping-control.js';
import { viewOf } from '../../wire/bytes.js';
import type { NativeHandle } from './native-addon.js';
import { keyBytes } from './peer-batch.js';

const SHAPING_BYTES = 40 + 2 * MAX_PADDED_SIZES;
const MAX_BUDGET = 100_000;

function requireShaping({ paddedSizes, paddingBudget }: PeerShaping): void {
  if (paddedSizes.length > MAX_PADDED_SIZES)
    refuse(`paddedSizes: ${paddedSizes.length} given, at most ${MAX_PADDED_SIZES} are possible`);
  paddedSizes.forEach((size, index) => {
    requireInteger('paddedSizes', size, 1, 0xffff);
    if (size <= (paddedSizes[index - 1] ?? 0)) refuse(`paddedSizes: ${size} is not more than the one before`);
  });
  if (paddingBudget !== undefined) requireInteger('paddingBudget', paddingBudget, 1, MAX_BUDGET);
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
    shaping.paddedSizes.forEach((size, place) => view.setUint16(at + 40 + 2 * place, size, true));
  });
  return packed;
}

function unpackShapingCounts([dataBytes, paddingBytes = 0, unpaddedPackets = 0]: Float64Array):
  ShapingCounts | undefined {
  return dataBytes === undefined ? undefined : { dataBytes, paddingBytes, unpaddedPackets };
}

/** The part of the native engine that shapes. `call`: as all calls of the addon are made. */
export function shapingControl(handle: () => NativeHandle, call: <T>(run: () => T) => T): ShapingControl {
  return {
    setShaping: (shaping) => {
      const packed = packShaping(shaping);
      call(() => handle().setShaping(packed));
    },
    shapingCounts: (peer) => unpackShapingCounts(call(() => handle().shapingCounts(keyBytes(peer)))),
  };
}
