// The exit of a member that may change nothing and make no network: what guests send ends in a TCP/IP stack of the
// engine's own, and goes on by sockets of the machine.

import type { Socket as UdpSocket } from 'node:dgram';
import { isIPv6, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Engine } from '../contract/engine.js';
import type { StackControl, StackGuest, StackNames } from '../contract/exit-control.js';
import { ExitCode, messageOf, OperatorError } from '../host/operator-error.js';
import type { DnsNetworks } from './dns-forwarder.js';
import { ExitBesideHost } from './exit-beside-host.js';
import type { ExitWish } from './exit-host.js';
import type { GatewayCounts } from './gateway-messages.js';
import { machineNetwork, type InnerNetwork } from './inner-network.js';

const LOOPBACK = '127.0.0.1';

export interface StackExitOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** The one that runs; undefined = none does yet. */
  readonly engine: () => Engine | undefined;
}

export class StackExit extends ExitBesideHost {
  readonly backend = 'stack';
  readonly names: DnsNetworks;
  readonly done = Promise.resolve();
  readonly #options: StackExitOptions;
  readonly #doors = new NameDoors((names) => {
    this.#attempt((stack) => stack.setNames(names));
  });
  #isServing = false;
  /** What of the exit is served. */
  #families: readonly (4 | 6)[] = [];
  /** What which engine was told last. */
  #told: { readonly stack: StackControl; readonly text: string } | undefined;

  constructor(options: StackExitOptions) {
    super(options.now);
    this.#options = options;
    this.names = { guests: this.#doors, resolvers: machineNetwork };
  }

  get isChanged(): boolean {
    return this.#isServing;
  }

  get gateway(): GatewayCounts | undefined {
    const counts = this.#isServing ? this.#stack?.counts() : undefined;
    return counts && { tcp: counts.tcp, udp: counts.udp, refused: counts.refused };
  }

  override capped(): Promise<Readonly<Record<string, number>>> {
    const counts = this.#isServing ? this.#stack?.counts() : undefined;
    if (counts === undefined) return Promise.resolve({});
    const { flowsTooFast, datagramsTooFast } = counts;
    return Promise.resolve({ capped_rate: flowsTooFast, capped_datagrams: datagramsTooFast });
  }

  set({ serving, using, routing }: ExitWish): Promise<void> {
    const refusal = refusalOf(serving?.chain === true, using !== undefined, routing?.accepted.length ?? 0);
    if (refusal !== undefined) return Promise.reject(refusal);
    this.#families = ([4, 6] as const).filter((family) => serving?.[`ipv${family}`] === true);
    this.#isServing = serving !== undefined || (routing?.advertised.length ?? 0) > 0;
    this.tellGuests();
    return this.done;
  }

  setInUse(): Promise<void> {
    return this.done;
  }

  /** Rights end, and another engine may run. */
  async check(): Promise<boolean> {
    this.tellGuests();
    await this.done;
    return false;
  }

  clear(): Promise<void> {
    this.#isServing = false;
    this.tellGuests();
    return this.done;
  }

  protected tellGuests(): void {
    const of = (kind: 'exit' | 'lan'): string[] => (this.#isServing ? this.guestAddresses(kind) : []);
    const exit = new Set(of('exit').filter((address) => this.#families.includes(isIPv6(address) ? 6 : 4)));
    const lan = new Set(of('lan'));
    const addresses = [...new Set([...exit, ...lan])];
    this.#doors.keep(addresses);
    const guests: StackGuest[] = addresses.map((address) => ({
      address,
      exit: exit.has(address),
      lan: lan.has(address),
      asksFrom: this.#doors.seenAs(address),
    }));
    const stack = this.#stack;
    const text = JSON.stringify(guests);
    if (stack === undefined || (this.#told?.stack === stack && this.#told.text === text)) return;
    this.#attempt(() => {
      if (this.#told?.stack !== stack) stack.setNames(this.#doors.names);
      stack.setGuests(guests);
      this.#told = { stack, text };
    });
  }

  get #stack(): StackControl | undefined {
    return this.#options.engine()?.exit?.stack;
  }

  /** An engine that has been closed takes nothing; the next one is told. */
  #attempt(tell: (stack: StackControl) => void): void {
    const stack = this.#stack;
    if (stack === undefined) return;
    try {
      tell(stack);
      this.error = undefined;
    } catch (error) {
      this.error = `the stack was not told (${messageOf(error)})`;
    }
  }
}

/** Why something has no meaning where no program of the machine sends by the mesh. */
function refusalOf(chain: boolean, isUsing: boolean, accepted: number): OperatorError | undefined {
  if (chain)
    return new OperatorError(
      ExitCode.usage,
      '--chain',
      'what the stack forwards leaves by the machine, and not by the exit this member uses',
      'Leave it out, or serve with an interface of the machine: sudo omerta up',
    );
  if (!isUsing && accepted === 0) return undefined;
  return new OperatorError(
    ExitCode.failure,
    isUsing ? 'exit' : 'route',
    'this member has no interface and no private network, so no program could leave by it',
    'For one that has: omerta down, then sudo omerta up, or omerta up --no-tun (omerta doctor says what it needs)',
  );
}

/**
 * Where guests ask for names: ports of the loopback interface that the stack leads their questions to. It asks as
 * each guest from an address of 127.0.0.0/8 of the guest's own, so that they are told apart.
 */
class NameDoors implements InnerNetwork {
  readonly #ports = new Map<string, { readonly udp: number; readonly tcp: number }>();
  readonly #numbers = new Map<string, number>();

  constructor(private readonly changed: (names: readonly StackNames[]) => void) {}

  get names(): readonly StackNames[] {
    return [...this.#ports].map(([address, ports]) => ({ address, ...ports }));
  }

  /** Nothing begins there. */
  connect(address: string, port: number): Socket {
    throw new Error(`${address} ${port}: nothing is reached by the stack from here`);
  }

  async openUdp(address: string): Promise<UdpSocket> {
    const socket = await machineNetwork.openUdp(LOOPBACK, 0);
    this.#opened(address, 'udp', socket.address().port, socket);
    return socket;
  }

  async listen(server: Server, address: string): Promise<void> {
    await machineNetwork.listen(server, LOOPBACK, 0);
    this.#opened(address, 'tcp', (server.address() as AddressInfo).port, server);
  }

  seenAs(guest: string): string {
    let number = this.#numbers.get(guest);
    if (number === undefined) {
      const taken = new Set(this.#numbers.values());
      for (number = 1; taken.has(number);) number++;
      this.#numbers.set(guest, number);
    }
    return `127.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
  }

  /** These alone are guests. */
  keep(guests: readonly string[]): void {
    const kept = new Set(guests);
    for (const guest of this.#numbers.keys()) if (!kept.has(guest)) this.#numbers.delete(guest);
  }

  #opened(address: string, kind: 'udp' | 'tcp', port: number, listener: UdpSocket | Server): void {
    this.#set(address, kind, port);
    listener.once('close', () => {
      // Another may have taken its place.
      if (this.#ports.get(address)?.[kind] === port) this.#set(address, kind, 0);
    });
  }

  #set(address: string, kind: 'udp' | 'tcp', port: number): void {
    const ports = { ...(this.#ports.get(address) ?? { udp: 0, tcp: 0 }), [kind]: port };
    if (ports.udp === 0 && ports.tcp === 0) this.#ports.delete(address);
    else this.#ports.set(address, ports);
    this.changed(this.names);
  }
}
