// The network of a virtual machine: a member of its own, by whose exit the machine leaves.

import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../daemon/control/control-client.js';
import { loadNetworks, selectNetwork } from '../daemon/state/network-files.js';
import type { Network } from '../core/protocol/network.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { NETWORK_SCRIPT } from '../provider/image/guest-image.js';
import type { MachineHost, MachineRequest } from '../provider/machine/machine-host.js';
import type { Machine } from '../provider/machine/machine.js';
import { MachineMember } from '../provider/member/machine-member.js';
import { leaveBy } from './commands/exit.js';
import type { Context } from './context.js';

/** Until the records of a network are there, and with them the names of its members. */
const KNOWN_MS = 20_000;
const POLL_MS = 200;

/** The network a machine is to be in; undefined: none. @throws OperatorError */
export function networkOf(
  context: Context,
  { exit, network }: { readonly exit?: string; readonly network?: string },
): Network | undefined {
  if (exit === undefined && network === undefined) return undefined;
  return selectNetwork(loadNetworks(context.state), network);
}

/** @throws OperatorError */
export function startMember(context: Context, network: Network): Promise<MachineMember> {
  return MachineMember.start({ folder: context.state.machines, network });
}

/** Starts a machine whose network device leads to the member; without one it has none. @throws OperatorError */
export async function startMachine(
  host: MachineHost,
  member: MachineMember | undefined,
  request: MachineRequest,
): Promise<Machine> {
  if (member === undefined) return host.start(request);
  try {
    return await host.start({ ...request, network: await member.connect() });
  } catch (error) {
    await member.stop();
    throw error;
  }
}

/** The machine gets the addresses of its member, which leaves by the exit from then on. @throws OperatorError */
export async function joinMesh(
  machine: Machine,
  member: MachineMember,
  exit: string | undefined,
): Promise<void> {
  if (exit !== undefined) await Promise.race([leave(member, exit), machine.gone]);
  const [network] = (await member.status()).mesh.networks;
  const words = [NETWORK_SCRIPT, network?.ipv6 ?? ''];
  const { status } = await machine.run({ words, output: process.stderr, errors: process.stderr });
  if (status === 0) return;
  throw new OperatorError(
    ExitCode.failure,
    'virtual machine',
    'it got no address from its member of the network',
    'Type: omerta doctor',
  );
}

/** Its name is known once a relay has told of the members. */
async function leave(member: MachineMember, exit: string): Promise<void> {
  const client = await ControlClient.connect(member.state.socket);
  const deadline = performance.now() + KNOWN_MS;
  try {
    for (;;) {
      try {
        await leaveBy(client, exit);
        return;
      } catch (error) {
        const isUnknown = error instanceof OperatorError && error.field === 'peer';
        if (!isUnknown || performance.now() > deadline) throw error;
      }
      await sleep(POLL_MS);
    }
  } finally {
    client.close();
  }
}
