import assert from 'node:assert/strict';
import { Agent, request, type IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import { describe, test, type TestContext } from 'node:test';
import { RateSampler } from '../../ts/status/model/rate-sampler.js';
import { STYLE_HASH } from '../../ts/status/page/status-page.js';
import { StatusServer, isTrustedHost } from '../../ts/status/server/status-server.js';
import { parseIp } from '../../ts/wire/socket-address.js';
import { STATUS } from './status-fixture.js';

const loopback = parseIp('127.0.0.1') ?? assert.fail();
interface Reply {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  server.close();
  await once(server, 'close');
  return typeof bound === 'object' && bound !== null ? bound.port : assert.fail();
}

async function serve(t: TestContext, status = STATUS, connections?: number): Promise<number> {
  const port = await freePort();
  const sampler = new RateSampler();
  sampler.sample(0, new Map([['rx_bytes', 0]]));
  sampler.sample(2000, new Map([['rx_bytes', 3000]]));
  const server = await StatusServer.listen(
    { ip: loopback, port },
    { status: () => status, series: () => sampler.series() },
    connections,
  );
  t.after(() => server.close());
  return port;
}

async function ask(port: number, path: string, host: string, method = 'GET'): Promise<Reply> {
  const outgoing = request({ host: '127.0.0.1', port, path, method, headers: { host } });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, body };
}

