// What a virtual machine's network device writes and reads, without a machine: frames over the unix socket QEMU would
// connect to, well-behaved ones and every kind that goes nowhere.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { DEFAULT_GUEST_MAC, GUEST_GATEWAY, parseMac } from '../contract/guest-control.js';
import { parseIp } from '../wire/socket-address.js';

const bytes = (...some: readonly (number | Uint8Array)[]): Buffer =>
  Buffer.concat(some.map((part) => (typeof part === 'number' ? Buffer.of(part) : part)));
const word = (value: number): Buffer => Buffer.of((value >> 8) & 255, value & 255);
const station = (text: string): Buffer =>
  Buffer.from(parseMac(text) ?? Buffer.from(text.replaceAll(':', ''), 'hex'));
const ip = (text: string): Buffer => {
  const parsed = Buffer.from(parseIp(text) ?? new Uint8Array(16));
  return text.includes(':') ? parsed : parsed.subarray(12);
};

export const GUEST = station(DEFAULT_GUEST_MAC);
export const GATEWAY = Buffer.from(GUEST_GATEWAY.mac.replaceAll(':', ''), 'hex');
const EVERYBODY = Buffer.alloc(6, 0xff);
const GROUP6 = Buffer.from('333300000001', 'hex');

function sum(data: Buffer, start = 0): number {
  let total = start;
  for (let at = 0; at < data.length; at += 2) total += ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return total;
}

export function ethernet(type: number, payload: Buffer, to: Buffer = GATEWAY, from: Buffer = GUEST): Buffer {
  return bytes(to, from, word(type), payload);
}

/** @param fragment flags and offset */
export function ipv4(from: string, to: string, protocol: number, body: Buffer, fragment = 0x4000): Buffer {
  const packet = bytes(
    Buffer.of(0x45, 0),
    word(20 + body.length),
    word(1),
    word(fragment),
    Buffer.of(64, protocol, 0, 0),
    ip(from),
    ip(to),
    body,
  );
  packet.writeUInt16BE(0xffff - sum(packet.subarray(0, 20)), 10);
  return packet;
}

export function ipv6(from: string, to: string, next: number, body: Buffer): Buffer {
  const packet = bytes(
    Buffer.of(0x60, 0, 0, 0),
    word(body.length),
    Buffer.of(next, 255),
    ip(from),
    ip(to),
    body,
  );
  if (next !== 58) return packet;
  packet.writeUInt16BE(0, 42);
  packet.writeUInt16BE(0xffff - sum(packet.subarray(40), sum(packet.subarray(8, 40), 58 + body.length)), 42);
  return packet;
}

/** With no checksum, as IPv4 permits, or with one. */
export function udp(from: number, to: number, payload: Buffer): Buffer {
  return bytes(word(from), word(to), word(8 + payload.length), word(0), payload);
}

export function arp(operation: number, sender: string, target: string, from: Buffer = GUEST): Buffer {
  return bytes(Buffer.of(0, 1, 8, 0, 6, 4), word(operation), from, ip(sender), Buffer.alloc(6), ip(target));
}

const solicitation = (target: string): Buffer => bytes(Buffer.of(135, 0, 0, 0, 0, 0, 0, 0), ip(target));

export interface RogueFrame {
  /** As the engine counts it: `drop_guest_KIND`. */
  readonly kind: string;
  readonly what: string;
  readonly frame: Buffer;
}

/** Addresses of the machine, and of a member it has a session with. */
export interface MachineAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
  readonly member4: string;
  readonly member6: string;
}

