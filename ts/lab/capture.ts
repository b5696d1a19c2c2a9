// Packets on an interface, as tcpdump records them.

import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Node, World } from './world.js';

/** The bytes of all packets that pass `device` of `node` while `during` runs (a pcap file). */
export async function capture(
  world: World,
  node: Node,
  device: string,
  during: () => Promise<void>,
): Promise<Buffer> {
  const file = join(world.folder, `${node.name}-${device}.pcap`);
  // -U and immediate mode: every packet is in the file at once. -Z root: the folder is closed to
  // tcpdump's own user.
  const tcpdump = node.spawn('tcpdump', ['-U', '--immediate-mode', '-Z', 'root', '-i', device, '-w', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (tcpdump.stderr === null) throw new Error('tcpdump has no output');
  await once(tcpdump.stderr, 'data'); // "listening on …"
  await during();
  await setTimeout(100);
  const gone = once(tcpdump, 'exit');
  tcpdump.kill('SIGINT');
  await gone;
  return readFileSync(file);
}

/** A UDP datagram over IPv4 or IPv6 in a capture. */
export interface CapturedDatagram {
  /** 4 or 16 bytes, lower-case hex. */
  readonly source: string;
  readonly destination: string;
  /** Seconds since 1970. */
  readonly time: number;
  /** Bytes of UDP payload. */
  readonly size: number;
  /** The first of them. */
  readonly type: number;
}

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const ETHERNET_HEADER = 14;
const UDP = 17;

/** The UDP datagrams in a pcap file of an Ethernet interface; fragments are left out. */
export function capturedDatagrams(pcap: Buffer): CapturedDatagram[] {
  const found: CapturedDatagram[] = [];
  for (let at = FILE_HEADER; at + RECORD_HEADER <= pcap.length;) {
    const time = pcap.readUInt32LE(at) + pcap.readUInt32LE(at + 4) / 1e6;
    const end = at + RECORD_HEADER + pcap.readUInt32LE(at + 8);
    const datagram = datagramIn(pcap.subarray(at + RECORD_HEADER, end));
    if (datagram !== undefined) found.push({ ...datagram, time });
    at = end;
  }
  return found;
}

function datagramIn(frame: Buffer): Omit<CapturedDatagram, 'time'> | undefined {
  const ip = frame.subarray(ETHERNET_HEADER);
  const isIpv4 = frame.readUInt16BE(ETHERNET_HEADER - 2) === 0x0800;
  if (!isIpv4 && frame.readUInt16BE(ETHERNET_HEADER - 2) !== 0x86dd) return undefined;
  const header = isIpv4 ? (ip.readUInt8(0) & 15) * 4 : 40;
  if (isIpv4 && (ip.readUInt16BE(6) & 0x1fff) !== 0) return undefined;
  if (ip.readUInt8(isIpv4 ? 9 : 6) !== UDP || ip.length < header + 9) return undefined;
  return {
    source: ip.subarray(isIpv4 ? 12 : 8, isIpv4 ? 16 : 24).toString('hex'),
    destination: ip.subarray(isIpv4 ? 16 : 24, isIpv4 ? 20 : 40).toString('hex'),
    size: ip.readUInt16BE(header + 4) - 8,
    type: ip.readUInt8(header + 8),
  };
}
