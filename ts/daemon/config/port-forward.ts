// A port that leads into a private network, or from it to the machine, as it is typed and written: `[ADDRESS:]PORT:HOST:PORT`.

import { parseIp } from '../../wire/socket-address.js';

/** `local`: a port of this machine leads to a host in the mesh; `remote`: one of this member in the mesh to a host here. */
export type ForwardSide = 'local' | 'remote';

/** What is forwarded where. */
export interface ForwardSpec {
  /** Address it is taken at. */
  readonly bind: string;
  readonly port: number;
  /** Where it goes: a name or an address. */
  readonly host: string;
  readonly hostPort: number;
}

export const FORWARD_RULE = '[ADDRESS:]PORT:HOST:PORT, IPv6 addresses in brackets, such as "8080:server:80"';
export const FORWARD_OPEN_RULE =
  'an ADDRESS of this machine: at that one everybody would be let in who reaches it';

const ANY = { 4: '0.0.0.0', 6: '::' } as const;
const DEFAULT_BIND = { local: '127.0.0.1', remote: ANY[4] } as const;
const PORT = /^\d{1,5}$/;

const portOf = (text: string | undefined, least: number): number | undefined => {
  const port = text !== undefined && PORT.test(text) ? Number(text) : NaN;
  return port >= least && port <= 65_535 ? port : undefined;
};

/** As ssh(1) writes it, IPv6 addresses in brackets; undefined when it is none. */
export function parseForward(text: string, bind: string): ForwardSpec | undefined {
  const written = text.match(/\[[^[\]]+\]|[^:[\]]+/g) ?? [];
  if (written.join(':') !== text || written.length < 3 || written.length > 4) return undefined;
  const fields = written.map((field) => field.replace(/^\[(.*)\]$/, '$1'));
  const [host, hostPort] = [fields.at(-2), portOf(fields.at(-1), 1)];
  const port = portOf(fields.at(-3), 0);
  const at = fields.length === 4 ? fields[0] : bind;
  if (port === undefined || hostPort === undefined || !host || !at || parseIp(at) === undefined)
    return undefined;
  return { bind: at, port, host, hostPort };
}

const isAny = (address: string): boolean =>
  parseIp(address)?.every((byte, index) => byte === 0 || (index > 9 && index < 12 && byte === 0xff)) ?? false;

/** What is wrong with it; undefined = nothing. */
export function whyNoForward(side: ForwardSide, text: string): string | undefined {
  const spec = parseForward(text, DEFAULT_BIND[side]);
  if (spec === undefined) return FORWARD_RULE;
  return side === 'local' && isAny(spec.bind) ? FORWARD_OPEN_RULE : undefined;
}

/** The ports that are taken for it, of a text that is one: members come by either family. */
export function forwardSpecs(side: ForwardSide, text: string): readonly ForwardSpec[] {
  const spec = parseForward(text, DEFAULT_BIND[side]);
  if (spec === undefined) return [];
  return side === 'remote' && spec.bind === ANY[4] ? [spec, { ...spec, bind: ANY[6] }] : [spec];
}
