// Port Control Protocol (RFC 6887): the messages of a client that wants one UDP port mapped.

import { isIPv4 } from '../../wire/socket-address.js';
import { sameBytes, viewOf } from '../../wire/bytes.js';

/** Of the gateway; NAT-PMP has the same. */
export const MAPPING_PORT = 5351;
/** Where gateways announce, to all hosts, that they have forgotten (section 14.1.3). */
export const ANNOUNCE_PORT = 5350;

export const PCP_VERSION = 2;
/** Section 7: a longer message is none. */
export const MAX_PCP_SIZE = 1100;
export const PCP_NONCE_SIZE = 12;

const RESPONSE = 0x80;
const ANNOUNCE = 0;
const MAP = 1;
const HEADER_SIZE = 24;
const MAP_SIZE = 60;
const UDP = 17;

/** Section 7.4. */
const RESULTS: Readonly<Record<number, PcpResult>> = {
  0: 'success',
  1: 'unsupported-version',
  2: 'not-authorized',
  7: 'network-failure',
  8: 'no-resources',
  10: 'no-resources',
  11: 'no-resources',
  12: 'address-mismatch',
};
export type PcpResult =
  | 'success'
  | 'unsupported-version'
  | 'not-authorized'
  | 'network-failure'
  | 'no-resources'
  | 'address-mismatch'
  | 'refused';

export interface PcpMapRequest {
  /** Source address of the datagram, 16 bytes. */
  readonly client: Uint8Array;
  /** 12 random bytes, the same for as long as the mapping is wanted. */
  readonly nonce: Uint8Array;
  readonly internalPort: number;
  readonly suggestedPort: number;
  /** 16 bytes: what it was before, or zero of its family. */
  readonly suggestedIp: Uint8Array;
  /** 0 deletes the mapping. */
  readonly lifetimeSeconds: number;
}

/** Section 11.1; 60 bytes. */
export function encodePcpMapRequest(request: PcpMapRequest): Uint8Array {
  const bytes = new Uint8Array(MAP_SIZE);
  const view = viewOf(bytes);
  bytes[0] = PCP_VERSION;
  bytes[1] = MAP;
  view.setUint32(4, request.lifetimeSeconds);
  bytes.set(request.client, 8);
  bytes.set(request.nonce, HEADER_SIZE);
  bytes[36] = UDP;
  view.setUint16(40, request.internalPort);
  view.setUint16(42, request.suggestedPort);
  bytes.set(request.suggestedIp, 44);
  return bytes;
}

interface PcpHeader {
  readonly result: PcpResult;
  readonly lifetimeSeconds: number;
  /** How long the server has known what it knows (section 8.5). */
  readonly epochSeconds: number;
}

export type PcpResponse =
  | (PcpHeader & { readonly opcode: 'announce' })
  | (PcpHeader & {
      readonly opcode: 'map';
      readonly nonce: Uint8Array;
      readonly internalPort: number;
      readonly externalPort: number;
      /** 16 bytes. */
      readonly externalIp: Uint8Array;
    });

/**
 * A response of version 2 that concerns a UDP mapping or all of them; undefined for what is none (section 8.3).
 * Options behind it are not looked at: none is asked for.
 */
export function decodePcpResponse(bytes: Uint8Array): PcpResponse | undefined {
  if (bytes.length < HEADER_SIZE || bytes.length > MAX_PCP_SIZE || bytes.length % 4 !== 0) return undefined;
  const [version, operation = 0] = bytes;
  if (version !== PCP_VERSION || (operation & RESPONSE) === 0) return undefined;
  const view = viewOf(bytes);
  const header = {
    result: RESULTS[bytes[3] ?? 0] ?? 'refused',
    lifetimeSeconds: view.getUint32(4),
    epochSeconds: view.getUint32(8),
  };
  const opcode = operation & ~RESPONSE;
  if (opcode === ANNOUNCE) return { opcode: 'announce', ...header };
  if (opcode !== MAP || bytes.length < MAP_SIZE || bytes[36] !== UDP) return undefined;
  return {
    opcode: 'map',
    ...header,
    nonce: bytes.slice(HEADER_SIZE, HEADER_SIZE + PCP_NONCE_SIZE),
    internalPort: view.getUint16(40),
    externalPort: view.getUint16(42),
    externalIp: bytes.slice(44, MAP_SIZE),
  };
}

/** Whether a response answers this request and no other one (section 11.4). */
export function answersPcpRequest(
  response: Extract<PcpResponse, { opcode: 'map' }>,
  request: Pick<PcpMapRequest, 'nonce' | 'internalPort'>,
): boolean {
  return sameBytes(response.nonce, request.nonce) && response.internalPort === request.internalPort;
}

/**
 * Whether a server of NAT-PMP, or of an older PCP, says that it does not know this version (section 9): then there is
 * NAT-PMP to be tried.
 */
export function isOtherVersion(bytes: Uint8Array): boolean {
  if (bytes.length < 8 || bytes.length > MAX_PCP_SIZE) return false;
  const [version = 0, operation = 0, , result] = bytes;
  return version < PCP_VERSION && (operation & RESPONSE) !== 0 && result === 1;
}

/** No address of a family: any will do. */
export function anyAddress(like: Uint8Array): Uint8Array {
  const ip = new Uint8Array(16);
  if (isIPv4(like)) ip.fill(0xff, 10, 12);
  return ip;
}
