// What callers hand to the engine, refused with the field and the remedy named before any of it is
// applied.

import { parsePrefix } from '../../wire/prefix.js';
import { formatIp, type SocketAddress } from '../../wire/socket-address.js';
import { FRAME_MAX_SIZE, FRAME_MIN_SIZE } from '../../wire/frame.js';
import { EngineError, type EngineOptions, type PeerConfig, type SessionKey } from '../../contract/engine.js';

/** The largest payload whose transport message, wrapped in a frame, is still a UDP datagram. */
export const MAX_CONTROL_PAYLOAD = 65_456;

function refuse(message: string): never {
  throw new EngineError('BAD_ARGUMENT', message);
}

function requireInteger(field: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    refuse(`${field}: ${value} given, must be an integer from ${min} to ${max}`);
  }
}

export function requireOptions(options: EngineOptions): void {
  if (options.privateKey.length !== 32) {
    refuse(`privateKey: ${options.privateKey.length} bytes given, must be 32`);
  }
  requireInteger('port', options.port, 0, 65_535);
  requireInteger('maxLegs', options.maxLegs, 1, 2 ** 31);
  if (options.accounts !== undefined) {
    requireInteger('accounts.identities', options.accounts.identities, 1, 2 ** 22);
    requireInteger('accounts.networks', options.accounts.networks, 1, 65_536);
    requireInteger('accounts.classes', options.accounts.classes, 1, 65_536);
  }
  requireInteger('maxPeers', options.maxPeers, 1, 2 ** 31);
  requireInteger('controlFramesPerSecond', options.controlFramesPerSecond, 1, 1e9);
  requireInteger('stunPerSecond', options.stunPerSecond ?? 0, 0, 1e6);
  if (options.tun !== undefined) {
    throw new EngineError(
      'TUN_FAILED',
      'tun: this engine has no TUN interface; install the native engine (npm install with a C++ compiler), or run without a tunnel as a relay or bootstrap',
    );
  }
}

export function requireSessionKey(field: string, key: SessionKey): void {
  if (!/^[0-9a-f]{64}$/.test(key)) refuse(`${field}: '${key}' given, must be 64 lower-case hex digits`);
}

export function requireAddress(field: string, address: SocketAddress): void {
  if (address.ip.length !== 16) {
    refuse(`${field}.ip: ${address.ip.length} bytes given, must be 16 (canonical form)`);
  }
  requireInteger(`${field}.port of ${formatIp(address.ip)}`, address.port, 1, 65_535);
}

export function requirePeer(config: PeerConfig): void {
  requireSessionKey('sessionKey', config.sessionKey);
  if (config.presharedKey !== undefined && config.presharedKey.length !== 32) {
    refuse(`presharedKey: ${config.presharedKey.length} bytes given, must be 32, or undefined for none`);
  }
  requireInteger('persistentKeepalive', config.persistentKeepalive, 0, 65_535);
  for (const prefix of config.allowedIps) {
    if (parsePrefix(prefix) === undefined)
      refuse(`allowedIps: '${prefix}' is not a prefix such as 100.64.1.2/32`);
  }
  if (config.endpoint !== undefined && 'address' in config.endpoint) {
    requireAddress('endpoint', config.endpoint.address);
  }
}

export function requireControlPayload(payload: Uint8Array): void {
  if (payload.length < 1 || payload.length > MAX_CONTROL_PAYLOAD) {
    refuse(`payload: ${payload.length} bytes given, must be 1 to ${MAX_CONTROL_PAYLOAD}`);
  }
  const nibble = (payload[0] ?? 0) >> 4;
  if (nibble === 4 || nibble === 6) {
    refuse('payload: begins like an IP packet; a control frame begins with C0 (docs/protocol.md)');
  }
}

export function requireFrame(to: SocketAddress, frame: Uint8Array): void {
  requireAddress('to', to);
  if (frame.length < FRAME_MIN_SIZE || frame.length > FRAME_MAX_SIZE) {
    refuse(`frame: ${frame.length} bytes given, must be ${FRAME_MIN_SIZE} to ${FRAME_MAX_SIZE}`);
  }
}

/** Whether a text is an IP address with a prefix length. */
