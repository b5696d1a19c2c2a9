// NAT Port Mapping Protocol (RFC 6886): the messages of a client that wants one UDP port mapped.

import { viewOf } from '../../wire/bytes.js';

const VERSION = 0;
const EXTERNAL_ADDRESS = 0;
const MAP_UDP = 1;
const RESPONSE = 0x80;
const MAP_REQUEST_SIZE = 12;
const ADDRESS_RESPONSE_SIZE = 12;
const MAP_RESPONSE_SIZE = 16;
/** Shorter when it is none but a failure. */
const FAILURE_SIZE = 8;

/** Section 3.5. */
const RESULTS: Readonly<Record<number, NatPmpResult>> = {
  0: 'success',
  1: 'unsupported-version',
  2: 'not-authorized',
  3: 'network-failure',
  4: 'no-resources',
};
export type NatPmpResult =
  'success' | 'unsupported-version' | 'not-authorized' | 'network-failure' | 'no-resources' | 'refused';

/** Section 3.2. */
export function encodeExternalAddressRequest(): Uint8Array {
  return Uint8Array.of(VERSION, EXTERNAL_ADDRESS);
}

/** Section 3.3. Lifetime and suggested port 0 delete the mapping (section 3.4). */
export function encodeNatPmpMapRequest(request: {
  readonly internalPort: number;
  readonly suggestedPort: number;
  readonly lifetimeSeconds: number;
}): Uint8Array {
  const bytes = new Uint8Array(MAP_REQUEST_SIZE);
  const view = viewOf(bytes);
  bytes[1] = MAP_UDP;
  view.setUint16(4, request.internalPort);
  view.setUint16(6, request.suggestedPort);
  view.setUint32(8, request.lifetimeSeconds);
  return bytes;
}

interface NatPmpHeader {
  /** Seconds since the gateway's table was empty (section 3.6). */
  readonly epochSeconds: number;
}

export type NatPmpResponse = NatPmpHeader &
  (
    | {
        readonly opcode: 'failed';
        readonly of: 'address' | 'map';
        readonly result: Exclude<NatPmpResult, 'success'>;
      }
    /** 16 bytes, v4-mapped. */
    | { readonly opcode: 'address'; readonly externalIp: Uint8Array }
    | {
        readonly opcode: 'map';
        readonly internalPort: number;
        readonly externalPort: number;
        readonly lifetimeSeconds: number;
      }
  );

/** A response to one of the two requests; undefined for what is none. */
export function decodeNatPmpResponse(bytes: Uint8Array): NatPmpResponse | undefined {
  const [version, operation] = bytes;
  if (version !== VERSION || bytes.length < FAILURE_SIZE) return undefined;
  const isAddress = operation === (RESPONSE | EXTERNAL_ADDRESS);
  if (!isAddress && operation !== (RESPONSE | MAP_UDP)) return undefined;
  const size = isAddress ? ADDRESS_RESPONSE_SIZE : MAP_RESPONSE_SIZE;
  if (bytes.length > size) return undefined;
  const view = viewOf(bytes);
  const epochSeconds = view.getUint32(4);
  const result = RESULTS[view.getUint16(2)] ?? 'refused';
  if (result !== 'success')
    return { opcode: 'failed', of: isAddress ? 'address' : 'map', result, epochSeconds };
  if (bytes.length !== size) return undefined;
  if (isAddress) {
    const externalIp = new Uint8Array(16);
    externalIp.fill(0xff, 10, 12);
    externalIp.set(bytes.subarray(8, 12), 12);
    return { opcode: 'address', externalIp, epochSeconds };
  }
  return {
    opcode: 'map',
    epochSeconds,
    internalPort: view.getUint16(8),
    externalPort: view.getUint16(10),
    lifetimeSeconds: view.getUint32(12),
  };
}
