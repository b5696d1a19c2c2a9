// What is shown of the virtual machine at a member's inside: what its socket counted, and what the gateway made of it.

import { guestDrops, guestFramesJudged, type GuestSocket } from '../../contract/guest-control.js';
import type { MachineStatus } from '../../status/model/daemon-status.js';

/** A frame is counted by the socket first, and by the gateway at once after: between the two there is one at most. */
const UNDER_WAY = 1;

/** @param counters of the engine that has the socket, asked for once */
export function machineStatus(
  socket: GuestSocket,
  mac: string,
  counters: () => ReadonlyMap<string, number>,
): MachineStatus {
  const before = socket.counts().framesRead;
  const counted = counters();
  const counts = socket.counts();
  const judged = guestFramesJudged(counted);
  return {
    path: socket.path,
    mac,
    ...counts,
    passed: counted.get('guest_passed') ?? 0,
    answered: counted.get('guest_answered') ?? 0,
    noise: counted.get('guest_noise') ?? 0,
    drops: guestDrops(counted),
    agrees: judged >= before - UNDER_WAY && judged <= counts.framesRead,
  };
}
