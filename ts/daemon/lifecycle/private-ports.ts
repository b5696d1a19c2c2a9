// What [socks] and [[forward]] of the configuration say, while the daemon runs: a proxy and ports that lead into the private
// network, and from there to the machine. What does not change goes on.

import type { Logger } from 'pino';
import type { PrivatePort } from '../config/private-ports-configuration.js';
import { forwardPort, type OpenPort } from '../../exit/forwarding.js';
import { hostsIn } from '../../exit/private-hosts.js';
import type { InnerNetwork } from '../../exit/inner-network.js';
import { readSocksPassword } from '../../exit/socks-password.js';
import type { SocksPassword } from '../../exit/socks-protocol.js';
import { SocksServer } from '../../exit/socks-server.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import type { DaemonStatus, PrivatePortStatus } from '../../status/model/daemon-status.js';
import { formatIp, parseSocketAddress } from '../../wire/socket-address.js';

export interface PrivatePortsOptions {
  readonly network: InnerNetwork;
  readonly status: () => DaemonStatus;
  readonly log: Logger;
  /** Path of the configuration, for messages. */
  readonly source: string;
}

/** One that is wanted, with what is asked of its clients. */
interface Wanted {
  readonly port: PrivatePort;
  readonly password: SocksPassword | undefined;
}

/** What makes one the same, wherever it is in the file. */
const keyOf = ({ port, password }: Wanted): string => JSON.stringify([{ ...port, field: '' }, password]);

export class PrivatePorts {
  readonly #options: PrivatePortsOptions;
  readonly #hosts: (host: string) => Promise<readonly string[]>;
  /** What is open, by key. */
  readonly #open = new Map<string, { readonly wanted: Wanted; readonly port: OpenPort }>();
  #busy: Promise<void> = Promise.resolve();

  constructor(options: PrivatePortsOptions) {
    this.#options = options;
    this.#hosts = hostsIn(options.network, options.status);
  }

  /** From now on these. @throws OperatorError naming the key of one that cannot be; then all is as it was */
  configure(ports: readonly PrivatePort[]): Promise<void> {
    const done = this.#busy.then(() => this.#change(ports));
    this.#busy = done.catch(() => undefined);
    return done;
  }

  /** Those that are open. */
  get ports(): readonly PrivatePort[] {
    return [...this.#open.values()].map(({ wanted }) => wanted.port);
  }

  status(): PrivatePortStatus[] {
    return [...this.#open.values()].map(({ wanted: { port, password }, port: { counts } }) =>
      port.kind === 'socks'
        ? { kind: port.kind, listen: port.listen, hasPassword: password !== undefined, ...counts }
        : { kind: port.kind, side: port.side, spec: port.text, udp: port.udp, ...counts },
    );
  }

  close(): void {
    for (const { port } of this.#open.values()) port.close();
    this.#open.clear();
  }

  async #change(ports: readonly PrivatePort[]): Promise<void> {
    const wanted = ports.map(withPassword);
    const keys = new Set(wanted.map(keyOf));
    // What goes leaves its port to what comes.
    const gone = [...this.#open].filter(([key]) => !keys.has(key));
    for (const [key, { port }] of gone) {
      port.close();
      this.#open.delete(key);
    }
    const fresh = wanted.filter((each) => !this.#open.has(keyOf(each)));
    try {
      for (const each of fresh) await this.#begin(each);
    } catch (error) {
      for (const each of fresh) {
        this.#open.get(keyOf(each))?.port.close();
        this.#open.delete(keyOf(each));
      }
      for (const [, former] of gone)
        await this.#begin(former.wanted).catch((failure: unknown) =>
          this.#options.log.error({ error: messageOf(failure) }, 'port-not-opened-again'),
        );
      throw error;
    }
  }

  async #begin(wanted: Wanted): Promise<void> {
    const key = keyOf(wanted);
    if (this.#open.has(key)) return; // it is in the file twice
    const { port } = wanted;
    const opened = await this.#served(wanted).catch((error: unknown) => {
      throw new OperatorError(
        ExitCode.failure,
        port.field,
        `the port of ${described(port)} cannot be taken (${messageOf(error)})`,
        `End what has it, or write another in ${this.#options.source}`,
      );
    });
    this.#open.set(key, { wanted, port: opened });
    this.#options.log.info({ port: described(port) }, 'port-open');
  }

  async #served({ port, password }: Wanted): Promise<OpenPort> {
    const { network } = this.#options;
    if (port.kind === 'forward') return forwardPort(port, network, this.#hosts);
    const address = parseSocketAddress(port.listen);
    if (address === undefined) throw new Error(port.listen); // the configuration has checked it
    const server = new SocksServer({ network, resolve: this.#hosts, password });
    await server.listen(formatIp(address.ip), address.port);
    return server;
  }
}

/** @throws OperatorError where the file of the password cannot be read */
function withPassword(port: PrivatePort): Wanted {
  const file = port.kind === 'socks' ? port.passwordFile : undefined;
  const password = file === undefined ? undefined : readSocksPassword('config socks.password_file', file);
  return { port, password };
}

const described = (port: PrivatePort): string =>
  port.kind === 'socks' ? `SOCKS at ${port.listen}` : `${port.side} ${port.text}${port.udp ? ' (UDP)' : ''}`;
