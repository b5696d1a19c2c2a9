// A client of the flooded relay: asks on its control leg and by STUN as somebody would who keeps a circuit,
// and counts the answers. Runs in the client's namespace; prints one line of JSON (ControlReport).

import { createSocket } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { percentile } from '../ts/lab/statistics.js';
import { FRAME_HEADER_SIZE } from '../ts/wire/frame.js';
import { CONTROL_PORT, controlFrame } from './relay-legs.js';

export interface ControlReport {
  readonly sent: number;
  readonly answered: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly stunSent: number;
  readonly stunAnswered: number;
}

const INTERVAL_MS = 20;
/** Of the questions, one in this many is a STUN request: fewer than the relay answers to one prefix. */
const STUN_EVERY = 5;
const LAST_ANSWER_MS = 1_000;

const { values } = parseArgs({
  options: {
    relay: { type: 'string', default: '' },
    port: { type: 'string', default: '0' },
    'duration-ms': { type: 'string', default: '1000' },
  },
});

const socket = createSocket({ type: 'udp4', lookup: (address, _options, done) => done(null, address, 4) });
const asked = new Map<string, number>();
const roundTripsMs: number[] = [];
let [sent, stunSent, stunAnswered] = [0, 0, 0];

socket.on('message', (reply) => {
  if (reply.readUInt16BE(0) === 0x0101) {
    stunAnswered++;
    return;
  }
  const question = reply.toString('hex', FRAME_HEADER_SIZE);
  const at = asked.get(question);
  if (at === undefined) return;
  asked.delete(question);
  roundTripsMs.push(performance.now() - at);
});

function ask(turn: number): void {
  if (turn % STUN_EVERY === 0) {
    // RFC 8489: a binding request without attributes.
    const request = Buffer.concat([Buffer.from('000100002112a442', 'hex'), randomBytes(12)]);
    socket.send(request, Number(values.port), values.relay);
    stunSent++;
    return;
  }
  const payload = randomBytes(16);
  asked.set(payload.toString('hex'), performance.now());
  socket.send(controlFrame(payload), Number(values.port), values.relay);
  sent++;
}

socket.bind(CONTROL_PORT, () => {
  const turns = Math.ceil(Number(values['duration-ms']) / INTERVAL_MS);
  let turn = 0;
  const timer = setInterval(() => {
    ask(turn++);
    if (turn < turns) return;
    clearInterval(timer);
    setTimeout(() => {
      const report: ControlReport = {
        sent,
        answered: roundTripsMs.length,
        p50Ms: percentile(roundTripsMs, 0.5) ?? NaN,
        p99Ms: percentile(roundTripsMs, 0.99) ?? NaN,
        stunSent,
        stunAnswered,
      };
      console.log(JSON.stringify(report));
      socket.close();
    }, LAST_ANSWER_MS);
  }, INTERVAL_MS);
});
