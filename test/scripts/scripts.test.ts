import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from '../wg/wg-lab.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

// A test runner that knows it was started by a test refuses to run.
const env = { ...process.env, NODE_TEST_CONTEXT: undefined };

const node = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' });

/** Runs a few lines against the modules under scripts/lib. From a file: a runner passes `-e` on to its tests. */
function execute(program: string): { status: number | null; stdout: string; stderr: string } {
  const folder = mkdtempSync(join(tmpdir(), 'omerta-scripts-'));
  const file = join(folder, 'program.mjs');
  writeFileSync(file, program);
  try {
    return node(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What such a program prints, as JSON. */
function evaluate(program: string): unknown {
  const result = execute(program);
  assert.equal(result.status, 0, result.stderr);
  return JSON.parse(result.stdout);
}

const module = (name: string): string => JSON.stringify(`file://${root}scripts/lib/${name}.mjs`);

/** Not a zombie that nobody has waited for. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

describe('the npm scripts', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const files = [
    ...new Set(
      Object.values(scripts)
        .map((command) => /scripts\/[\w.-]+\.mjs/.exec(command)?.[0])
        .filter((file) => file !== undefined),
    ),
  ];

  for (const file of [...files, 'scripts/native.mjs']) {
    it(`${file} --help explains itself without doing anything`, () => {
      const { status, stdout } = node(join(root, file), '--help');
      assert.equal(status, 0);
      assert.match(stdout, /^Usage: /);
    });
  }

  it('refuse an unknown option with exit code 2 and the usage', () => {
    const { status, stderr } = node(join(root, 'scripts/clean.mjs'), '--everything');
    assert.equal(status, 2);
    assert.match(stderr, /--everything[\s\S]*Usage: npm run clean/);
  });

  it('import nothing that npm would have to install first', () => {
    const sources = ['scripts', 'scripts/lib'].flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.mjs'))
        .map((name) => join(root, folder, name)),
    );
    for (const source of sources) {
      for (const [, specifier = ''] of readFileSync(source, 'utf8').matchAll(/^import .*from '([^']+)'/gm)) {
        assert.match(specifier, /^(node:|\.)/, `${source} imports ${specifier}`);
      }
    }
  });
});

describe('the order of the tests', () => {
  it('begins with the files that take longest, which are all there, and leaves none out', () => {
    const { longest, ordered } = evaluate(
      `import { LONGEST, longestFirst } from ${module('node-tests')};
      const last = LONGEST.at(-1);
      const files = ['dist/test/a.test.js', \`dist/test/\${last}.test.js\`, 'dist/test/b.test.js'];
      console.log(JSON.stringify({ longest: LONGEST, ordered: longestFirst(files) }));`,
    ) as { longest: string[]; ordered: string[] };
    for (const name of longest) assert.ok(existsSync(join(root, `test/${name}.test.ts`)), name);
    assert.deepEqual(ordered, [
      `dist/test/${longest.at(-1)}.test.js`,
      'dist/test/a.test.js',
      'dist/test/b.test.js',
    ]);
  });

  it('leaves those that take long to a command of their own, and no others', () => {
    const { long, left } = evaluate(
      `import { isLong, LONG } from ${module('node-tests')};
      const files = ['a', ...LONG].map((name) => \`dist/test/\${name}.test.js\`);
      console.log(JSON.stringify({ long: LONG, left: files.filter((file) => !isLong(file)) }));`,
    ) as { long: string[]; left: string[] };
    for (const name of long) assert.ok(existsSync(join(root, `test/${name}.test.ts`)), name);
    assert.deepEqual(left, ['dist/test/a.test.js']);
  });

  it('has those that load the machine one after the other, beside all others, and as many at a time until the end', () => {
    const { loading, lanes, longest } = evaluate(
      `import { LOADING, LONGEST, lanesOf } from ${module('node-tests')};
      const files = ['dist/test/a.test.js', ...LOADING.map((name) => \`dist/test/\${name}.test.js\`)];
      const lanes = lanesOf(files);
      const longest = LONGEST.find((name) => LOADING.includes(name));
      const shared = lanes.every((lists) => lists.at(-1) === lanes[0].at(-1));
      console.log(JSON.stringify({ loading: LOADING, longest, lanes: shared ? lanes : [] }));`,
    ) as { loading: string[]; longest: string; lanes: string[][][] };
    for (const name of loading) assert.ok(existsSync(join(root, `test/${name}.test.ts`)), name);
    const [[alone = [], ...then] = [], ...beside] = lanes;
    assert.equal(alone[0], `dist/test/${longest}.test.js`);
    assert.deepEqual(alone.toSorted(), loading.map((name) => `dist/test/${name}.test.js`).toSorted());
    assert.deepEqual(then, [['dist/test/a.test.js']]);
    assert.ok(beside.length > 1);
    for (const lists of beside) assert.deepEqual(lists, then);
  });
});

describe('a step', () => {
  it('that fails shows the tail of what the command said and where the rest is', () => {
    const { status, stderr } = execute(`import { main, step } from ${module('steps')};
       import { quietly } from ${module('command')};
       await main(() => step('a step', () => quietly('test-step', 'sh', ['-c', 'echo the reason; exit 3'])));`);
    assert.equal(status, 1);
    assert.match(stderr, /✗ a step/);
    assert.match(stderr, /code 3; all of its output is in build\/logs\/test-step\.log/);
    assert.match(stderr, /^the reason$/m);
  });

  it('is current only for the same inputs and while its outputs exist', () => {
    const answers = evaluate(`
      import { mkdtempSync, writeFileSync, rmSync } from 'node:fs';
      import { relative } from 'node:path';
      import { root } from ${module('paths')};
      import { fingerprint, isCurrent, setCurrent } from ${module('stamp')};
      const folder = relative(root, mkdtempSync('/tmp/omerta-stamp-'));
      writeFileSync(root + '/' + folder + '/input', 'one');
      const before = fingerprint([folder]);
      const answers = [isCurrent('test-stamp', before, [folder])];
      setCurrent('test-stamp', before);
      answers.push(isCurrent('test-stamp', before, [folder]));
      answers.push(isCurrent('test-stamp', before, [folder + '/output']));
      writeFileSync(root + '/' + folder + '/input', 'three');
      answers.push(isCurrent('test-stamp', fingerprint([folder]), [folder]));
      rmSync(root + '/' + folder, { recursive: true });
      rmSync(root + '/build/stamps/test-stamp');
      console.log(JSON.stringify(answers));`);
    assert.deepEqual(answers, [false, true, false, false]);
  });
});

describe('a crash of a fuzz target', () => {
  /** Saves inputs of a target that breaks by those with a 1 in them. @returns what is said, and what was kept. */
  const saved = (input: string): { status: number | null; stderr: string; kept: string[] } => {
    const folder = mkdtempSync(join(tmpdir(), 'omerta-save-test-'));
    const name = basename(folder);
    const regressions = join(root, 'test/fuzz/regressions', name);
    const script = join(folder, 'target.mjs');
    writeFileSync(
      script,
      `export default {
         seeds: () => [],
         run: (input) => { if (input.includes(49)) throw new Error('broken'); },
       };`,
    );
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'crash-1'), input);
    try {
      const target = { name, executable: process.execPath, script };
      const { status, stderr } = execute(
        `import { main } from ${module('steps')};
         import { saveCrash } from ${module('fuzz')};
         await main(() => saveCrash('${folder}/${name}/crash-1', [${JSON.stringify(target)}]));`,
      );
      const files = existsSync(regressions) ? readdirSync(regressions) : [];
      return { status, stderr, kept: files.map((file) => readFileSync(join(regressions, file), 'utf8')) };
    } finally {
      rmSync(folder, { recursive: true });
      rmSync(regressions, { recursive: true, force: true });
    }
  };

  it('becomes a regression, the smallest that breaks the target too', () => {
    const { status, stderr, kept } = saved('0000000010000');
    assert.equal(status, 0, stderr);
    assert.deepEqual(kept, ['1']);
  });

  it('is refused when it breaks the target no longer, and nothing is kept', () => {
    const { status, stderr, kept } = saved('000000');
    assert.equal(status, 1);
    assert.match(stderr, /does not break by .*crash-1 any more, so nothing was kept\. .*: cp /);
    assert.deepEqual(kept, []);
  });
});

