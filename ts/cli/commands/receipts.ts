// omerta receipts: what relays say they carried for us, against our own counts.
// omerta relay receipts: the receipts this relay gives.

import type { Command } from 'commander';
import type { CheckedReceipt, ReceiptContent } from '../../status/model/receipts.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { formatBytes, formatDuration } from '../../host/units.js';
import type { Usage } from '../../core/protocol/usage-receipt.js';
import { Context, columns, print, printJson, requestStatus } from '../context.js';
import { printable } from '../describe-status.js';
import { explain } from '../help.js';
import { selectPeer } from '../select-peer.js';
import { peerRows } from '../../status/model/daemon-status.js';

const TIMEOUT_MS = 10_000;
/** Each costs a signature; with more circuits than this the operator names a peer. */
const MOST_SIGNED = 1000;

const usage = ({ packets, bytes }: Usage): string => `${packets} (${formatBytes(bytes)})`;
const short = (peerId: string): string => `${peerId.slice(0, 14)}…`;

function describeChecked(rows: readonly CheckedReceipt[], nameOf: (peerId: string) => string): string {
  return columns([
    ['PEER', 'RELAY', 'CIRCUIT', 'SENT', 'COUNTED', 'RECEIVED', 'COUNTED', 'CHECK'],
    ...rows.map(({ peer, relay, circuit, own, claimed, verdict, differences }) => [
      nameOf(peer),
      short(relay),
      circuit.slice(0, 8),
      own === undefined ? '-' : usage(own.sent),
      claimed === undefined ? '-' : usage(claimed.sent),
      own === undefined ? '-' : usage(own.received),
      claimed === undefined ? '-' : usage(claimed.received),
      [verdict, ...differences].join(' '),
    ]),
  ]);
}

async function receipts(context: Context, wanted: string | undefined, json: boolean): Promise<void> {
  const rows = await context.withDaemon(async (client) => {
    const status = await requestStatus(client);
    const peer = wanted === undefined ? undefined : selectPeer(status, wanted).peerId;
    const names = new Map(peerRows(status).map(({ peerId, name }) => [peerId, name]));
    const checked = (await client.request(
      { command: 'receipts', peer, timeoutMs: TIMEOUT_MS },
      TIMEOUT_MS + 2000,
    )) as CheckedReceipt[];
    if (json) printJson(checked);
    else if (checked.length === 0) print('no circuit over a relay stands. See: omerta peers');
    else print(describeChecked(checked, (id) => printable(names.get(id) ?? short(id))));
    return checked;
  });
  const bad = rows.filter(({ verdict }) => verdict === 'differs' || verdict === 'invalid');
  if (bad.length > 0)
    throw new OperatorError(
      ExitCode.failure,
      'receipts',
      `${bad.length} of ${rows.length} do not agree with what this machine counted`,
      'Keep them (--json) and ask the operator of the relay',
    );
}

async function verify(text: string, json: boolean): Promise<void> {
  const { openReceipt } = await import('../../core/protocol/usage-receipt.js');
  const { nodePrimitives } = await import('../../engine/node-primitives.js');
  const { receiptContent } = await import('../../status/model/receipts.js');
  const receipt = openReceipt(nodePrimitives, Buffer.from(text.trim(), 'base64'));
  if (typeof receipt === 'string')
    throw new OperatorError(
      ExitCode.usage,
      'receipt',
      receipt === 'malformed' ? 'not a usage receipt' : 'its signature is not the one of the relay it names',
      'Copy it whole, as "omerta receipts --json" prints it',
    );
  const content = receiptContent(receipt);
  if (json) printJson(content);
  else print(describeContent([content]));
}

function describeContent(rows: readonly ReceiptContent[]): string {
  return columns([
    ['CIRCUIT', 'CALLER', 'CALLEE', 'TO CALLEE', 'TO CALLER', 'IN', 'ISSUED', 'BY'],
    ...rows.map(({ circuit, caller, callee, toCallee, toCaller, seconds, issued, relay }) => [
      circuit.slice(0, 8),
      short(caller),
      short(callee),
      usage(toCallee),
      usage(toCaller),
      formatDuration(seconds),
      issued,
      short(relay),
    ]),
  ]);
}

export function receiptsCommand(program: Command): void {
  const command = program
    .command('receipts')
    .summary('check what relays say they carried')
    .description(
      'Fetches a signed usage receipt of every circuit this machine has over a relay, or of those with ' +
        'PEER, and checks it against its own counts: packets on their way, and two in a hundred lost, are no ' +
        'difference. "restarted" means that the relay has counted since its restart only.',
    )
    .argument('[peer]', 'whose circuits')
    .option('--json', 'print as JSON, with the signed receipts')
    .action((peer: string | undefined, { json }: { json?: true }, self: Command) =>
      receipts(Context.of(self), peer, json === true),
    );
  explain(command, ['omerta receipts', 'omerta receipts laptop --json'], {
    1: 'a receipt does not agree with own counts, or is not valid',
    2: true,
    3: true,
    4: true,
    5: 'the peer is not known',
  });
  explain(
    command
      .command('verify')
      .summary('check the signature of a receipt and show it')
      .description('Checks the signature of a receipt, as --json prints it, and shows what it says.')
      .argument('<receipt>', 'base64')
      .option('--json', 'print as JSON')
      // `receipts` has an option of this name too, and takes it.
      .action((receipt: string, _: unknown, self: Command) =>
        verify(receipt, self.optsWithGlobals<{ json?: true }>().json === true),
      ),
    ['omerta receipts verify glkBFKoAAQ…'],
    { 2: 'it is not a receipt, or was changed' },
  );
}

export function relayReceiptsCommand(relay: Command): void {
  const command = relay
    .command('receipts')
    .summary('print signed receipts of the circuits over this relay')
    .description(
      'Prints what this relay has carried in each circuit, signed as its ends would be given it: all ' +
        `circuits (at most ${MOST_SIGNED}), or those PEER is an end of.`,
    )
    .argument('[peer]', 'a peer id')
    .option('--json', 'print as JSON, with the signed receipts')
    .action(async (peer: string | undefined, _: unknown, self: Command) => {
      const issued = await Context.of(self).withDaemon(
        async (client) =>
          (await client.request({ command: 'relay-receipts', peer, most: MOST_SIGNED })) as {
            content: ReceiptContent;
            receipt: string;
          }[],
      );
      if (self.optsWithGlobals<{ json?: true }>().json === true) printJson(issued);
      else print(describeContent(issued.map(({ content }) => content)));
    });
  explain(command, ['omerta relay receipts', 'omerta relay receipts omerta1… --json'], {
    2: true,
    3: true,
    4: true,
  });
}