/** Every kind of frame that must not leave, each counted by its kind. */
export function rogueFrames({ ipv4: own4, ipv6: own6, member4, member6 }: MachineAddresses): RogueFrame[] {
  const marked = udp(7000, 7000, Buffer.from('rogue'));
  const good = ipv4(own4, member4, 17, marked);
  const spoiled = (at: number, value: number): Buffer => {
    const packet = Buffer.from(good);
    packet[at] = value;
    return packet;
  };
  const v4 = (packet: Buffer, to?: Buffer): Buffer => ethernet(0x0800, packet, to);
  const v6 = (packet: Buffer, to?: Buffer): Buffer => ethernet(0x86dd, packet, to);
  const all: readonly (readonly [kind: string, what: string, frame: Buffer])[] = [
    ['spoofed_mac', 'from another station', ethernet(0x0800, good, GATEWAY, station('52:54:00:00:00:01'))],
    ['spoofed_mac', 'from the gateway', ethernet(0x0800, good, GATEWAY, GATEWAY)],
    ['spoofed_mac', 'ARP of another', ethernet(0x0806, arp(1, own4, GUEST_GATEWAY.ipv4, GATEWAY), EVERYBODY)],
    ['spoofed_ip', 'IPv4 of the member', v4(ipv4(member4, member4, 17, marked))],
    ['spoofed_ip', 'IPv4 of a LAN', v4(ipv4('192.168.1.2', member4, 17, marked))],
    ['spoofed_ip', 'IPv4 of nobody', v4(ipv4('0.0.0.0', member4, 17, marked))],
    ['spoofed_ip', 'IPv6 of the member', v6(ipv6(member6, member6, 17, marked))],
    ['spoofed_ip', 'IPv6 of the gateway', v6(ipv6(GUEST_GATEWAY.ipv6, member6, 17, marked))],
    ['spoofed_ip', 'ARP: it is the gateway', ethernet(0x0806, arp(2, GUEST_GATEWAY.ipv4, own4), EVERYBODY)],
    ['other_station', 'to another station', v4(good, station('52:54:00:00:00:01'))],
    ['other_station', 'to all, for the member', v4(good, EVERYBODY)],
    ['other_type', 'VLAN', ethernet(0x8100, bytes(word(1), word(0x0800), good))],
    ['other_type', '802.3', ethernet(60, Buffer.alloc(60))],
    ['other_type', 'PPPoE', ethernet(0x8863, Buffer.alloc(40))],
    ['malformed', 'no header', ethernet(0x0800, Buffer.alloc(0))],
    ['malformed', 'half an Ethernet header', Buffer.alloc(9)],
    ['malformed', 'version 5', v4(spoiled(0, 0x55))],
    ['malformed', 'header of 16 bytes', v4(spoiled(0, 0x44))],
    ['malformed', 'checksum', v4(spoiled(8, 63))],
    ['malformed', 'longer than it is', v4(spoiled(2, 9))],
    ['malformed', 'loopback', v4(ipv4(own4, '127.0.0.1', 17, marked))],
    ['malformed', 'IPv6 in a frame of IPv4', v4(ipv6(own6, member6, 17, marked))],
    [
      'malformed',
      'extension header without end',
      v6(ipv6(own6, member6, 0, Buffer.of(17, 200, 0, 0, 0, 0, 0, 0))),
    ],
    [
      'malformed',
      'ARP of half a size',
      ethernet(0x0806, arp(1, own4, GUEST_GATEWAY.ipv4).subarray(0, 20), EVERYBODY),
    ],
    ['oversized', 'jumbo', v4(ipv4(own4, member4, 17, udp(1, 2, Buffer.alloc(9000))))],
    ['oversized', '64 KiB', v4(ipv4(own4, member4, 17, udp(1, 2, Buffer.alloc(65_000))))],
    ['fragment', 'ping of death', v4(ipv4(own4, member4, 1, Buffer.alloc(600), 0x1fff))],
    ['fragment', 'half a TCP header', v4(ipv4(own4, member4, 6, Buffer.alloc(8), 0x2000))],
    [
      'fragment',
      'IPv6, beyond its end',
      v6(ipv6(own6, member6, 44, bytes(Buffer.of(17, 0, 0xff, 0xf8, 0, 0, 0, 1), Buffer.alloc(64)))),
    ],
    ['arp_scan', 'the member', ethernet(0x0806, arp(1, own4, member4), EVERYBODY)],
    ['arp_scan', 'a LAN', ethernet(0x0806, arp(1, own4, '192.168.1.1'), EVERYBODY)],
    ['neighbour_scan', 'the member', v6(ipv6(own6, 'ff02::1:ff00:9', 58, solicitation(member6)), GROUP6)],
    ['neighbour_scan', 'a link-local address', v6(ipv6(own6, 'fe80::9', 17, marked))],
    ['router', 'it is a router', v6(ipv6('fe80::2', 'ff02::1', 58, bytes(134, Buffer.alloc(15))), GROUP6)],
    ['router', 'redirect', v6(ipv6('fe80::2', own6, 58, bytes(137, Buffer.alloc(39))))],
    [
      'dhcp',
      'an offer of its own',
      v4(ipv4('0.0.0.0', '255.255.255.255', 17, udp(67, 67, Buffer.alloc(300))), EVERYBODY),
    ],
    [
      'gateway',
      'its port for names',
      v4(ipv4(own4, GUEST_GATEWAY.ipv4, 17, udp(5000, 53, Buffer.alloc(20)))),
    ],
    ['gateway', 'TCP', v6(ipv6(own6, GUEST_GATEWAY.ipv6, 6, Buffer.alloc(20)))],
    ['multicast', 'broadcast', v4(ipv4(own4, '255.255.255.255', 17, marked), EVERYBODY)],
    [
      'multicast',
      'OSPF',
      v4(ipv4(own4, '224.0.0.5', 89, Buffer.alloc(24)), Buffer.from('01005e000005', 'hex')),
    ],
    ['multicast', 'IPv6, worldwide', v6(ipv6(own6, 'ff0e::1234', 17, marked), GROUP6)],
  ];
  return all.map(([kind, what, frame]) => ({ kind, what, frame }));
}

/** What an innocent system says to its link. */
export function innocentNoise({ ipv4: own4, ipv6: own6, member6 }: MachineAddresses): Buffer[] {
  return [
    ethernet(0x0806, arp(1, own4, own4), EVERYBODY),
    ethernet(0x86dd, ipv6('fe80::2', member6, 58, bytes(128, Buffer.alloc(7)))),
    ethernet(0x0800, ipv4(own4, '224.0.0.251', 17, udp(5353, 5353, Buffer.alloc(20)))),
    ethernet(0x86dd, ipv6('::', 'ff02::16', 58, bytes(143, Buffer.alloc(27))), GROUP6),
    ethernet(0x86dd, ipv6('::', 'ff02::1:ff00:2', 58, solicitation(own6)), GROUP6),
  ];
}

/** QEMU's end of the socket. */
export class MachineDevice {
  readonly frames: Buffer[] = [];
  isEnded = false;
  #read = Buffer.alloc(0);

  private constructor(readonly socket: Socket) {
    socket.on('data', (data) => {
      this.#read = Buffer.concat([this.#read, data]);
      while (this.#read.length >= 4 && this.#read.length >= 4 + this.#read.readUInt32BE(0)) {
        const end = 4 + this.#read.readUInt32BE(0);
        this.frames.push(this.#read.subarray(4, end));
        this.#read = this.#read.subarray(end);
      }
    });
    const ended = (): void => {
      this.isEnded = true;
    };
    socket.on('close', ended).on('error', ended);
  }

  static async connect(path: string): Promise<MachineDevice> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new MachineDevice(socket);
  }

  send(...frames: readonly Buffer[]): void {
    for (const frame of frames) {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      this.socket.write(Buffer.concat([length, frame]));
    }
  }

  close(): void {
    this.socket.destroy();
  }
}
