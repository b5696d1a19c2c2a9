// An end's side of usage receipts: fetches what relays say they carried in our circuits and holds it
// against what our own legs counted before and after.

import type { LegCounts, SessionKey } from '../../contract/engine.js';
import type { HeldCircuit } from '../path/circuit-client.js';
import { fromHex, sameBytes, toHex } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';
import type { LegQueries } from '../runtime/leg-queries.js';
import type { OwnUsage, ReceiptReport } from '../runtime/receipt-report.js';
import { compareUsage } from './receipt-check.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import { openReceipt } from '../protocol/usage-receipt.js';

/** The relay's time may begin this much later than ours: the answer was on its way. */
const START_SLACK_SECONDS = 5;
const TRIES = 4;

export interface ReceiptHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly requests: RequestTable;
  readonly legQueries: LegQueries;
  relayIdentity(relay: SessionKey): Uint8Array | undefined;
  memberIdentity(member: SessionKey): Uint8Array | undefined;
}

/** Fetches and checks the receipts of these circuits; a `receipts` effect with `token` tells the outcome. */
export function collectReceipts(
  host: ReceiptHost,
  circuits: readonly HeldCircuit[],
  token: Uint8Array,
  turn: Turn,
): void {
  const reports: ReceiptReport[] = [];
  let open = circuits.length;
  const done = (report: ReceiptReport | undefined, later: Turn): void => {
    if (report !== undefined) reports.push(report);
    open--;
    if (open === 0) later.emit({ type: 'receipts', token, reports });
  };
  if (circuits.length === 0) turn.emit({ type: 'receipts', token, reports });
  for (const circuit of circuits) collect(host, circuit, turn, done);
}

function collect(
  host: ReceiptHost,
  circuit: HeldCircuit,
  turn: Turn,
  done: (report: ReceiptReport | undefined, later: Turn) => void,
): void {
  const relay = host.relayIdentity(circuit.relay);
  const member = host.memberIdentity(circuit.member);
  const id = fromHex(circuit.id);
  if (relay === undefined || member === undefined || id === undefined) {
    done(undefined, turn);
    return;
  }
  const report = {
    circuit: circuit.id,
    relay,
    member,
    own: undefined,
    bytes: undefined,
    receipt: undefined,
    claimed: undefined,
    verdict: 'unanswered',
    differences: [],
  } as const;
  host.legQueries.ask([circuit.leg], turn, ([before], asked) => {
    const settle = (bytes: Uint8Array | undefined, later: Turn): void =>
      host.legQueries.ask([circuit.leg], later, ([after], last) => {
        const own = after && ownUsage(after);
        if (bytes === undefined) {
          done({ ...report, own }, last);
          return;
        }
        const receipt = openReceipt(host.primitives, bytes);
        const ends = circuit.calling ? [host.identity, member] : [member, host.identity];
        if (
          typeof receipt === 'string' ||
          !sameBytes(receipt.relay, relay) ||
          toHex(receipt.circuit) !== circuit.id ||
          !sameBytes(receipt.caller, ends[0] ?? relay) ||
          !sameBytes(receipt.callee, ends[1] ?? relay)
        ) {
          done({ ...report, own, bytes, verdict: 'invalid' }, last);
          return;
        }
        const claimed = circuit.calling
          ? { sent: receipt.toCallee, received: receipt.toCaller }
          : { sent: receipt.toCaller, received: receipt.toCallee };
        const whole = receipt.seconds >= (last.now - circuit.since) / 1000 - START_SLACK_SECONDS;
        const differences =
          before === undefined || own === undefined
            ? []
            : compareUsage(ownUsage(before), own, claimed, whole);
        const verdict = differences.length > 0 ? 'differs' : whole ? 'matches' : 'restarted';
        done({ ...report, own, bytes, receipt, claimed, verdict, differences }, last);
      });
    const message = { type: 'receipt', circuit: id } as const;
    host.requests.send(
      circuit.relay,
      message,
      asked,
      (answer, later) => settle(answer?.type === 'receipt-given' ? answer.receipt : undefined, later),
      TRIES,
    );
  });
}

function ownUsage({ packets, bytes, sentPackets, sentBytes }: LegCounts): OwnUsage {
  return { sent: { packets: sentPackets, bytes: sentBytes }, received: { packets, bytes } };
}
