// What is said to an Internet Gateway Device (UPnP IGD:1 and IGD:2) to have one UDP port mapped: which of its
// services does it, the actions, and what came of them. Its XML is looked through for a few elements, not parsed:
// no entity is expanded, nothing is fetched, and the work grows with the length alone.

import { parseIp } from '../../wire/socket-address.js';
import { isPath, pageOf, type GatewayPage } from './ssdp.js';

/** Bytes of a page of the gateway's that are read. */
export const MAX_GATEWAY_PAGE = 65_536;
const MAX_SERVICES = 64;
/** Services that are tried, one after the other. */
const MAX_TRIED = 3;

/** One of the gateway's services that map ports. */
export interface IgdService {
  readonly control: GatewayPage;
  readonly type: string;
}

/** Names of the services that map IPv4 ports. */
const SERVICE_TYPE = /^urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[12]$/;

/** The services of a device description, in its order; those whose address leads elsewhere are left out. */
export function igdServices(
  description: string,
  described: GatewayPage,
  gateway: Uint8Array,
): readonly IgdService[] {
  if (description.length > MAX_GATEWAY_PAGE) return [];
  const base = textOf(description, 'URLBase');
  const from = (base === undefined ? undefined : pageOf(base, gateway)) ?? described;
  const services: IgdService[] = [];
  let at = 0;
  for (let looked = 0; looked < MAX_SERVICES && services.length < MAX_TRIED; looked++) {
    const begin = description.indexOf('<service>', at);
    const end = begin < 0 ? -1 : description.indexOf('</service>', begin);
    if (end < 0) break;
    at = end;
    const service = description.slice(begin, end);
    const type = textOf(service, 'serviceType');
    const control = resolved(textOf(service, 'controlURL'), from, gateway);
    if (type !== undefined && SERVICE_TYPE.test(type) && control !== undefined)
      services.push({ control, type });
  }
  return services;
}

/** Action on a service, with its arguments in order. */
export interface IgdAction {
  readonly name: 'GetExternalIPAddress' | 'AddPortMapping' | 'DeletePortMapping';
  readonly arguments: readonly (readonly [name: string, value: string | number])[];
}

export const externalAddressAction: IgdAction = { name: 'GetExternalIPAddress', arguments: [] };

export function addMappingAction(mapping: {
  readonly externalPort: number;
  readonly internalPort: number;
  /** In text. */
  readonly client: string;
  /** 0 = for good. */
  readonly leaseSeconds: number;
}): IgdAction {
  return {
    name: 'AddPortMapping',
    arguments: [
      ['NewRemoteHost', ''],
      ['NewExternalPort', mapping.externalPort],
      ['NewProtocol', 'UDP'],
      ['NewInternalPort', mapping.internalPort],
      ['NewInternalClient', mapping.client],
      ['NewEnabled', 1],
      ['NewPortMappingDescription', 'omerta'],
      ['NewLeaseDuration', mapping.leaseSeconds],
    ],
  };
}

export function deleteMappingAction(externalPort: number): IgdAction {
  return {
    name: 'DeletePortMapping',
    arguments: [
      ['NewRemoteHost', ''],
      ['NewExternalPort', externalPort],
      ['NewProtocol', 'UDP'],
    ],
  };
}

/** The value of the header SOAPAction. */
export function soapAction({ type }: IgdService, { name }: IgdAction): string {
  return `"${type}#${name}"`;
}

/** The body of a request (SOAP 1.1). Values are ours: numbers and addresses, which need no escape. */
export function soapBody({ type }: IgdService, action: IgdAction): string {
  const values = action.arguments.map(([name, value]) => `<${name}>${value}</${name}>`).join('');
  return (
    '<?xml version="1.0"?>\r\n' +
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" ' +
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>' +
    `<u:${action.name} xmlns:u="${type}">${values}</u:${action.name}>` +
    '</s:Body></s:Envelope>\r\n'
  );
}

/** Errors that something can be done about (WANIPConnection:1, section 2.4.16; IGD:2, 2.5.16). */
export const IgdError = {
  notAuthorized: 606,
  conflict: 718,
  onlyPermanentLeases: 725,
} as const;

/** The error code of a refused action; undefined when there is none to be read. */
export function igdErrorCode(body: string): number | undefined {
  const text = textOf(body, 'errorCode');
  return text !== undefined && /^\d{1,4}$/.test(text) ? Number(text) : undefined;
}

/** 16 bytes; undefined when the answer has none. */
export function externalAddressOf(body: string): Uint8Array | undefined {
  const text = textOf(body, 'NewExternalIPAddress');
  return text === undefined || text.includes(':') ? undefined : parseIp(text);
}

/** What stands between the first `<name>` and the next tag, without space around it. */
function textOf(xml: string, name: string): string | undefined {
  const open = `<${name}>`;
  const begin = xml.indexOf(open);
  if (begin < 0) return undefined;
  const end = xml.indexOf('<', begin + open.length);
  if (end < 0 || !xml.startsWith(`</${name}`, end)) return undefined;
  return xml.slice(begin + open.length, end).trim();
}

function resolved(url: string | undefined, from: GatewayPage, gateway: Uint8Array): GatewayPage | undefined {
  if (url === undefined || url === '') return undefined;
  const plain = url.replaceAll('&amp;', '&');
  if (/^[a-z][a-z0-9+.-]*:/i.test(plain)) return pageOf(plain, gateway);
  if (plain.startsWith('//')) return pageOf(`http:${plain}`, gateway);
  const folder = from.path.slice(0, from.path.lastIndexOf('/') + 1);
  const path = plain.startsWith('/') ? plain : folder + plain;
  return isPath(path) ? { port: from.port, path } : undefined;
}