describe('the test summary', () => {
  it('counts a failed, a skipped and a passed native test and reads the reason of a skip', () => {
    const xml = `<testsuite>
      <testcase name="good" status="run"><system-out>fine</system-out></testcase>
      <testcase name="bad" status="fail"><failure message=""/><system-out/></testcase>
      <testcase name="skipped" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/><system-out>SKIP: needs &lt;root&gt;</system-out></testcase>
      <testcase name="gone" status="notrun"><skipped message="Unable to find executable: gone"/><system-out/></testcase>
    </testsuite>`;
    const answer = evaluate(`
      import { TestResults } from ${module('test-results')};
      import { readJUnit } from ${module('native-tests')};
      const results = new TestResults();
      readJUnit(${JSON.stringify(xml)}, results);
      console.log(JSON.stringify([results.passed, results.failures, [...results.skips], results.exitCode]));`);
    assert.deepEqual(answer, [
      1,
      ['native: bad', 'native: gone'],
      [['needs <root>', ['native: skipped']]],
      1,
    ]);
  });

  it('counts node tests, takes a broken file and one without tests as failures, and reads skips', () => {
    const answer = evaluate(`
      import { mkdtempSync, writeFileSync, rmSync } from 'node:fs';
      import { TestResults } from ${module('test-results')};
      import { runNodeTests } from ${module('node-tests')};
      const folder = mkdtempSync('/tmp/omerta-results-');
      const file = (name, text) => (writeFileSync(folder + '/' + name, text), folder + '/' + name);
      const head = "import { test, describe, it } from 'node:test'; import assert from 'node:assert';";
      const files = [
        file('good.test.mjs', head + "test('one', () => {}); describe('suite', () => { it('two', () => {}); it('three', { skip: 'no root' }, () => {}); });"),
        file('bad.test.mjs', head + "describe('suite', () => { it('four', () => assert.fail('no')); });"),
        file('whole.test.mjs', head + "describe('all of it', { skip: 'no tools' }, () => { it('five', () => {}); });"),
        file('empty.test.mjs', ''),
        file('broken.test.mjs', 'throw new Error("broken")'),
      ];
      const results = new TestResults();
      const write = process.stdout.write;
      process.stdout.write = () => true;
      await runNodeTests(files, results);
      process.stdout.write = write;
      rmSync(folder, { recursive: true });
      const plain = (text) => text.replace(/^.*\\//, '');
      console.log(JSON.stringify({
        passed: results.passed,
        failures: results.failures.map(plain).sort(),
        cause: [...results.causes].find(([name]) => name.endsWith('four'))[1].split('\\n')[0],
        skips: [...results.skips].map(([reason, names]) => [reason, names.map(plain)]).sort(),
      }));`);
    assert.deepEqual(answer, {
      passed: 2,
      failures: ['bad.test.mjs: four', 'broken.test.mjs', 'empty.test.mjs holds no test'],
      cause: 'testCodeFailure: AssertionError [ERR_ASSERTION]: no',
      skips: [
        ['no root', ['good.test.mjs: three']],
        ['no tools', ['whole.test.mjs: all of it']],
      ],
    });
  });

  it('is ended with all that the tests started by a signal to it alone', async (t) => {
    for (const end of ['SIGTERM', 'SIGINT', 'npm'] as const) {
      const folder = mkdtempSync(join(tmpdir(), 'omerta-scripts-'));
      t.after(() => rmSync(folder, { recursive: true }));
      const pids = join(folder, 'pids');
      const program = join(folder, 'program.mjs');
      writeFileSync(
        join(folder, 'endless.test.mjs'),
        `import { spawn } from 'node:child_process'; import { writeFileSync, renameSync } from 'node:fs';
        import { test } from 'node:test';
        test('endless', async () => {
          // As a daemon that a test started and whose terminal is nobody's.
          const daemon = spawn('sleep', ['1000'], { stdio: 'ignore', detached: true });
          writeFileSync(${JSON.stringify(`${pids}.new`)}, process.pid + ' ' + daemon.pid);
          renameSync(${JSON.stringify(`${pids}.new`)}, ${JSON.stringify(pids)});
          await new Promise((resolve) => setTimeout(resolve, 1e6));
        });`,
      );
      writeFileSync(
        program,
        `import { TestResults } from ${module('test-results')};
        import { runNodeTests } from ${module('node-tests')};
        await runNodeTests([${JSON.stringify(join(folder, 'endless.test.mjs'))}], new TestResults());`,
      );
      // npm passes SIGTERM on to nobody.
      const [file, args] =
        end === 'npm'
          ? ['sh', ['-c', `${process.execPath} ${program} & wait`]]
          : [process.execPath, [program]];
      const npm = { ...env, npm_lifecycle_event: end === 'npm' ? 'test' : undefined };
      const runner = spawn(file, args, { env: npm, stdio: 'ignore', detached: true });
      const ended = once(runner, 'exit');
      await until('the test runs', () => existsSync(pids), 60_000);
      const started = readFileSync(pids, 'utf8').split(' ').map(Number);
      assert.ok(runner.kill(end === 'npm' ? 'SIGTERM' : end));
      const [code, signal] = (await ended) as [number | null, string | null];
      if (end === 'npm') await until('all end', () => !started.some(isRunning), 60_000);
      assert.deepEqual(
        [code, signal],
        { SIGTERM: [143, null], SIGINT: [130, null], npm: [null, 'SIGTERM'] }[end],
      );
      for (const pid of started) assert.ok(!isRunning(pid), `${pid} is gone after ${end}`);
    }
  });

  it('fails when no test ran', () => {
    const answer = evaluate(`
      import { TestResults } from ${module('test-results')};
      console.log(new TestResults().exitCode);`);
    assert.equal(answer, 1);
  });
});

describe('files that comments and documents name', () => {
  const misnamed = (name: string, text: string): unknown =>
    evaluate(`
      import { misnamed } from ${module('named-files')};
      const files = ['native/tun/tun_port.cc', 'ts/wire/frame.ts'];
      const read = () => 'TunPort::receive() {}';
      console.log(JSON.stringify(misnamed(${JSON.stringify(name)}, ${JSON.stringify(text)}, files, read)));`);

  it('are in the tree', () => {
    const gone = ['tun/tun_gone.cc', 'gone.ts'];
    const text = `import './gone.js';\n// Drawn in wire/frame.ts, read by ${gone[0]}.\n * See ${gone[1]}.`;
    assert.deepEqual(
      misnamed('a.ts', text),
      gone.map((file, index) => `a.ts:${index + 2}: ${file} is not in this tree`),
    );
  });

  it('of a drawing have the functions that are named with them', () => {
    const text = ' A  reads   tun/tun_port.cc TunPort::receive, send,\n            wire/frame.ts receive';
    assert.deepEqual(misnamed('a.md', text), ['a.md:1: native/tun/tun_port.cc has no send']);
  });
});
