// Questions for addresses of names, and what an answer says (RFC 1035, RFC 3596).

import { formatIp } from '../wire/socket-address.js';

export const NAME_TYPE = { ipv4: 1, ipv6: 28 } as const;
const CLASS_INTERNET = 1;
const HEADER_BYTES = 12;
/** Of one answer that are looked at. */
const MAX_RECORDS = 128;

const MAX_LABEL_BYTES = 63;
const MAX_NAME_CHARACTERS = 253;

/** A question for the addresses of a name; undefined = there can be no such name (RFC 1035, section 2.3.4). */
export function nameQuestion(id: number, text: string, type: number): Uint8Array | undefined {
  const name = text.replace(/\.$/, '');
  const isName =
    name.length <= MAX_NAME_CHARACTERS &&
    name.split('.').every((label) => label.length > 0 && label.length <= MAX_LABEL_BYTES);
  if (!isName) return undefined;
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label, 'latin1')]);
  // RD: recursion is desired.
  const header = [id >> 8, id & 0xff, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
  return Uint8Array.of(...header, ...labels, 0, 0, type, 0, CLASS_INTERNET);
}

/** Where a name that begins there ends; undefined = beyond the message. */
function endOfName(message: Uint8Array, at: number): number | undefined {
  for (let place = at; ;) {
    const length = message[place];
    if (length === undefined) return undefined;
    if (length === 0) return place + 1;
    if ((length & 0xc0) === 0xc0) return place + 2; // a pointer is the last of a name
    if ((length & 0xc0) !== 0) return undefined;
    place += 1 + length;
  }
}

/** The addresses an answer holds; undefined = it answers no such question. */
export function addressesIn(message: Uint8Array, question: Uint8Array): string[] | undefined {
  const asked = question.subarray(HEADER_BYTES);
  const isAnswer =
    message.length >= question.length &&
    message[0] === question[0] &&
    message[1] === question[1] &&
    ((message[2] ?? 0) & 0x80) !== 0 &&
    sameQuestion(message.subarray(HEADER_BYTES, question.length), asked);
  if (!isAnswer) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const type = (asked[asked.length - 4] ?? 0) * 256 + (asked[asked.length - 3] ?? 0);
  const found: string[] = [];
  let at = question.length;
  for (let left = Math.min(view.getUint16(6), MAX_RECORDS); left > 0; left--) {
    const fields = endOfName(message, at);
    if (fields === undefined || fields + 10 > message.length) break;
    const size = view.getUint16(fields + 8);
    const data = message.subarray(fields + 10, fields + 10 + size);
    if (data.length < size) break;
    at = fields + 10 + size;
    if (view.getUint16(fields) !== type || view.getUint16(fields + 2) !== CLASS_INTERNET) continue;
    if (size !== (type === NAME_TYPE.ipv4 ? 4 : 16)) continue;
    const ip = new Uint8Array(16);
    if (size === 4) ip.set([0xff, 0xff], 10);
    ip.set(data, 16 - size);
    found.push(formatIp(ip));
  }
  return found;
}

/** Some resolvers answer with the name in other letters. */
function sameQuestion(given: Uint8Array, asked: Uint8Array): boolean {
  const lower = (byte: number | undefined): number =>
    byte !== undefined && byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : (byte ?? -1);
  return given.length === asked.length && asked.every((byte, index) => lower(given[index]) === lower(byte));
}
