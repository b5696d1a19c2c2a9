// The forwarding tables that run inside Node, for tests that hold them to one standard.

import { WasmForwardingTable } from '../../ts/engine/wasm/wasm-forwarding-table.js';
import { ForwardingTableModel, type ForwardingTable } from '../../ts/wire/forwarding-table.js';
import type { AccountCapacity } from '../../ts/wire/limits.js';

export const IMPLEMENTATIONS: readonly {
  name: string;
  make: (capacity: number, accounts?: AccountCapacity) => ForwardingTable;
}[] = [
  { name: 'TypeScript model', make: (capacity, accounts) => new ForwardingTableModel(capacity, accounts) },
  { name: 'WASM', make: (capacity, accounts) => new WasmForwardingTable(capacity, accounts) },
];
