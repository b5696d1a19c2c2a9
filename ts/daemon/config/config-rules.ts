// What the configuration file and the command line have in common: which values are valid, and how that is
// said. Without the schema, whose library takes a command longer to load than all it does.

import { decodePeerId } from '../../core/protocol/peer-id.js';

export const DEFAULT_PORT = 51900;
export const DEFAULT_STATUS_ADDRESS = '127.0.0.1:9090';
export const DEFAULT_SOCKS_ADDRESS = '127.0.0.1:1080';
/**
 * Inner MTU: a 1500-byte path less IPv6 (40), UDP (8), the Omerta frame of a relayed packet (16) and
 * WireGuard (32) leaves 1404; its padding never exceeds the inner MTU.
 */
export const DEFAULT_MTU = 1400;

export function isPeerId(value: string): boolean {
  try {
    return decodePeerId(value).length === 32;
  } catch {
    return false;
  }
}

/** `host:port` of the status page: an IP address with a port. */
export const STATUS_ADDRESS_RULE = 'an address and port such as "127.0.0.1:9090" or "[::1]:9090", or "off"';
export const ANNOUNCE_RULE =
  'an address and port others can send to, such as "203.0.113.7:51900" or "[2001:db8::7]:51900"';
export const ENDPOINT_RULE = 'an address and port such as "203.0.113.7:51900" or "[2001:db8::7]:51900"';
export const BIND_RULE = 'an IP address of this machine such as "192.0.2.1" or "::"';
export const PORT_RULE = 'a UDP port, a whole number from 1 to 65535';
export const ENGINE_RULE = '"auto", "native" or "wasm"';
export const IO_RULE = '"auto", "mmsg" or "io_uring"';
export const ACCEL_RULE = '"auto", "xdp", "native" or "wasm"';
export const ACCEL_MODE_RULE = '"native" or "generic"';
export const NAME_RULE = '1 to 63 of a-z, 0-9 and "-"';
export const PATHS_RULE = '"any", "direct-only" or "relay-only"';
export const PADDING_RULE = '"off", "buckets", "constant" or "constant-rate"';
export const PADDING_BUDGET_RULE =
  'bytes of padding for 100 bytes of data, a whole number from 1 to 100000, or "none"';
/** Ways of asking the gateway for a port; `auto`: one after the other. */
export const PORT_MAPPING_CHOICES = ['auto', 'pcp', 'nat-pmp', 'upnp', 'off'] as const;
export const PORT_MAPPING_RULE = '"auto", "pcp", "nat-pmp", "upnp" or "off"';
export const INTERFACE_RULE = 'an interface name, 1 to 15 of a-z, A-Z, 0-9, "_", "-" and "."';

export const isInterfaceName = (value: string): boolean => /^[a-zA-Z0-9_.-]{1,15}$/.test(value);

export const CONSENT_NETWORKS_RULE =
  '"own" (members of all your networks), or a list of names of your networks';
export const CONSENT_RULE =
  '"own", the name of a network (1 to 63 of a-z, 0-9 and "-"), or a peer id ("omerta1…")';
export const UNTIL_RULE = 'a time in UTC such as "2026-12-31T12:00:00Z", or a day such as "2026-12-31"';

/** Seconds since 1970; undefined when the text is no time. */
export function parseUntil(value: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?Z)?$/.test(value)) return undefined;
  const milliseconds = Date.parse(value);
  return milliseconds > 0 ? Math.floor(milliseconds / 1000) : undefined;
}
