// The legs of the relay benchmark: the numbers bench/native/legs.h derives, for the relay's table.

import { encodeFrame, FrameKind, HOP_LIMIT_DEFAULT } from '../ts/wire/frame.js';
import { UNCHARGED, type Leg } from '../ts/wire/leg.js';
import { parseIp, type SocketAddress } from '../ts/wire/socket-address.js';

export const FIRST_CLIENT_PORT = 40000;
export const FIRST_SERVER_PORT = 50000;
/** Where the client has its control leg to the relay. */
export const CONTROL_PORT = 41000;
const EPOCH = 1;
const NEXT_EPOCH = 2;

export interface LegPlan {
  readonly clientIp: string;
  readonly serverIp: string;
  /** Client ports; leg i comes from port i mod flows. */
  readonly flows: number;
  /** Server ports, a power of two; the low bits of a leg's id choose one. */
  readonly destinations: number;
}

/** Ids as a relay chooses them: the first 2^k have homes of their own in a table of 2^k legs. */
function legId(i: number): number {
  let h = Math.imul(i + 1, 0x9e3779b1);
  h ^= Math.imul(h, 0x85ebca6a);
  h = Math.imul(h, 0xc2b2ae35);
  h ^= Math.imul(h, 0x27d4eb2e);
  h = ((h & 0x55555555) << 1) | ((h >>> 1) & 0x55555555);
  h = ((h & 0x33333333) << 2) | ((h >>> 2) & 0x33333333);
  h = ((h & 0x0f0f0f0f) << 4) | ((h >>> 4) & 0x0f0f0f0f);
  h = ((h & 0x00ff00ff) << 8) | ((h >>> 8) & 0x00ff00ff);
  return ((h << 16) | (h >>> 16)) >>> 0;
}

/** Room for this many legs and the control leg, in a table where all of them are at home. */
export const slotsFor = (legs: number): number => 2 ** Math.ceil(Math.log2(legs + 1));

function legKey(id: number): Uint8Array {
  const key = new DataView(new ArrayBuffer(16));
  [0, 0x9e3779b9, 0x85ebca6b, 0xc2b2ae35].forEach((word, at) => key.setUint32(at * 4, id ^ word, true));
  return new Uint8Array(key.buffer);
}

function addressOf(ip: string, port: number): SocketAddress {
  const bytes = parseIp(ip);
  if (bytes === undefined) throw new Error(`"${ip}" is not an IP address`);
  return { ip: bytes, port };
}

/** Legs `first` to `end` (not included). */
export function benchLegs(plan: LegPlan, first: number, end: number): Leg[] {
  const legs: Leg[] = [];
  for (let i = first; i < end; i++) {
    const id = legId(i);
    const nextId = (id ^ 0x5a5a5a5a) >>> 0;
    legs.push({
      id,
      key: legKey(id),
      epoch: EPOCH,
      action: 'forward',
      source: addressOf(plan.clientIp, FIRST_CLIENT_PORT + (i % plan.flows)),
      next: {
        address: addressOf(plan.serverIp, FIRST_SERVER_PORT + (id & (plan.destinations - 1))),
        id: nextId,
        key: legKey(nextId),
        epoch: NEXT_EPOCH,
      },
      lifetimeMs: undefined,
      charging: UNCHARGED,
    });
  }
  return legs;
}

/** A number whose lower bits are all ones, the last in a table of any size. */
const CONTROL_LEG = legId(2 ** 20 - 1);

export function controlLeg(clientIp: string): Leg {
  return {
    ...{ id: CONTROL_LEG, key: legKey(CONTROL_LEG), epoch: EPOCH, action: 'control' },
    source: addressOf(clientIp, CONTROL_PORT),
    ...{ next: undefined, lifetimeMs: undefined, charging: UNCHARGED },
  };
}

/** What the client asks on its control leg; the relay of the benchmark sends it back as it is. */
export function controlFrame(payload: Uint8Array): Uint8Array {
  return encodeFrame({
    ...{ kind: FrameKind.probe, hopLimit: HOP_LIMIT_DEFAULT, epoch: EPOCH },
    ...{ legId: CONTROL_LEG, key: legKey(CONTROL_LEG), payload },
  });
}
