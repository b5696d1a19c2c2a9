// The sockets and clocks of the port mapper: datagrams to and from the gateway alone, its UPnP pages, what it
// announces to all hosts. What they mean is the core's (ts/core/mapping).

import { createSocket, type Socket } from 'node:dgram';
import { request } from 'node:http';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import {
  MAPPING_PROTOCOLS,
  type GatewayAnswer,
  type GatewayRequest,
  type MapperEffect,
  type MappingProtocol,
} from '../../core/mapping/mapping-client.js';
import { MAX_GATEWAY_PAGE } from '../../core/mapping/igd.js';
import { ANNOUNCE_PORT, MAPPING_PORT } from '../../core/mapping/pcp.js';
import { PortMapper, type PortMappingStatus } from '../../core/mapping/port-mapper.js';
import { encodeSearch, SSDP_GROUP, SSDP_PORT } from '../../core/mapping/ssdp.js';
import type { Config } from '../config/config.js';
import { messageOf, systemErrorCode } from '../../host/operator-error.js';
import type { DefaultGateway } from '../../host/default-gateway.js';
import { formatIp, formatSocketAddress, parseIp, type SocketAddress } from '../../wire/socket-address.js';
import { stepNow } from './mesh-shell.js';

/** For a page of the gateway's. */
const PAGE_MS = 3000;
/** For answers to a search. */
const SEARCH_MS = 5000;
/** Headers of an answer. */
const MAX_HEADERS = 8192;
/** How long the end of the daemon waits for the gateway to give the mapping up. */
const RELEASE_MS = 1500;

type PortMappingChoice = Config['paths']['port_mapping'];

const FAMILIES = {
  4: { socket: 'udp4', allHosts: '224.0.0.1', protocols: MAPPING_PROTOCOLS },
  // NAT-PMP knows no IPv6.
  6: { socket: 'udp6', allHosts: 'ff02::1', protocols: ['pcp'] },
} as const;

function protocolsOf(choice: PortMappingChoice, family: 4 | 6): readonly MappingProtocol[] {
  const { protocols } = FAMILIES[family];
  return choice === 'auto' ? protocols : protocols.filter((protocol) => protocol === choice);
}

export interface PortMappingSettings {
  readonly choice: PortMappingChoice;
  /** 4: a port of a NAT; 6: a hole in a firewall. */
  readonly family: 4 | 6;
  readonly log: Logger;
  /** The mapping came, went, or is another one. */
  readonly onChange: (mapped: SocketAddress | undefined) => void;
  /** Descriptor of a UDP socket bound to this address that leaves this host whatever an exit closes; undefined: no such. */
  readonly openSocket?: (local: string) => number | undefined;
}

/**
 * `requests`: to and from the gateway's MAPPING_PORT; `announcements`: what gateways tell all hosts, none where another
 * program has the port; `searches`: a search and its answers.
 */
type SocketName = 'requests' | 'announcements' | 'searches';