describe('status page', () => {
  test('shows who the node is and escapes what others chose', async (t) => {
    const port = await serve(t);
    const { status: code, headers, body } = await ask(port, '/', `127.0.0.1:${port}`);
    assert.equal(code, 200);
    assert.match(String(headers['content-type']), /text\/html/);
    for (const text of [
      'omerta1self',
      '203.0.113.7:51900',
      'fake &lt;engine&gt;',
      'addon &lt;missing&gt;',
      '1.5 kB/s',
      'AES-256-GCM',
    ])
      assert.ok(body.includes(text), text);
    assert.ok(body.includes('&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;'));
    assert.doesNotMatch(body, /<script/i);
    assert.match(body, /<polyline|<svg/);
  });

  test('loads nothing from elsewhere: no script, and only its own style by hash', async (t) => {
    const port = await serve(t);
    const { headers, body } = await ask(port, '/', 'localhost');
    const policy = String(headers['content-security-policy']);
    assert.match(policy, /default-src 'none'/);
    assert.ok(policy.includes(STYLE_HASH));
    assert.doesNotMatch(body, /https?:\/\//);
    assert.doesNotMatch(body, / style="/, 'the policy would refuse it');
  });

  test('/status.json is the status, /metrics has every counter and the relay tables', async (t) => {
    const port = await serve(t);
    const json = await ask(port, '/status.json', 'localhost');
    assert.deepEqual(JSON.parse(json.body), JSON.parse(JSON.stringify(STATUS)));
    const metrics = await ask(port, '/metrics', 'localhost');
    assert.match(String(metrics.headers['content-type']), /text\/plain/);
    for (const line of [
      'omerta_rx_bytes_total{worker="0"} 5',
      'omerta_rx_bytes_total{worker="control"} 2',
      'omerta_drop_bad_tag_total{worker="0"} 3',
      'omerta_drop_bad_tag_total{worker="control"} 0',
      'omerta_receive_queue_bytes{worker="0"} 10',
      'omerta_receive_queue_peak_bytes{worker="0"} 15',
      'omerta_send_queue_limit_bytes{worker="0"} 30',
      '# TYPE omerta_forward_latency_seconds histogram',
      'omerta_forward_latency_seconds_bucket{worker="0",le="0.000001024"} 3',
      'omerta_forward_latency_seconds_bucket{worker="0",le="0.000002048"} 7',
      'omerta_forward_latency_seconds_bucket{worker="0",le="+Inf"} 8',
      'omerta_forward_latency_seconds_sum{worker="0"} 0.000009',
      'omerta_forward_latency_seconds_count{worker="0"} 8',
      'omerta_registrations 2',
      'omerta_tunnel_up 0',
      'omerta_log_lines_lost_total 5',
      'omerta_log_lines_held_back_total 7',
      'omerta_circuits 1',
      'omerta_circuits_half_open 1',
      'omerta_refusals_total{reason="capacity"} 4',
      'omerta_network_bytes_total{network="00112233445566778899aabbccddeeff"} 900',
      'omerta_network_refused_total{network="00112233445566778899aabbccddeeff"} 3',
      'omerta_members{network="home",path="relay"} 1',
      'omerta_accelerator_on{name="warp"} 0',
      'omerta_control_drops_total{reason="frame-malformed"} 6',
    ])
      assert.ok(metrics.body.split('\n').includes(line), line);
    const again = await ask(port, '/metrics', 'localhost');
    assert.equal(again.body, metrics.body, 'a scrape does not add up');
  });

  test('/healthz answers while it lives, /readyz with what keeps it from serving', async (t) => {
    const store = { error: 'ENOSPC', damaged: undefined };
    for (const [status, code, wanted] of [
      [STATUS, 200, /^ready\n$/],
      [{ ...STATUS, store }, 503, /^not ready\nstore: cannot be written \(ENOSPC\).*Make room/],
    ] as const) {
      const port = await serve(t, status);
      assert.equal((await ask(port, '/healthz', 'localhost')).status, 200);
      const { status: answered, body } = await ask(port, '/readyz', 'localhost');
      assert.equal(answered, code);
      assert.match(body, wanted);
      const { body: metrics } = await ask(port, '/metrics', 'localhost');
      assert.ok(metrics.includes(`\nomerta_ready ${code === 200 ? 1 : 0}\n`));
      const { body: page } = await ask(port, '/', 'localhost');
      assert.match(page, code === 200 ? /Ready<\/dt><dd>yes/ : /Ready<\/dt><dd><b class="off">store/);
    }
  });

  test('a Host header with a foreign name is refused (DNS rebinding)', async (t) => {
    const port = await serve(t);
    for (const path of ['/', '/status.json', '/metrics', '/healthz', '/readyz']) {
      const { status: code, body } = await ask(port, path, `rebind.example:${port}`);
      assert.equal(code, 403);
      assert.doesNotMatch(body, /omerta1self/);
    }
  });

  test('silent connections shut nobody out, however many there are', async (t) => {
    const port = await serve(t);
    const silent = Array.from({ length: 200 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
    t.after(() => silent.forEach((socket) => socket.destroy()));
    await Promise.all(silent.map((socket) => once(socket, 'connect')));
    const started = performance.now();
    assert.equal((await ask(port, '/metrics', 'localhost')).status, 200);
    assert.ok(performance.now() - started < 4000, 'before any of them is timed out');
  });

  test('a request is asked when the one before is answered: a thousand at once are not', async (t) => {
    const port = await freePort();
    let asked = 0;
    const status = (): typeof STATUS => {
      asked++;
      return STATUS;
    };
    const server = await StatusServer.listen({ ip: loopback, port }, { status, series: () => [] });
    t.after(() => server.close());
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    socket.write('GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1000));
    socket.resume();
    await once(socket, 'close');
    assert.equal(asked, 1);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    let reused = 0;
    for (let index = 0; index < 20; index++) {
      const outgoing = request({ host: '127.0.0.1', port, path: '/status.json', agent }).end();
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
      assert.equal(response.statusCode, 200);
      if (outgoing.reusedSocket) reused++;
      await once(response.resume(), 'end');
      await new Promise(setImmediate);
    }
    assert.ok(reused > 0, 'one after the other they go by one connection');
  });

  test('connections that read nothing of what they asked for shut nobody out', async (t) => {
    // More than the buffers in between hold.
    const port = await serve(t, { ...STATUS, engineFallback: 'x'.repeat(40_000_000) }, 4);
    const deaf = Array.from({ length: 6 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
    t.after(() => deaf.forEach((socket) => socket.destroy()));
    await Promise.all(
      deaf.map((socket) => {
        socket.pause();
        socket.write('GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n');
        return Promise.race([once(socket, 'readable'), once(socket, 'close')]);
      }),
    );
    assert.equal((await ask(port, '/metrics', 'localhost')).status, 200);
  });

  /** The first line of what is answered to bytes as they are. */
  async function raw(port: number, text: string): Promise<string> {
    const socket = connect(port, '127.0.0.1');
    socket.write(text);
    let answer = '';
    for await (const chunk of socket) {
      answer += String(chunk);
      if (answer.includes('\r\n')) break;
    }
    return answer.split('\r\n')[0] ?? '';
  }

  test('HTTP/1.0 without Host is answered, as the check of a load balancer wants it', async (t) => {
    const port = await serve(t);
    assert.match(await raw(port, 'GET /metrics HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 200/);
    assert.match(await raw(port, 'GET /metrics HTTP/1.0\r\nHost: evil.example\r\n\r\n'), / 403 /);
    assert.match(await raw(port, 'GET /metrics HTTP/1.1\r\n\r\n'), / 400 /);
  });

  test('a target in absolute form says whom it asks, whatever Host says', async (t) => {
    const port = await serve(t);
    for (const [target, status] of [
      [`http://127.0.0.1:${port}/metrics`, 200],
      [`HTTP://localhost/status.json?x`, 200],
      [`http://127.0.0.1:${port}`, 200],
      ['http://evil.example/metrics', 403],
      ['http://user@127.0.0.1/metrics', 403],
      ['http://127.0.0.1/elsewhere', 404],
    ] as const)
      assert.match(
        await raw(port, `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
        new RegExp(`^HTTP/1.1 ${status} `),
        target,
      );
  });

  test('only addresses and localhost are trusted hosts', () => {
    for (const host of [
      '127.0.0.1',
      '127.0.0.1:9090',
      '[::1]:9090',
      'localhost',
      'LOCALHOST:1',
      '192.0.2.1:80',
    ])
      assert.equal(isTrustedHost(host), true, host);
    for (const host of [
      undefined,
      '',
      'evil.example',
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      '[::1',
      '::1',
      'a b',
    ])
      assert.equal(isTrustedHost(host), false, String(host));
  });

  test('it is read-only and knows three paths', async (t) => {
    const port = await serve(t);
    for (const method of ['POST', 'PUT', 'DELETE'])
      assert.equal((await ask(port, '/', 'localhost', method)).status, 405);
    assert.equal((await ask(port, '/../etc/passwd', 'localhost')).status, 404);
    const head = await ask(port, '/', 'localhost', 'HEAD');
    assert.deepEqual([head.status, head.body], [200, '']);
  });

  test('a taken port is an error that names --status', async (t) => {
    const port = await serve(t);
    await assert.rejects(
      StatusServer.listen({ ip: loopback, port }, { status: () => STATUS, series: () => [] }),
      { exitCode: 1, message: /TCP port taken.*--status ADDR:PORT/ },
    );
  });
});
