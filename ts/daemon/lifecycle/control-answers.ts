// What the daemon answers to each command on its control socket (control/control-request.ts).

import { performance } from 'node:perf_hooks';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import type { RelayStatus } from '../../core/runtime/mesh-status.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import type { DaemonMode, DaemonStatus } from '../../status/model/daemon-status.js';
import { checkedReceipt, issuedReceipt, type CheckedReceipt } from '../../status/model/receipts.js';
import { relayAccounts, type RelayAccountsStatus } from '../../status/model/relay-accounts.js';
import { carriedCircuits, type CarriedCircuits } from '../../status/model/relay-circuits.js';
import { wordCoreError } from '../../status/model/wording.js';
import type { ConfigurationChange } from '../config/relay-configuration.js';
import type { ControlRequest } from '../control/control-request.js';
import { networkNames } from './daemon-snapshot.js';
import type { Exits } from './exits.js';
import type { Mesh } from './mesh.js';
import type { RelayDraining } from './relay-draining.js';

/** What the daemon itself answers, without a question to another node. */
const ANSWER_TIMEOUT_MS = 5000;

/** The daemon, as far as commands ask it. */
export interface AnsweringDaemon {
  readonly mode: DaemonMode;
  readonly mesh: Mesh;
  /** Undefined: it is a relay. */
  readonly exits: Exits | undefined;
  status(): DaemonStatus;
  readonly draining: RelayDraining;
  /** How long its end may take for clients that move to other relays. */
  readonly drainSeconds: number;
  /** Ends once the answer is on its way. @param unload whether the kernel path goes too */
  end(unload: boolean): void;
  reloadNetworks(): Promise<void>;
  reloadConfiguration(): Promise<ConfigurationChange>;
}

/** @throws OperatorError */
export async function answerControl(request: ControlRequest, daemon: AnsweringDaemon): Promise<unknown> {
  switch (request.command) {
    case 'status':
      return daemon.status();
    case 'down':
      daemon.end(request.unload === true);
      return { pid: process.pid, drainSeconds: daemon.drainSeconds };
    case 'reload-networks':
      await daemon.reloadNetworks();
      return null;
    case 'reload-configuration':
      return daemon.reloadConfiguration();
    case 'relay-accounts':
      return accountsOf(daemon.mesh);
    case 'receipts':
      return receipts(daemon.mesh, request.peer, request.timeoutMs);
    case 'relay-circuits':
      return circuitsOf(daemon.mesh);
    case 'relay-drain':
      return { pid: process.pid, drain: daemon.draining.begin(request.seconds, request.stay) };
    case 'relay-undrain':
      daemon.draining.undo();
      return null;
    case 'relay-receipts':
      return signedReceipts(daemon, request.peer, request.most);
    case 'exit-status':
      return exitsOf(daemon).report();
    case 'exit-serve':
      await exitsOf(daemon).serve(request.serve);
      return exitsOf(daemon).report();
    case 'exit-use':
      await exitsOf(daemon).use(request.use);
      return exitsOf(daemon).report();
    case 'exit-grant':
      await exitsOf(daemon).grant(request.grant);
      return exitsOf(daemon).report();
    case 'exit-revoke':
      return exitsOf(daemon).revoke(request.subject);
    case 'exit-off':
      await exitsOf(daemon).off(request);
      return exitsOf(daemon).report();
    case 'route-list':
      return exitsOf(daemon).routes.report(request.ask);
    case 'route-advertise':
      await exitsOf(daemon).routes.advertise(request.advertise);
      return exitsOf(daemon).routes.report(false);
    case 'route-accept':
      await exitsOf(daemon).routes.accept(request.accept);
      return exitsOf(daemon).routes.report(false);
    case 'route-off':
      await exitsOf(daemon).routes.off(request);
      return exitsOf(daemon).routes.report(false);
    case 'ping':
      return { rttMs: (await ping(daemon.mesh, request.peer, request.timeoutMs)) ?? null };
  }
}

function exitsOf({ exits }: AnsweringDaemon): Exits {
  if (exits !== undefined) return exits;
  throw new OperatorError(
    ExitCode.usage,
    'exit',
    'this machine runs as a relay, which has no interface that traffic could leave by',
    'Type it on a member: omerta up',
  );
}

async function ping({ shell }: Mesh, peer: string, timeoutMs: number): Promise<number | undefined> {
  try {
    return await shell.ping(decodePeerId(peer), timeoutMs);
  } catch (error) {
    throw unreachable(peer, error);
  }
}

async function receipts(
  { shell }: Mesh,
  peer: string | undefined,
  timeoutMs: number,
): Promise<CheckedReceipt[]> {
  const identity = peer === undefined ? undefined : peerIdOf(peer);
  const fetched = shell.answered((node, token, step) => node.fetchReceipts(identity, token, step), timeoutMs);
  const answer = await fetched.catch((error: unknown) => {
    throw unreachable(peer ?? 'the members', error);
  });
  if (answer?.type === 'receipts') return answer.reports.map(checkedReceipt);
  throw new OperatorError(
    ExitCode.unreachable,
    'receipts',
    `no relay answered within ${timeoutMs / 1000} s`,
    'See the state of the relays: omerta status',
  );
}

/** @param next what a member types instead */
function notARelay(next: string): OperatorError {
  return new OperatorError(
    ExitCode.usage,
    'relay',
    'this machine runs as a member',
    `Type it on the relay; here: ${next}`,
  );
}

function relayOf({ shell }: Mesh): { relay: RelayStatus; networks: ReadonlyMap<string, string> } {
  const { relay, networks } = shell.status();
  if (relay === undefined) throw notARelay('omerta peers');
  return { relay, networks: networkNames({ networks }) };
}

function accountsOf(mesh: Mesh): RelayAccountsStatus {
  const { relay, networks } = relayOf(mesh);
  return relayAccounts(relay.accounts, mesh.shell.engine, networks);
}

function circuitsOf(mesh: Mesh): CarriedCircuits {
  const { relay, networks } = relayOf(mesh);
  return carriedCircuits(relay.circuits, mesh.shell.engine.legs(), networks, performance.now());
}

async function signedReceipts(
  { mode, mesh }: AnsweringDaemon,
  peer: string | undefined,
  most: number,
): Promise<ReturnType<typeof issuedReceipt>[]> {
  if (mode !== 'relay') throw notARelay('omerta receipts');
  const identity = peer === undefined ? undefined : peerIdOf(peer);
  const answer = await mesh.shell.answered(
    (node, token, step) => node.signReceipts(identity, most, token, step),
    ANSWER_TIMEOUT_MS,
  );
  return answer?.type === 'signed-receipts' ? answer.receipts.map(issuedReceipt) : [];
}

/** @throws OperatorError */
function peerIdOf(text: string): Uint8Array {
  try {
    return decodePeerId(text);
  } catch (error) {
    const worded = wordCoreError(error);
    if (worded === undefined) throw error;
    throw new OperatorError(ExitCode.usage, 'peer', worded.what, worded.next);
  }
}

/** What the core says of a member that is asked for. */
function unreachable(peer: string, error: unknown): OperatorError {
  const { what, next } = wordCoreError(error) ?? { what: messageOf(error), next: 'Type: omerta peers' };
  return new OperatorError(ExitCode.unreachable, 'peer', `${peer}: ${what}`, next);
}
