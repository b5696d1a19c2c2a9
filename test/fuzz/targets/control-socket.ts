// Bytes on the daemon's control socket, through the socket: every whole line is answered by one line of the
// protocol, in any order; too long a line ends the connection; and the daemon goes on. The same bytes are read as
// answers, too.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MAX_REQUEST_BYTES, parseResponse } from '../../../ts/daemon/control/control-protocol.js';
import { parseRequest, requestId } from '../../../ts/daemon/control/control-request.js';
import { ControlServer } from '../../../ts/daemon/control/control-server.js';
import { LineReader } from '../../../ts/host/line-reader.js';
import { OperatorError } from '../../../ts/host/operator-error.js';
import { utf8 } from '../../../ts/wire/bytes.js';
import type { FuzzTarget } from '../harness/target.js';

const folder = mkdtempSync(join(tmpdir(), 'omerta-fuzz-'));
const path = join(folder, 'omerta.sock');
const server = await ControlServer.listen(path);
server.handle((request) => Promise.resolve({ command: request.command }));

async function exchange(bytes: Uint8Array, lines: number): Promise<string> {
  const socket = connect(path);
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
    if (text.split('\n').length > lines) socket.end();
  });
  socket.on('error', () => socket.destroy());
  await once(socket, 'connect');
  socket.write(bytes);
  if (lines === 0) socket.end();
  if (!socket.closed) await once(socket, 'close');
  return text;
}

const requests = [
  { command: 'status' },
  { command: 'down', unload: true },
  { command: 'reload-networks' },
  { command: 'reload-configuration' },
  { command: 'relay-accounts' },
  { command: 'ping', peer: 'omerta1', timeoutMs: 5 },
  { command: 'receipts', peer: 'x', timeoutMs: 5 },
  { command: 'relay-circuits' },
  { command: 'relay-receipts', most: 5 },
].map((command, id) => `${JSON.stringify({ v: 1, id, ...command })}\n`);

/** The same bytes as a client would read them: an answer of the protocol, or none, and written again the same. */
function readAsAnswers(lines: readonly string[]): void {
  for (const line of lines) {
    const answer = parseResponse(line);
    if (answer === undefined) continue;
    const { v, id, ok, result, error } = JSON.parse(line) as Record<string, unknown>;
    assert.deepEqual([answer.v, answer.id, answer.ok], [v, id, ok]);
    if (answer.ok) assert.deepEqual(answer.result, result);
    else assert.deepEqual({ ...(error as object), ...answer.error }, error);
    assert.deepEqual(parseResponse(JSON.stringify(answer)), answer);
  }
}

const answers = [
  { v: 1, id: 1, ok: true, result: { networks: [] } },
  { v: 1, id: 2, ok: false, error: { exitCode: 2, field: 'peer', expected: 'a peer id', next: 'Type: x' } },
  { v: 1, id: 3, ok: false, error: { exitCode: 99, field: 'peer', expected: 'a peer id', next: 'Type: x' } },
  { v: 1, id: 4, ok: false, error: { exitCode: 2, field: 'peer', expected: 'a peer id', next: 7 } },
  { v: 1, id: 0.5, ok: true },
  { v: 1, id: 5, ok: 'yes' },
].map((answer) => `${JSON.stringify(answer)}\n`);

const target: FuzzTarget = {
  timed: false,
  seeds: () =>
    [
      ...requests,
      requests.join(''),
      ...answers,
      '\n\n',
      '{"v":2,"id":7}\n',
      'null\n[1]\n',
      '{',
      'a'.repeat(17_000),
      `${'a'.repeat(17_000)}\n`,
    ].map(utf8),
  dictionary: [
    '"v":1',
    '"id":',
    '"command":"',
    'status"',
    'ping"',
    '\n',
    '{',
    '}',
    'null',
    '1e9',
    '"__proto__":',
    '"peer":',
    '"ok":true',
    '"ok":false',
    '"error":{',
    '"exitCode":2',
  ],
  async run(input) {
    const lines = new LineReader(MAX_REQUEST_BYTES).push(Buffer.from(input));
    readAsAnswers(lines ?? []);
    const text = await exchange(input, lines?.length ?? 1);
    const said = text.split('\n').slice(0, -1);
    assert.equal(said.length, lines?.length ?? 1);
    const expected = (lines ?? []).map((line) => {
      try {
        return { id: parseRequest(line).id, ok: true };
      } catch (error) {
        if (!(error instanceof OperatorError)) throw error;
        return { id: requestId(line), ok: false };
      }
    });
    const taken = said.map((answer) => {
      const response = parseResponse(answer);
      assert.ok(response !== undefined, answer);
      return { id: response.id, ok: response.ok };
    });
    const order = (all: { id: number; ok: boolean }[]): string[] =>
      all.map((each) => JSON.stringify(each)).sort();
    if (lines !== undefined) assert.deepEqual(order(taken), order(expected));
  },
  async close() {
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  },
};
export default target;
