// Reads the native engine's event ring in place (layout: native/engine/event_ring.h). The only copy
// made is of payloads that outlive the call.

import { faultWords } from './accelerators.js';
import type { EngineEvent, PeerEndpoint, SessionKey } from '../../contract/engine.js';
import { PROBE_TOKEN_SIZE, type LocalSource, type PathEnds } from '../../contract/path-control.js';
import { isZero } from '../../wire/bytes.js';
import type { SocketAddress } from '../../wire/socket-address.js';

const HEADER = 64;
const ENDS_SIZE = 48;
/** `enum class EventType` of event_ring.h; 0 is padding at the end of the ring. */
const Type = {
  frame: 1,
  control: 2,
  session: 3,
  endpoint: 4,
  pathNeeded: 5,
  sessionLost: 6,
  interfaceGone: 7,
  interfaceUp: 8,
  interfaceDown: 9,
  acceleratorDemoted: 10,
  routingLoop: 11,
  acceleratorRestored: 12,
  addressesChanged: 13,
  probeAnswer: 14,
  probeFrom: 15,
  pathArrival: 16,
  pathSilent: 17,
  pathHeard: 18,
  pathReport: 19,
} as const;

export class EventRingReader {
  readonly #positions: Int32Array;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #capacity: number;

  constructor(memory: ArrayBuffer) {
    this.#positions = new Int32Array(memory, 0, 2);
    this.#bytes = new Uint8Array(memory, HEADER);
    this.#view = new DataView(memory, HEADER);
    this.#capacity = memory.byteLength - HEADER;
  }

  /** Everything written so far, in order. */
  drain(): EngineEvent[] {
    const events: EngineEvent[] = [];
    // Atomics: a record is complete before the head that covers it, on every architecture.
    const head = Atomics.load(this.#positions, 0) >>> 0;
    let tail = Atomics.load(this.#positions, 1) >>> 0;
    while (tail !== head) {
      const at = tail % this.#capacity;
      const size = this.#view.getUint32(at, true);
      const event = this.#read(this.#view.getUint16(at + 4, true), at + 8);
      if (event !== undefined) events.push(event);
      tail = (tail + size) >>> 0;
    }
    Atomics.store(this.#positions, 1, tail | 0);
    return events;
  }

  #read(type: number, at: number): EngineEvent | undefined {
    switch (type) {
      case Type.frame:
        return {
          type: 'frame',
          from: this.#address(at),
          leg: this.#view.getUint32(at + 20, true),
          frame: this.#blob(at + 24),
        };
      case Type.control:
        return { type: 'control', peer: this.#key(at), payload: this.#blob(at + 32) };
      case Type.session:
        return { type: 'session', peer: this.#key(at), endpoint: this.#endpoint(at + 32) };
      case Type.endpoint:
        return { type: 'endpoint', peer: this.#key(at), endpoint: this.#endpoint(at + 32) };
      case Type.pathNeeded:
        return { type: 'path-needed', peer: this.#key(at) };
      case Type.sessionLost:
        return { type: 'session-lost', peer: this.#key(at) };
      case Type.interfaceGone:
        return { type: 'interface-gone' };
      case Type.interfaceUp:
        return { type: 'interface-up' };
      case Type.addressesChanged:
        return { type: 'addresses-changed' };
      case Type.interfaceDown:
        return { type: 'interface-down' };
      case Type.acceleratorDemoted: {
        const [name = '', fault = ''] = Buffer.from(this.#blob(at)).toString().split('\n');
        return { type: 'accelerator-demoted', name, reason: faultWords(name, fault) };
      }
      case Type.acceleratorRestored:
        return { type: 'accelerator-restored', name: Buffer.from(this.#blob(at)).toString() };
      case Type.routingLoop:
        return { type: 'routing-loop', to: this.#address(at) };
      default:
        return this.#readPathEvent(type, at);
    }
  }

  #readPathEvent(type: number, at: number): EngineEvent | undefined {
    const peer = this.#key(at);
    const body = at + 32;
    const path = (): number => this.#view.getUint32(body, true);
    switch (type) {
      case Type.probeAnswer: {
        const answer = body + ENDS_SIZE;
        const observed = this.#address(answer + 16);
        return {
          type: 'probe-answer',
          peer,
          token: this.#bytes.slice(answer, answer + PROBE_TOKEN_SIZE),
          at: this.#ends(body),
          rttMs: Number(this.#view.getBigInt64(answer + 8, true)) / 1e6,
          observed: observed.port === 0 ? undefined : observed,
          size: this.#view.getUint16(answer + 34, true),
        };
      }
      case Type.probeFrom:
        return { type: 'probe-from', peer, from: this.#ends(body) };
      case Type.pathArrival: {
        const id = this.#view.getUint32(body + ENDS_SIZE, true);
        return { type: 'path-arrival', peer, path: id === 0 ? undefined : id, from: this.#ends(body) };
      }
      case Type.pathSilent:
        return { type: 'path-silent', peer, path: path() };
      case Type.pathHeard:
        return { type: 'path-heard', peer, path: path() };
      case Type.pathReport: {
        const sent = Number(this.#view.getBigUint64(body + 8, true));
        const received = Number(this.#view.getBigUint64(body + 16, true));
        return { type: 'path-report', peer, path: path(), sent, received };
      }
      default:
        return undefined;
    }
  }

  #key(at: number): SessionKey {
    return Buffer.from(this.#bytes.subarray(at, at + 32)).toString('hex');
  }

  #blob(at: number): Uint8Array {
    return this.#bytes.slice(at + 4, at + 4 + this.#view.getUint32(at, true));
  }

  #address(at: number): SocketAddress {
    return { ip: this.#bytes.slice(at, at + 16), port: this.#view.getUint16(at + 16, true) };
  }

  /** native/engine/path_events.h */
  #ends(at: number): PathEnds {
    const ip = this.#bytes.slice(at + 24, at + 40);
    const port = this.#view.getUint16(at + 44, true);
    const local: LocalSource | undefined = isZero(ip)
      ? undefined
      : { ip, interface: this.#view.getUint32(at + 40, true), ...(port !== 0 && { port }) };
    return { remote: this.#endpoint(at), local };
  }

  #endpoint(at: number): PeerEndpoint {
    const leg = this.#view.getUint32(at + 20, true);
    return leg !== 0 ? { leg } : { address: this.#address(at) };
  }
}
