// WireGuard's four messages (whitepaper 5.4.2 – 5.4.6). Integers are little-endian.
//
//   initiation (148)            response (92)               cookie reply (64)       transport (32 +)
//     0  type 1, 3 zero bytes     0  type 2, 3 zero bytes     0  type 3, 3 zeros      0  type 4, 3 zeros
//     4  sender index             4  sender index             4  receiver index       4  receiver index
//     8  ephemeral      32        8  receiver index           8  nonce         24     8  counter u64
//    40  sealed static  48       12  ephemeral      32       32  sealed cookie 32    16  sealed payload
//    88  sealed time    28       44  sealed nothing 16
//   116  mac1           16       60  mac1           16
//   132  mac2           16       76  mac2           16

export const TYPE_INITIATION = 1;
export const TYPE_RESPONSE = 2;
export const TYPE_COOKIE_REPLY = 3;
export const TYPE_TRANSPORT = 4;

export const INITIATION_SIZE = 148;
export const RESPONSE_SIZE = 92;
export const COOKIE_REPLY_SIZE = 64;
export const TRANSPORT_HEADER_SIZE = 16;
export const AEAD_TAG_SIZE = 16;
/** A keepalive: an empty payload. */
export const TRANSPORT_MIN_SIZE = TRANSPORT_HEADER_SIZE + AEAD_TAG_SIZE;
/** mac1 and mac2 are the last 32 bytes of both handshake messages. */
export const MACS_SIZE = 32;

export function readU32(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
}

export function writeU32(bytes: Uint8Array, offset: number, value: number): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, value, true);
}

export function readU64(bytes: Uint8Array, offset: number): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(offset, true);
}

export function writeU64(bytes: Uint8Array, offset: number, value: bigint): void {
  new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(offset, value, true);
}

/**
 * The type of a well-formed message (reserved bytes zero, exact size for types 1 – 3, least size
 * for type 4), or undefined.
 */
export function messageType(message: Uint8Array): 1 | 2 | 3 | 4 | undefined {
  if (message.length < TRANSPORT_MIN_SIZE) return undefined;
  const type = readU32(message, 0);
  switch (type) {
    case TYPE_INITIATION:
      return message.length === INITIATION_SIZE ? type : undefined;
    case TYPE_RESPONSE:
      return message.length === RESPONSE_SIZE ? type : undefined;
    case TYPE_COOKIE_REPLY:
      return message.length === COOKIE_REPLY_SIZE ? type : undefined;
    case TYPE_TRANSPORT:
      return type;
    default:
      return undefined;
  }
}
