// The gateway of an exit without root: a thread that ends what guests send in the private network, and goes on by sockets of
// the machine.

import { closeSync } from 'node:fs';
import { MessageChannel, Worker } from 'node:worker_threads';
import type {
  DatagramReaderStart,
  FromGateway,
  GatewayCounts,
  GatewayStart,
  GuestRules,
  ToGateway,
} from './gateway-messages.js';
import { GATEWAY_REMOVED, GATEWAY_ROUTES, GATEWAY_ROUTES_REMOVED, gatewayTable } from './gateway-rules.js';
import type { PrivateNetwork } from './private-network.js';

export interface GatewayWish {
  readonly tunnel: string;
  readonly own: readonly string[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

/** A port of the private network that nothing else takes: guests' packets are led there, whatever port they are for. */
const PORT = 28_526;
const ANY = { 4: '0.0.0.0', 6: '::' } as const;

export class Gateway {
  #counts: GatewayCounts = { tcp: 0, udp: 0, refused: 0 };
  #closed = false;

  private constructor(
    private readonly network: PrivateNetwork,
    private readonly threads: readonly Worker[],
    /** Sockets of datagrams and of ICMP, which no thread closes. */
    private readonly datagrams: readonly number[],
  ) {}

  /**
   * @param failed called once when a thread ended by itself
   * @throws OperatorError when nft or ip are not installed or refuse
   */
  static async open(
    network: PrivateNetwork,
    wish: GatewayWish,
    failed: (error: Error) => void,
  ): Promise<Gateway> {
    const families = ([4, 6] as const).filter((family) => (family === 4 ? wish.ipv4 : wish.ipv6));
    const { tcp, udp, icmp } = openSockets(network, families);
    const pending = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    const { port1, port2 } = new MessageChannel();
    const main = new Worker(new URL('./gateway-worker.js', import.meta.url), {
      workerData: {
        channel: network.channel,
        tcp: [...tcp.values()],
        icmp4: icmp.get(4),
        icmp6: icmp.get(6),
        own: wish.own,
        pending,
      } satisfies GatewayStart,
    });
    const reader = new Worker(new URL('./datagram-reader.js', import.meta.url), {
      workerData: {
        sockets: [...udp.values(), ...icmp.values()],
        port: port1,
        pending,
      } satisfies DatagramReaderStart,
      transferList: [port1],
    });
    main.postMessage({ type: 'reader', port: port2 }, [port2]);
    const gateway = new Gateway(network, [main, reader], [...udp.values(), ...icmp.values()]);
    const ready = new Promise<void>((resolve, reject) => {
      main.on('message', (message: FromGateway) => {
        if (message.type === 'counts') gateway.#counts = message.counts;
        else resolve();
      });
      main.once('error', reject);
    });
    for (const thread of [main, reader]) thread.on('error', (error) => gateway.#closed || failed(error));
    try {
      await ready; // a thread that ends before it would leave sockets behind, and their port taken
      for (const thread of [main, reader]) thread.unref();
      for (const family of tcp.keys()) await network.run('ip', [`-${family}`, '-batch', '-'], GATEWAY_ROUTES);
      await network.run('nft', ['-f', '-'], gatewayTable({ ...wish, tcp: PORT, udp: PORT }));
    } catch (error) {
      await gateway.close();
      throw error;
    }
    return gateway;
  }

  get counts(): GatewayCounts {
    return this.#counts;
  }

  /** Who may send by it, and where it goes. */
  setGuests(exit: GuestRules, lan: GuestRules): void {
    this.#tell({ type: 'guests', exit, lan });
  }

  /** Another helper opens sockets. */
  helperReplaced(): void {
    this.#tell({ type: 'channel', channel: this.network.channel });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.threads.map((thread) => thread.terminate()));
    this.datagrams.forEach(closeSync);
    await this.network.run('nft', ['-f', '-'], GATEWAY_REMOVED).catch(() => undefined);
    for (const family of [4, 6])
      await this.network
        .run('ip', [`-${family}`, '-batch', '-'], GATEWAY_ROUTES_REMOVED)
        .catch(() => undefined);
  }

  #tell(message: ToGateway): void {
    this.threads[0]?.postMessage(message);
  }
}

type Family = keyof typeof ANY;

/** Those of the families the network has: IPv6 may be switched off. @throws Error when it has none of them */
function openSockets(
  network: PrivateNetwork,
  families: readonly Family[],
): Readonly<Record<'tcp' | 'udp' | 'icmp', ReadonlyMap<Family, number>>> {
  const [tcp, udp, icmp] = [new Map<Family, number>(), new Map<Family, number>(), new Map<Family, number>()];
  let failure: unknown;
  for (const family of families)
    try {
      tcp.set(family, network.openTransparent(ANY[family], PORT, 'tcp'));
      udp.set(family, network.openTransparent(ANY[family], PORT, 'udp'));
      icmp.set(family, network.openEcho(ANY[family]));
    } catch (error) {
      failure = error;
    }
  if (icmp.size > 0) return { tcp, udp, icmp };
  [...tcp.values(), ...udp.values()].forEach(closeSync);
  throw failure;
}
