// The socket of `wg` beside clients that ask and do not read.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { UapiSocket } from '../../ts/wg/uapi-socket.js';

describe('the socket of wg', () => {
  it('is open to others, however many there are that read nothing of what they asked for', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'omerta-uapi-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'wg0.sock');
    const long = 'x'.repeat(500_000);
    let requests = 0;
    const socket = await UapiSocket.listen(
      path,
      () => (++requests > 70 ? ['errno=0\n\n'] : [long, long, 'errno=0\n\n']),
      () => undefined,
    );
    t.after(() => socket.close());
    for (let index = 0; index < 70; index++) {
      const deaf = connect(path).on('error', () => undefined);
      t.after(() => deaf.destroy());
      deaf.pause().write('get=1\n\n');
      await once(deaf, 'readable');
    }
    const client = connect(path);
    client.end('get=1\n\n');
    let answer = '';
    for await (const chunk of client) answer += String(chunk);
    assert.equal(answer, 'errno=0\n\n');
  });
});