export class PortMapping {
  readonly #settings: PortMappingSettings;
  readonly #mapper: PortMapper;
  #network: { readonly gateway: string; readonly local: string; readonly device: string } | undefined;
  readonly #sockets: Record<SocketName, Socket | undefined> = {
    requests: undefined,
    announcements: undefined,
    searches: undefined,
  };
  #timer: NodeJS.Timeout | undefined;
  #told: string | undefined;
  #closed = false;
  #onReleased: () => void = () => undefined;

  constructor(settings: PortMappingSettings) {
    this.#settings = settings;
    this.#mapper = new PortMapper(protocolsOf(settings.choice, settings.family));
  }

  status(): PortMappingStatus {
    return this.#mapper.status(performance.now());
  }

  get mapped(): SocketAddress | undefined {
    return this.#mapper.mapped;
  }

  /** The network as it is now. @param port the node's UDP port */
  setNetwork(found: DefaultGateway | undefined, port: number): void {
    if (this.#settings.choice === 'off' || this.#closed) return;
    const network = found && {
      gateway: isLinkLocal(found.gateway)
        ? `${formatIp(found.gateway)}%${found.device}`
        : formatIp(found.gateway),
      local: formatIp(found.local),
      device: found.device,
    };
    if (network?.gateway !== this.#network?.gateway || network?.local !== this.#network?.local) {
      this.#network = network;
      this.#closeSockets();
    }
    this.#apply(this.#mapper.setUplink(found && { ...found, port }, stepNow()));
  }

  /** Relays see this node elsewhere: the gateway may have begun anew. */
  recheck(): void {
    this.#mapper.recheck(stepNow());
    this.#after();
  }

  /** Has the gateway give the mapping up, as far as it answers in time. */
  async close(): Promise<void> {
    if (this.#closed) return;
    const released = new Promise<void>((resolve) => {
      this.#onReleased = resolve;
    });
    this.#apply(this.#mapper.release(stepNow()));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, RELEASE_MS)));
    if (!this.#mapper.isReleased) await Promise.race([released, late]);
    clearTimeout(timer);
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#closeSockets();
  }

  #apply(effects: readonly MapperEffect[]): void {
    for (const effect of effects) this.#carryOut(effect);
    this.#after();
  }

  #carryOut(effect: MapperEffect): void {
    switch (effect.type) {
      case 'send':
        this.#send(effect.bytes);
        break;
      case 'search':
        this.#search();
        break;
      case 'fetch':
        void this.#fetch(effect.request).then((answer) => {
          if (!this.#closed) this.#apply(this.#mapper.handleFetched(effect.fetch, answer, stepNow()));
        });
        break;
    }
  }

  /** What has changed is told; the next deadline is waited for. */
  #after(): void {
    clearTimeout(this.#timer);
    if (this.#mapper.isReleased) this.#onReleased();
    if (this.#closed) return;
    const { mapped } = this.#mapper;
    const told = mapped && formatSocketAddress(mapped);
    if (told !== this.#told) {
      this.#told = told;
      this.#tell(mapped);
    }
    const deadline = this.#mapper.deadline();
    if (deadline === undefined) return;
    const wait = Math.min(Math.max(Math.ceil(deadline - performance.now()), 1), 3_600_000);
    this.#timer = setTimeout(() => this.#apply(this.#mapper.handleTimeout(stepNow())), wait);
    this.#timer.unref();
  }

  #tell(mapped: SocketAddress | undefined): void {
    const { log, onChange } = this.#settings;
    const { protocol, gateway } = this.status();
    if (mapped === undefined) log.info({}, 'port-mapping-ended');
    else log.info({ address: formatSocketAddress(mapped), protocol, gateway }, 'port-mapped');
    try {
      onChange(mapped);
    } catch (error) {
      log.error({ error: messageOf(error) }, 'port-mapping-not-told');
    }
  }

  /** Connected: the kernel lets nobody but the gateway's port in, and says when nobody listens there. */
  #send(bytes: Uint8Array): void {
    const network = this.#network;
    if (network === undefined) return;
    if (this.#sockets.requests === undefined) {
      const socket = createSocket(FAMILIES[this.#settings.family].socket);
      this.#sockets.requests = socket;
      socket.on('message', (datagram, from) => {
        this.#arrived(from, datagram, (at, copy) => this.#mapper.handleDatagram(at, copy, stepNow()));
      });
      socket.on('error', (error) => {
        if (this.#sockets.requests !== socket) return;
        this.#close('requests');
        this.#refused(error);
      });
      this.#bind(socket, network.local, () => socket.connect(MAPPING_PORT, network.gateway));
      this.#listen(network);
    }
    const socket = this.#sockets.requests;
    const send = (): void => {
      if (this.#sockets.requests !== socket) return;
      socket.send(bytes, (error) => {
        if (error !== null && this.#sockets.requests === socket) this.#refused(error);
      });
    };
    if (isConnected(socket)) send();
    else socket.once('connect', send);
  }

  #bind(socket: Socket, local: string, then: () => void): void {
    const fd = this.#settings.openSocket?.(local);
    if (fd === undefined) socket.bind(0, local, then);
    else socket.bind({ fd }, then);
  }

  #refused(error: unknown): void {
    if (systemErrorCode(error) === 'ECONNREFUSED') this.#apply(this.#mapper.handleRefused(stepNow()));
  }

  #listen({ local, device }: { readonly local: string; readonly device: string }): void {
    const { socket: type, allHosts } = FAMILIES[this.#settings.family];
    const isIPv6 = this.#settings.family === 6;
    if (this.#sockets.announcements !== undefined) return;
    const socket = createSocket({ type, reuseAddr: true });
    this.#sockets.announcements = socket;
    socket.on('message', (datagram, from) => {
      this.#arrived(from, datagram, (at, copy) => this.#mapper.handleAnnouncement(at, copy, stepNow()));
    });
    // Without it a gateway that began anew is found out when the mapping is renewed.
    socket.on('error', () => {
      if (this.#sockets.announcements === socket) this.#close('announcements');
    });
    socket.bind(ANNOUNCE_PORT, isIPv6 ? `${allHosts}%${device}` : allHosts, () => {
      try {
        socket.addMembership(allHosts, isIPv6 ? `::%${device}` : local);
      } catch (error) {
        this.#settings.log.debug({ error: messageOf(error) }, 'no-gateway-announcements');
      }
    });
  }

  /** Whoever answers: the core takes the gateway's answer alone. */
  #search(): void {
    const network = this.#network;
    if (network === undefined) return;
    this.#close('searches');
    const socket = createSocket('udp4');
    this.#sockets.searches = socket;
    setTimeout(() => {
      if (this.#sockets.searches === socket) this.#close('searches');
    }, SEARCH_MS).unref();
    socket.on('message', (datagram, from) => {
      this.#arrived(from, datagram, (at, copy) => this.#mapper.handleSearchAnswer(at, copy, stepNow()));
    });
    socket.on('error', () => {
      if (this.#sockets.searches === socket) this.#close('searches');
    });
    this.#bind(socket, network.local, () => {
      if (this.#sockets.searches !== socket) return;
      for (const host of [network.gateway, SSDP_GROUP])
        socket.send(encodeSearch(`${host}:${SSDP_PORT}`), SSDP_PORT, host, () => undefined);
    });
  }

  #arrived(
    from: { readonly address: string; readonly port: number },
    datagram: Uint8Array,
    handle: (at: SocketAddress, copy: Uint8Array) => readonly MapperEffect[],
  ): void {
    const ip = parseIp(from.address.replace(/%.*$/, ''));
    if (ip === undefined || this.#closed) return;
    this.#apply(handle({ ip, port: from.port }, new Uint8Array(datagram)));
  }

  /** The host is the gateway, by its address, whatever the page says; redirects are not followed. */
  #fetch({ page, action }: GatewayRequest): Promise<GatewayAnswer | undefined> {
    const network = this.#network;
    if (network === undefined) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const asked = request(
        {
          host: network.gateway,
          localAddress: network.local,
          port: page.port,
          path: page.path,
          method: action === undefined ? 'GET' : 'POST',
          agent: false,
          maxHeaderSize: MAX_HEADERS,
          headers: {
            host: `${network.gateway}:${page.port}`,
            connection: 'close',
            ...(action && {
              'content-type': 'text/xml; charset="utf-8"',
              soapaction: action.name,
              'content-length': Buffer.byteLength(action.body),
            }),
          },
        },
        (answer) => {
          const parts: Buffer[] = [];
          let size = 0;
          answer.on('data', (part: Buffer) => {
            size += part.length;
            if (size > MAX_GATEWAY_PAGE) asked.destroy();
            else parts.push(part);
          });
          answer.once('end', () => {
            done({ status: answer.statusCode ?? 0, body: Buffer.concat(parts).toString('latin1') });
          });
        },
      );
      const timer = setTimeout(() => asked.destroy(), PAGE_MS);
      const done = (answer: GatewayAnswer | undefined): void => {
        clearTimeout(timer);
        resolve(answer);
      };
      asked.once('error', () => done(undefined));
      asked.once('close', () => done(undefined));
      asked.end(action?.body);
    });
  }

  #close(which: SocketName): void {
    const socket = this.#sockets[which];
    this.#sockets[which] = undefined;
    try {
      socket?.close();
    } catch {
      // It closed itself on an error.
    }
  }

  #closeSockets(): void {
    this.#close('requests');
    this.#close('announcements');
    this.#close('searches');
  }
}

/** It means something together with the interface alone. */
const isLinkLocal = (ip: Uint8Array): boolean => ip[0] === 0xfe && ((ip[1] ?? 0) & 0xc0) === 0x80;

function isConnected(socket: Socket): boolean {
  try {
    return socket.remoteAddress().port > 0;
  } catch {
    return false;
  }
}
