// Serves the status page, /status.json, /metrics, /healthz and /readyz: read-only, on loopback unless configured.
//
// A web page somewhere may make the operator's browser ask this port under a name that page controls
// (DNS rebinding). Such a request carries that name in Host; only IP addresses and "localhost" pass. What
// speaks HTTP/1.0 without Host, as the check of a load balancer does, is no browser.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { formatIp, formatSocketAddress, parseIp, type SocketAddress } from '../../wire/socket-address.js';
import type { DaemonStatus } from '../model/daemon-status.js';
import { obstacles, readinessText } from '../model/readiness.js';
import { renderMetrics } from '../metrics/metrics.js';
import { ConnectionLimit } from '../../host/connection-limit.js';
import { ExitCode, OperatorError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import type { RateSeries } from '../model/rate-sampler.js';
import { STYLE_HASH, statusPage } from '../page/status-page.js';

const MAX_CONNECTIONS = 64;

export interface StatusSource {
  status(): DaemonStatus;
  series(): readonly RateSeries[];
}

/** Whether a Host header names this machine by address or as "localhost". */
export function isTrustedHost(host: string | undefined): boolean {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host ?? '');
  if (match === null) return false;
  const name = match[1] ?? match[2] ?? '';
  return name.toLowerCase() === 'localhost' || parseIp(name) !== undefined;
}

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

const plain = (status: number, body: string): Answer => ({
  status,
  contentType: 'text/plain; charset=utf-8',
  body: `${body}\n`,
});

/** Whom a request asks, and for what: in the absolute form the target says both (RFC 9112, section 3.2.2). */
export function requestTarget(
  url: string,
  host: string | undefined,
): { readonly host: string | undefined; readonly path: string } {
  const absolute = /^https?:\/\/([^/?#]*)([^?#]*)/i.exec(url);
  if (absolute === null) return { host, path: url.split('?')[0] ?? '' };
  const [, authority, path] = absolute;
  return { host: authority, path: path === undefined || path === '' ? '/' : path };
}

async function answer(request: IncomingMessage, source: StatusSource): Promise<Answer> {
  const { host, path } = requestTarget(request.url ?? '', request.headers.host);
  const isOldClient = host === undefined && request.httpVersion === '1.0';
  if (!isOldClient && !isTrustedHost(host))
    return plain(403, 'Ask by IP address or as "localhost": other names are refused (DNS rebinding).');
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return plain(405, 'Only GET and HEAD: this is read-only.');
  switch (path) {
    case '/':
      return {
        status: 200,
        contentType: 'text/html; charset=utf-8',
        body: statusPage(source.status(), source.series()),
      };
    case '/status.json':
      return {
        status: 200,
        contentType: 'application/json; charset=utf-8',
        body: `${JSON.stringify(source.status(), null, 2)}\n`,
      };
    case '/metrics': {
      const { text, contentType } = await renderMetrics(source.status());
      return { status: 200, contentType, body: text };
    }
    case '/healthz':
      return plain(200, 'alive');
    case '/readyz': {
      const found = obstacles(source.status());
      return plain(found.length === 0 ? 200 : 503, readinessText(found));
    }
    default:
      return plain(404, 'There are /, /status.json, /metrics, /healthz and /readyz.');
  }
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  source: StatusSource,
): Promise<void> {
  const { status, contentType, body } = await answer(request, source).catch((error: unknown) =>
    plain(500, messageOf(error)),
  );
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'content-security-policy': `default-src 'none'; style-src '${STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

export class StatusServer {
  private constructor(
    readonly server: Server,
    readonly address: SocketAddress,
  ) {}

  /** @throws OperatorError when the address cannot be listened on. */
  static async listen(
    wanted: SocketAddress,
    source: StatusSource,
    connections = MAX_CONNECTIONS,
  ): Promise<StatusServer> {
    const server = createServer({ connectionsCheckingInterval: 1000 });
    const limit = new ConnectionLimit(server, connections);
    const asking = new WeakSet<object>();
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      // The next request comes when this one is answered: thousands in one packet would hold up the daemon.
      if (asking.has(socket)) {
        socket.destroy();
        return;
      }
      asking.add(socket);
      response.once('close', () => asking.delete(socket));
      limit.asked(socket);
      // Given to the socket is answered: who does not read it is silent.
      void respond(request, response, source).finally(() => limit.answered(socket));
    });
    server.headersTimeout = 5000;
    server.requestTimeout = 5000;
    server.keepAliveTimeout = 5000;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: formatIp(wanted.ip), port: wanted.port }, resolve);
    }).catch((error: unknown) => {
      const taken = systemErrorCode(error) === 'EADDRINUSE';
      throw new OperatorError(
        systemErrorCode(error) === 'EACCES' ? ExitCode.permission : ExitCode.failure,
        'status',
        `${formatSocketAddress(wanted)} cannot be listened on: ${taken ? 'TCP port taken' : messageOf(error)}`,
        'Choose another with --status ADDR:PORT, or none with --status off',
      );
    });
    return new StatusServer(server, wanted);
  }

  get url(): string {
    return `http://${formatSocketAddress(this.address)}/`;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}
