// Which bytes of the compiled sources have run, by V8's precise block coverage. Guides the fuzzer, and
// tells how many lines a corpus reaches.

import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const SOURCES = new URL('../../../ts/', import.meta.url).href;

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}
interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly Range[] }[];
}

interface Known {
  /** 1: ran at some time, by offset. */
  ran: Uint8Array;
  painted: Uint8Array;
}

/** Lines of one source that hold code, and those of them that ran. */
export interface FileLines {
  readonly code: number[];
  readonly ran: number[];
}

export class Coverage {
  readonly #session = new Session();
  readonly #known = new Map<string, Known>();

  /** From now on it is watched what runs. */
  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** How many bytes ran since the last look that had not run when take() was called last. */
  look(): number {
    return this.#since(false);
  }

  /** The same, and from now on they are known to run. */
  take(): number {
    return this.#since(true);
  }

  #since(remember: boolean): number {
    let fresh = 0;
    let scripts: readonly ScriptCoverage[] = [];
    this.#session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error !== null) throw error;
      scripts = taken.result;
    });
    for (const { url, functions } of scripts) {
      if (!url.startsWith(SOURCES)) continue;
      fresh += this.#paint(url, functions, remember);
    }
    return fresh;
  }

  /** Outer functions come before those inside them, whose own counts are painted over theirs. */
  #paint(url: string, functions: ScriptCoverage['functions'], remember: boolean): number {
    const size = Math.max(...functions.flatMap(({ ranges }) => ranges.map(({ endOffset }) => endOffset)));
    const known = this.#known.get(url) ?? { ran: new Uint8Array(size), painted: new Uint8Array(size) };
    if (known.ran.length < size) {
      const ran = new Uint8Array(size);
      ran.set(known.ran);
      known.ran = ran;
      known.painted = new Uint8Array(size);
    }
    this.#known.set(url, known);
    known.painted.fill(0);
    for (const { ranges } of functions)
      for (const { startOffset, endOffset, count } of ranges)
        known.painted.fill(count > 0 ? 1 : 0, startOffset, endOffset);
    let fresh = 0;
    for (let at = 0; at < size; at++) {
      if (known.painted[at] === 1 && known.ran[at] === 0) {
        if (remember) known.ran[at] = 1;
        fresh++;
      }
    }
    return fresh;
  }

  /** By file, relative to the root (dist/ts/…): lines of code, and those that ran at least in part. */
  lines(): Record<string, FileLines> {
    const files: Record<string, FileLines> = {};
    for (const [url, { ran }] of this.#known) {
      const path = fileURLToPath(url);
      const lines: FileLines = { code: [], ran: [] };
      let offset = 0;
      let inComment = false;
      readFileSync(path, 'utf8')
        .split('\n')
        .forEach((text, index) => {
          const start = offset + text.length - text.trimStart().length;
          const end = offset + text.trimEnd().length;
          offset += text.length + 1;
          const line = text.trim();
          if (line.startsWith('/*')) inComment = true;
          const isCode =
            !inComment && /\w/.test(line) && !line.startsWith('//') && !/^(import|export \{)/.test(line);
          if (line.endsWith('*/')) inComment = false;
          if (!isCode) return;
          lines.code.push(index + 1);
          if (ran.subarray(start, end).includes(1)) lines.ran.push(index + 1);
        });
      files[relative(ROOT, path)] = lines;
    }
    return files;
  }
}
