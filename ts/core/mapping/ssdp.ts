// Finding the gateway's UPnP description (SSDP, UPnP Device Architecture 1.1, section 1.3). Anybody on the LAN
// may answer a search; an answer counts when it comes from the gateway and leads to the gateway.

import { utf8, sameBytes } from '../../wire/bytes.js';
import { parseIp } from '../../wire/socket-address.js';

export const SSDP_PORT = 1900;
export const SSDP_GROUP = '239.255.255.250';
/** A longer answer is none. */
export const MAX_SEARCH_ANSWER = 2048;
const MAX_PATH = 512;

/** A page of the gateway's; which host it is on is not said, because there is one only. */
export interface GatewayPage {
  readonly port: number;
  /** Begins with `/`. */
  readonly path: string;
}

/** @param host whom it is sent to, `address:port`. */
export function encodeSearch(host: string): Uint8Array {
  const lines = [
    'M-SEARCH * HTTP/1.1',
    `HOST: ${host}`,
    'MAN: "ssdp:discover"',
    'MX: 1',
    'ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1',
  ];
  return utf8(`${lines.join('\r\n')}\r\n\r\n`);
}

/** Where an answer to a search says the description is; undefined when it is none, or leads elsewhere. */
export function decodeSearchAnswer(bytes: Uint8Array, gateway: Uint8Array): GatewayPage | undefined {
  if (bytes.length > MAX_SEARCH_ANSWER) return undefined;
  const [status, ...lines] = latin1(bytes).split('\r\n');
  if (status === undefined || !/^HTTP\/1\.[01] 200(?: |$)/.test(status)) return undefined;
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (line.slice(0, colon).trim().toLowerCase() === 'location')
      return pageOf(line.slice(colon + 1).trim(), gateway);
  }
  return undefined;
}

/**
 * The page of an `http` URL whose host is the gateway's address in digits. Names, user parts and other spellings
 * of an address are refused: two readings of one URL would be a way to another host.
 */
export function pageOf(url: string, gateway: Uint8Array): GatewayPage | undefined {
  const match = /^http:\/\/([0-9.]{7,15})(?::(\d{1,5}))?(\/.*)?$/i.exec(url);
  if (match === null) return undefined;
  const [, host = '', digits = '80', path = '/'] = match;
  const ip = parseIp(host);
  const port = Number(digits);
  if (ip === undefined || !sameBytes(ip, gateway) || port < 1 || port > 65_535 || !isPath(path))
    return undefined;
  return { port, path };
}

/** Whether it can stand in a request line. */
export function isPath(text: string): boolean {
  return text.length <= MAX_PATH && /^\/[\x21\x22\x24-\x7e]*$/.test(text);
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
