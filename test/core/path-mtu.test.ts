// The path MTU discovery of one path (RFC 8899), with a path that takes datagrams of up to a given size.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MIN_PLPMTU } from '../../ts/contract/path-control.js';
import { BASE_PLPMTU, PathMtu, PROBES_PER_MINUTE, RAISE_AFTER_MS } from '../../ts/core/path/path-mtu.js';

const MAX = 1432;
const NEEDED = 1312;
const TIMEOUT_MS = 50;

class Path {
  now = 0;
  readonly mtu: PathMtu;
  readonly probes: number[] = [];
  asked = 0;
  answeredProbeAt: number | undefined;
  loss = 0;
  /** Whether small probes are answered. */
  alive = true;
  #tokens = 0;

  constructor(
    public takes: number,
    max = MAX,
  ) {
    this.mtu = new PathMtu(max, NEEDED, 0);
  }

  /** What is due until nothing is, or so many ms are over. */
  run(ms = 3_600_000): this {
    const until = this.now + ms;
    for (;;) {
      const at = this.mtu.probeAt;
      if (at === undefined || at > until) break;
      this.now = Math.max(this.now, at);
      const { answeredProbeAt, loss } = this;
      const step = this.mtu.next(this.now, { answeredProbeAt, timeoutMs: TIMEOUT_MS, loss });
      if (step?.size !== undefined) this.probe(step.size);
      if (step?.small !== true) continue;
      this.asked++;
      if (this.alive) this.answeredProbeAt = this.now;
    }
    return this;
  }

