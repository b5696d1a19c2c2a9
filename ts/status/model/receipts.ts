// Usage receipts as the CLI shows them: plain JSON, keys as peer ids, the signed receipt as base64.

import { toHex } from '../../wire/bytes.js';
import { encodePeerId } from '../../core/protocol/peer-id.js';
import type { OwnUsage, ReceiptReport } from '../../core/runtime/receipt-report.js';
import { openReceipt, type UsageReceipt, type Usage } from '../../core/protocol/usage-receipt.js';
import { nodePrimitives } from '../../engine/node-primitives.js';

/** What a receipt says. */
export interface ReceiptContent {
  readonly relay: string;
  /** Lower-case hex. */
  readonly circuit: string;
  /** Blinded id, lower-case hex. */
  readonly network: string;
  readonly caller: string;
  readonly callee: string;
  /** ISO 8601, by the relay's clock. */
  readonly issued: string;
  readonly seconds: number;
  readonly toCallee: Usage;
  readonly toCaller: Usage;
}

/** One line of `omerta receipts`. */
export interface CheckedReceipt {
  readonly peer: string;
  readonly relay: string;
  readonly circuit: string;
  readonly verdict: ReceiptReport['verdict'];
  readonly differences: ReceiptReport['differences'];
  readonly own: OwnUsage | undefined;
  /** What the relay counted, as seen from here. */
  readonly claimed: OwnUsage | undefined;
  readonly content: ReceiptContent | undefined;
  /** The receipt itself, base64. */
  readonly receipt: string | undefined;
}

export function receiptContent(receipt: UsageReceipt): ReceiptContent {
  const { relay, circuit, network, caller, callee, issued, ...counted } = receipt;
  return {
    relay: encodePeerId(relay),
    circuit: toHex(circuit),
    network: toHex(network),
    caller: encodePeerId(caller),
    callee: encodePeerId(callee),
    issued: new Date(issued * 1000).toISOString(),
    ...counted,
  };
}

export function checkedReceipt(report: ReceiptReport): CheckedReceipt {
  const { relay, member, circuit, verdict, differences, own, claimed, receipt, bytes } = report;
  return {
    peer: encodePeerId(member),
    relay: encodePeerId(relay),
    circuit,
    verdict,
    differences,
    own,
    claimed,
    content: receipt && receiptContent(receipt),
    receipt: bytes && Buffer.from(bytes).toString('base64'),
  };
}

/** A receipt this relay signed. */
export function issuedReceipt(bytes: Uint8Array): { content: ReceiptContent; receipt: string } {
  const receipt = openReceipt(nodePrimitives, bytes);
  if (typeof receipt === 'string') throw new Error(`a receipt just signed is ${receipt}`);
  return { content: receiptContent(receipt), receipt: Buffer.from(bytes).toString('base64') };
}
