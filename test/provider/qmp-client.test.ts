import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { QmpClient, type QmpEvent } from '../../ts/provider/machine/qmp-client.js';
import { streamPair } from './stream-pair.js';

function world(): { client: QmpClient; events: QmpEvent[]; asked: string[]; say: (text: string) => void } {
  const [ours, its] = streamPair();
  const events: QmpEvent[] = [];
  const asked: string[] = [];
  its.on('data', (chunk: Buffer) => asked.push(...chunk.toString().trim().split('\n')));
  const client = new QmpClient(ours, (event) => events.push(event));
  return { client, events, asked, say: (text) => void its.write(text) };
}

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}\r\n';

describe("QEMU's machine protocol", () => {
  it('answers each command by its number, in pieces, with events between', async () => {
    const { client, events, asked, say } = world();
    const stop = client.execute('stop');
    const status = client.execute('query-status', { a: 1 });
    say(
      GREETING +
        '{"return": {}, "id": 1}\r\n{"timestamp": {"seconds": 1}, "event": "STOP"}\r\n{"return": {"ru',
    );
    say('nning": false}, "id": 3}\r\n{"error": {"class": "GenericError", "desc": "no"}, "id": 2}\r\n');
    assert.deepEqual(await status, { running: false });
    await assert.rejects(stop, /QEMU: no/);
    assert.deepEqual(events, [{ event: 'STOP' }]);
    assert.deepEqual(
      asked.map((line) => (JSON.parse(line) as { execute: string }).execute),
      ['qmp_capabilities', 'stop', 'query-status'],
    );
  });

  it('ends what waits when QEMU says what is no QMP, or more than it ever does', async () => {
    for (const said of ['hello\n', '{"id": "x"}\n', '[]\n', 'x'.repeat((256 << 10) + 1)]) {
      const { client, say } = world();
      const waiting = client.execute('stop');
      say(said);
      await assert.rejects(waiting, /QEMU says/);
      await assert.rejects(client.execute('stop'), /QEMU says/);
    }
  });

  it('asks no more than a few questions at once', async () => {
    const { client } = world();
    const asked = Array.from({ length: 15 }, () => client.execute('stop'));
    for (const each of asked) each.catch(() => undefined);
    await assert.rejects(client.execute('stop'), /not answered enough/);
  });
});