  probe(size: number): void {
    const token = new Uint8Array(8);
    new DataView(token.buffer).setUint32(0, ++this.#tokens);
    this.probes.push(size);
    this.mtu.sent(token, this.now, TIMEOUT_MS);
    if (this.alive && size <= this.takes) assert.ok(this.mtu.answered(token, size, this.now));
  }
}

describe('the path MTU discovery of one path', () => {
  test('asks first for the base, then for all that is needed, and no more', () => {
    const path = new Path(1472).run();
    assert.deepEqual(path.probes, [BASE_PLPMTU, MAX]);
    assert.deepEqual([path.mtu.plpmtu, path.mtu.state], [MAX, 'search-complete']);
    assert.deepEqual([path.mtu.limited, path.mtu.narrow, path.mtu.probeAt], [false, false, undefined]);
  });

  test('finds every size between, to 8 bytes, those of usual links to the byte', () => {
    for (let takes = BASE_PLPMTU; takes < MAX; takes++) {
      const { mtu, probes } = new Path(takes).run();
      const { plpmtu = 0 } = mtu;
      assert.ok(plpmtu <= takes && takes - plpmtu < 8, `${takes}: ${plpmtu}`);
      assert.ok(probes.length <= 32, `${takes}: ${probes.join(' ')}`);
      assert.deepEqual([mtu.limited, mtu.narrow], [true, plpmtu < NEEDED]);
    }
    for (const takes of [1232, 1252, 1312, 1352, 1372, 1412])
      assert.equal(new Path(takes).run().mtu.plpmtu, takes);
  });

  test('finds what a jumbo link takes, and what an ordinary one takes where jumbo is wanted', () => {
    assert.equal(new Path(8972, 8932).run().mtu.plpmtu, 8932);
    assert.equal(new Path(1472, 8932).run().mtu.plpmtu, 1472);
    assert.equal(new Path(65_507, 65_507).run().mtu.plpmtu, 65_507);
  });

  test('uses the least there is where the base is too much, and asks again only when data is sent', () => {
    const path = new Path(1000).run();
    assert.deepEqual([path.mtu.state, path.mtu.plpmtu], ['error', MIN_PLPMTU]);
    assert.deepEqual(path.probes, [BASE_PLPMTU, BASE_PLPMTU, BASE_PLPMTU]);
    path.now += 3_600_000;
    assert.equal(path.run().probes.length, 3);
    const begin = path.now;
    for (; path.now - begin < 3_600_000; path.now += 1000) {
      path.mtu.used(path.now);
      path.run(0);
    }
    assert.ok(path.probes.length < 50, `${path.probes.length} in an hour of data`);
    path.takes = 1472;
    path.now += RAISE_AFTER_MS;
    path.mtu.used(path.now);
    assert.deepEqual([path.run().mtu.state, path.mtu.plpmtu], ['search-complete', MAX]);
  });

  test('what was found and is answered no more is a black hole: the base is used until more is known', () => {
    const path = new Path(1472).run();
    path.takes = 1300;
    path.mtu.doubted((path.now += 10_000));
    const found = [path.mtu.plpmtu];
    while (path.mtu.probeAt !== undefined) {
      path.run(path.mtu.probeAt - path.now);
      if (found.at(-1) !== path.mtu.plpmtu) found.push(path.mtu.plpmtu);
    }
    const [before, during, after = 0] = found;
    assert.deepEqual([before, during, found.length], [MAX, BASE_PLPMTU, 3]);
    assert.ok(after <= 1300 && after > 1292, `${after}`);
  });

  test('a doubt that is unfounded costs one probe, and another one no more until 2 s are over', () => {
    const path = new Path(1472).run();
    for (let ms = 10; ms <= 10_000; ms += 10) {
      path.mtu.doubted((path.now += 10));
      path.run(0);
    }
    assert.equal(path.probes.length, 2 + 5);
    assert.equal(path.mtu.plpmtu, MAX);
  });

  test('a size is not lost before a small probe that was sent after it is answered', () => {
    const path = new Path(1472).run();
    path.mtu.doubted((path.now += 10_000));
    path.alive = false;
    path.run(60_000);
    assert.deepEqual([path.mtu.plpmtu, path.mtu.state], [MAX, 'search-complete']);
    assert.equal(path.probes.length, 2 + 3);
    assert.ok(path.asked > 3);
    path.mtu.pause();
    assert.equal(path.mtu.probeAt, undefined);
    path.alive = true;
    path.mtu.resume(path.now);
    path.run();
    assert.deepEqual([path.mtu.plpmtu, path.probes.length], [MAX, 2 + 3 + 1]);
  });

  test('more probes are sent where many are lost by chance', () => {
    const path = new Path(1000);
    path.loss = 0.02;
    assert.equal(path.run().probes.length, 6);
    const worse = new Path(1000);
    worse.loss = 0.5;
    assert.equal(worse.run().probes.length, 10);
  });

  test('a larger one is sought after 10 min, while data is sent', () => {
    const path = new Path(1372).run();
    const { length } = path.probes;
    path.now += RAISE_AFTER_MS;
    assert.equal(path.run().probes.length, length, 'no data');
    path.takes = 1472;
    path.mtu.used(path.now - 1000);
    assert.equal(path.run().mtu.plpmtu, 1372);
    path.mtu.used(path.now);
    assert.equal(path.run().mtu.plpmtu, MAX);
  });

  test('an answer of another size than was sent is none, nor is one to what was not sent', () => {
    const { mtu } = new Path(1472);
    const token = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    assert.deepEqual(mtu.next(0, { answeredProbeAt: 0, timeoutMs: 50, loss: 0 }), {
      size: BASE_PLPMTU,
      small: false,
    });
    mtu.sent(token, 0, 50);
    assert.equal(mtu.answered(token, 65_535, 1), false);
    assert.equal(
      mtu.answered(
        token.map((byte) => byte + 1),
        BASE_PLPMTU,
        1,
      ),
      false,
    );
    assert.equal(mtu.answered(token, BASE_PLPMTU, 1), true);
    assert.equal(mtu.answered(token, BASE_PLPMTU, 1), false);
  });

  test('a peer that answers as it likes is sent a bounded number of padded probes a minute', () => {
    const path = new Path(1472);
    for (let step = 0; step < 60 * 600; step++, path.now += 100) {
      path.takes = 1100 + ((step * 7919) % 400);
      path.mtu.doubted(path.now);
      path.run(0);
    }
    assert.ok(path.probes.length <= 61 * PROBES_PER_MINUTE, `${path.probes.length}`);
    assert.ok(path.probes.length > PROBES_PER_MINUTE, 'the bound was tried');
  });

  test('reports that show losses are a reason to confirm, what is only under way is none', () => {
    const path = new Path(1472).run();
    let sent = 0;
    const report = (received: number): void => {
      path.mtu.reported((sent += 100), received, (path.now += 1000));
      path.run(0);
    };
    for (let second = 0; second < 5; second++) report(sent + 80);
    assert.equal(path.probes.length, 2);
    report(sent - 10);
    assert.equal(path.probes.length, 3);
    path.now += 10_000;
    report(sent - 10);
    assert.equal(path.probes.length, 3, 'the same are missing');
  });

  test('where nobody reports, it is confirmed while much is sent', () => {
    const path = new Path(1472).run();
    const count = (bytes: number): number => {
      path.mtu.counted(bytes, (path.now += 15_000));
      return path.run(0).probes.length;
    };
    assert.equal(count(100_000), 2, 'what had been sent before');
    assert.equal(count(100_500), 2, 'small probes');
    assert.equal(count(110_000), 3);
    assert.equal(count(110_000 + MAX), 3, 'its own probe');
  });
});
