// A program of the lab that sends as long as its standard input is open, and then prints how many it sent.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Namespace } from './namespace.js';

export class FloodProcess {
  private constructor(private readonly sender: ChildProcess) {}

  static start(from: Namespace, program: string, ...args: readonly string[]): FloodProcess {
    return new FloodProcess(
      from.spawn(process.execPath, [program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
  }

  /** Ends it. @returns how many datagrams were sent. */
  async stop(): Promise<number> {
    let text = '';
    this.sender.stdout?.on('data', (chunk) => (text += String(chunk)));
    const closed = once(this.sender, 'close');
    this.sender.stdin?.end();
    await closed;
    return Number(text);
  }
}
