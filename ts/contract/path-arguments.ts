// What callers hand to an engine's PathControl, refused with the field and the remedy named before any of it
// is applied. Every engine takes the same.

import { EngineError } from './engine.js';
import type { SocketAddress } from '../wire/socket-address.js';
import {
  MAX_EXTRA_PORTS,
  MAX_PATHS_PER_PEER,
  MAX_PROBE_RULES,
  MAX_SHARE,
  MIN_PLPMTU,
  PROBE_TOKEN_SIZE,
  type PathEnds,
  type PathProbe,
  type PeerPaths,
  type ProbeRule,
} from './path-control.js';

const MAX_DATAGRAM = 65_535;
const MAX_INTERFACE = 0x7fff_ffff;

function refuse(message: string): never {
  throw new EngineError('BAD_ARGUMENT', message);
}

function requireInteger(field: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max)
    refuse(`${field}: ${value} given, must be an integer from ${min} to ${max}`);
}

function requireTime(field: string, milliseconds: number): void {
  if (!(milliseconds >= 0 && milliseconds <= 3_600_000))
    refuse(`${field}: ${milliseconds} given, must be from 0 to 3600000 ms`);
}

function requireIp(field: string, ip: Uint8Array): void {
  if (ip.length !== 16) refuse(`${field}: ${ip.length} bytes given, must be 16 (canonical form)`);
}

function requireEnds({ remote, local }: PathEnds): void {
  if ('address' in remote) {
    requireIp('remote.address.ip', remote.address.ip);
    requireInteger('remote.address.port', remote.address.port, 1, 65_535);
  } else requireInteger('remote.leg', remote.leg, 1, 0xffff_ffff);
  if (local === undefined) return;
  requireIp('local.ip', local.ip);
  requireInteger('local.interface', local.interface, 0, MAX_INTERFACE);
  if (local.port !== undefined) requireInteger('local.port', local.port, 1, 65_535);
}

/** @throws EngineError BAD_ARGUMENT */
export function requirePorts(ports: readonly SocketAddress[]): void {
  if (ports.length > MAX_EXTRA_PORTS)
    refuse(`ports: ${ports.length} given, at most ${MAX_EXTRA_PORTS} are possible`);
  const seen = new Set<number>();
  for (const { ip, port } of ports) {
    requireIp('ports.ip', ip);
    requireInteger('ports.port', port, 1, 65_535);
    if (seen.has(port)) refuse(`ports: ${port} is given twice, each must be once`);
    seen.add(port);
  }
}

function requireProbeRules(rules: readonly ProbeRule[]): void {
  if (rules.length > MAX_PROBE_RULES)
    refuse(`probeRules: ${rules.length} given, at most ${MAX_PROBE_RULES} are possible`);
  for (const { local, from } of rules) {
    if (local !== undefined) requireIp('probeRules.local', local);
    if (from === undefined) continue;
    requireIp('probeRules.from.ip', from.ip);
    requireInteger('probeRules.from.length', from.length, 0, from.family === 4 ? 32 : 128);
  }
}

/** @throws EngineError BAD_ARGUMENT */
export function requirePaths(sets: readonly PeerPaths[]): void {
  for (const { peer, paths = [], control, probeRules = [], ...times } of sets) {
    if (paths.length > MAX_PATHS_PER_PEER)
      refuse(`paths of ${peer}: ${paths.length} given, at most ${MAX_PATHS_PER_PEER} are possible`);
    const seen = new Set<number>();
    for (const path of paths) {
      requireInteger(`id of a path of ${peer}`, path.id, 1, 255);
      if (seen.has(path.id)) refuse(`paths of ${peer}: id ${path.id} is given twice, each must be once`);
      seen.add(path.id);
      requireEnds(path);
      if (path.share !== undefined) requireInteger('share', path.share, 1, MAX_SHARE);
      if (path.plpmtu !== undefined) requireInteger('plpmtu', path.plpmtu, MIN_PLPMTU, MAX_DATAGRAM);
    }
    if (control !== undefined && !seen.has(control))
      refuse(`control: ${control} given, must be the id of one of the paths of ${peer}`);
    requireProbeRules(probeRules);
    requireTime('silentAfterMs', times.silentAfterMs);
    requireTime('leastRoundTripMs', times.leastRoundTripMs);
    requireTime('silentBetweenReportsMs', times.silentBetweenReportsMs);
    requireTime('reportEveryMs', times.reportEveryMs);
  }
}

/** @throws EngineError BAD_ARGUMENT */
export function requireProbes(probes: readonly PathProbe[]): void {
  for (const { token, to, size } of probes) {
    if (token.length !== PROBE_TOKEN_SIZE)
      refuse(`token: ${token.length} bytes given, must be ${PROBE_TOKEN_SIZE}`);
    requireInteger('size', size, 0, MAX_DATAGRAM);
    requireEnds(to);
  }
}
