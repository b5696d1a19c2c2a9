// Transport messages (messages.ts): written by `sealTransport` alone, whatever they carry.

import type { Keypair } from './keypair.js';
import {
  AEAD_TAG_SIZE,
  TRANSPORT_HEADER_SIZE,
  TYPE_TRANSPORT,
  readU64,
  writeU32,
  writeU64,
} from './messages.js';
import { open, seal } from './primitives.js';

/** Payloads are padded to a multiple of this (whitepaper 5.4.6). */
const PADDING = 16;

/** A message with `payload` under the next counter of `keypair`, which must be one that can send. */
export function sealTransport(keypair: Keypair, payload: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(payload.length / PADDING) * PADDING);
  padded.set(payload);
  const message = new Uint8Array(TRANSPORT_HEADER_SIZE + padded.length + AEAD_TAG_SIZE);
  const counter = keypair.sendCounter++;
  writeU32(message, 0, TYPE_TRANSPORT);
  writeU32(message, 4, keypair.remoteIndex);
  writeU64(message, 8, counter);
  message.set(seal(keypair.keys.sending, counter, padded), TRANSPORT_HEADER_SIZE);
  return message;
}

/** The payload of a message, padding included, or why there is none. A counter is taken once. */
export function openTransport(
  keypair: Keypair,
  message: Uint8Array,
): Uint8Array | 'decrypt_failed' | 'replayed' {
  const counter = readU64(message, 8);
  const payload = open(keypair.keys.receiving, counter, message.subarray(TRANSPORT_HEADER_SIZE));
  if (payload === undefined) return 'decrypt_failed';
  return keypair.window.accept(counter) ? payload : 'replayed';
}
