// The forwarding tables that run inside Node, for tests that hold them to one standard.

import { WasmForwardingTable } from '../../ts/engine/wasm-forwarding.js';
import { ForwardingTableModel, type ForwardingTable } from '../../ts/wire/forwarding-table.js';

export const IMPLEMENTATIONS: readonly { name: string; make: (capacity: number) => ForwardingTable }[] = [
  { name: 'TypeScript model', make: (capacity) => new ForwardingTableModel(capacity) },
  { name: 'WASM', make: (capacity) => new WasmForwardingTable(capacity) },
];
