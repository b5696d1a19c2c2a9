// Which forwarding table the engine uses: the WebAssembly one where it was built and passes its
// self-test, else the TypeScript model, which gives the same verdicts more slowly.

import { isDeepStrictEqual } from 'node:util';
import { encodeFrame, FrameKind } from '../../wire/frame.js';
import { ForwardingTableModel, type ForwardingTable } from '../../wire/forwarding-table.js';
import { UNCHARGED } from '../../wire/leg.js';
import type { LegEntry } from '../../wire/leg-entry.js';
import type { AccountCapacity } from '../../wire/limits.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { EngineError, type Accelerator } from '../../contract/engine.js';
import { WasmForwardingTable } from './wasm-forwarding-table.js';

/** The name in `disable` and `describe()`. */
const NAME = 'wasm-forwarding';

export interface Forwarding {
  readonly table: ForwardingTable;
  readonly accelerator: Accelerator;
}

/**
 * @param disable accelerators to leave off; names of the native engine's mean nothing here
 * @throws EngineError BAD_ARGUMENT when `maxLegs` is more than a table can hold
 */
export function openForwarding(
  maxLegs: number,
  accounts: AccountCapacity,
  disable: readonly string[],
): Forwarding {
  const model = (state: 'off' | 'unavailable', reason: string, remedy?: string): Forwarding => ({
    table: new ForwardingTableModel(maxLegs, accounts),
    accelerator: { name: NAME, state, reason, remedy },
  });
  if (disable.includes(NAME)) return model('off', 'switched off; the TypeScript model forwards');
  try {
    if (!selfTest(new WasmForwardingTable(1))) {
      return model('unavailable', 'its self-test disagreed with the TypeScript model', 'npm run build');
    }
    return {
      table: new WasmForwardingTable(maxLegs, accounts),
      accelerator: { name: NAME, state: 'on', reason: 'self-test passed', remedy: undefined },
    };
  } catch (error) {
    if (error instanceof RangeError) throw new EngineError('BAD_ARGUMENT', `maxLegs: ${error.message}`);
    const reason = error instanceof Error ? error.message : String(error);
    return model('unavailable', `not loaded: ${reason}`, 'npm run build');
  }
}

/** Whether a table forwards one frame and drops a forged one exactly as the model does. */
function selfTest(table: ForwardingTable): boolean {
  const source: SocketAddress = { ip: new Uint8Array(16).fill(1), port: 1 };
  const address: SocketAddress = { ip: new Uint8Array(16).fill(2), port: 2 };
  const key = new Uint8Array(16).fill(3);
  const leg: LegEntry = {
    id: 4,
    key,
    epoch: 5,
    action: 'forward',
    source,
    next: { id: 6, key: new Uint8Array(16).fill(7), epoch: 8, address },
    expiresAt: 0n,
    charging: UNCHARGED,
  };
  const payload = new Uint8Array(32).fill(9);
  const good = encodeFrame({ kind: FrameKind.forward, hopLimit: 8, epoch: 5, legId: 4, key, payload });
  const forged = Uint8Array.from(good);
  forged[8] = (forged[8] ?? 0) ^ 1;
  const model = new ForwardingTableModel(1);
  if (!table.install(leg) || !model.install(leg)) return false;
  return [good, forged].every((frame) => {
    const copy = Uint8Array.from(frame);
    const decision = table.judge(source, frame, 1n);
    return isDeepStrictEqual([decision, frame], [model.judge(source, copy, 1n), copy]);
  });
}
