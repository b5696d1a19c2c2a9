// Addresses of names, asked in an inner network alone: no resolver of the machine hears of them.

import { randomInt } from 'node:crypto';
import type { InnerNetwork } from './inner-network.js';
import { addressesIn, NAME_TYPE, nameQuestion } from './name-message.js';

const PORT = 53;
const ANSWER_MS = 5000;
/** A question that is not answered is sent again. */
const REPEAT_MS = 1500;
/** Names that are asked for at the same time. */
const MAX_WAITING = 256;

export class NameResolver {
  #waiting = 0;

  /** @param server address of the resolver in that network */
  constructor(
    private readonly network: InnerNetwork,
    private readonly server: string,
    private readonly port = PORT,
  ) {}

  /** IPv4 addresses, then IPv6; empty = it has none, or nobody answers. */
  async resolve(name: string): Promise<string[]> {
    if (this.#waiting >= MAX_WAITING) return [];
    this.#waiting++;
    try {
      const found = await Promise.all([this.#ask(name, NAME_TYPE.ipv4), this.#ask(name, NAME_TYPE.ipv6)]);
      return found.flat();
    } catch {
      return []; // no socket: the network is gone
    } finally {
      this.#waiting--;
    }
  }

  /** Of one type. */
  async #ask(name: string, type: number): Promise<string[]> {
    const question = nameQuestion(randomInt(0x10000), name, type);
    if (question === undefined) return [];
    const socket = await this.network.openUdp(this.server.includes(':') ? '::' : '0.0.0.0', 0);
    return new Promise((resolve) => {
      const end = (addresses: string[]): void => {
        clearInterval(repeat);
        clearTimeout(late);
        socket.close();
        resolve(addresses);
      };
      const send = (): void => socket.send(question, this.port, this.server, () => undefined);
      const repeat = setInterval(send, REPEAT_MS);
      const late = setTimeout(() => end([]), ANSWER_MS);
      socket.on('error', () => end([]));
      socket.on('message', (message, from) => {
        if (from.address !== this.server || from.port !== this.port) return;
        const addresses = addressesIn(message, question);
        if (addresses !== undefined) end(addresses);
      });
      send();
    });
  }
}
