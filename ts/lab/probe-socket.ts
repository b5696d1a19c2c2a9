// The near end of udp-probe.ts: a UDP socket that lives in a node of the world.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Node } from './world.js';

export interface Received {
  readonly from: string;
  readonly port: number;
  readonly text: string;
}

const PROGRAM = fileURLToPath(new URL('./udp-probe.js', import.meta.url));

export class ProbeSocket {
  private readonly inbox: Received[] = [];
  private readonly waiting = new Set<() => void>();

  private constructor(
    private readonly child: ChildProcess,
    readonly address: string,
    readonly port: number,
  ) {}

  /** Opens a socket on the node's own address. */
  static async open(node: Node, port: number): Promise<ProbeSocket> {
    const child = node.spawn(process.execPath, [PROGRAM, node.address, String(port)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (child.stdout === null) throw new Error('the probe has no output');
    const lines = createInterface({ input: child.stdout });
    const socket = new ProbeSocket(child, node.address, port);
    await Promise.race([
      once(lines, 'line'),
      once(child, 'exit').then(() =>
        Promise.reject(new Error(`the probe on ${node.name} port ${port} did not start`)),
      ),
    ]);
    lines.on('line', (line) => {
      socket.inbox.push(JSON.parse(line) as Received);
      for (const wake of socket.waiting) wake();
    });
    return socket;
  }

  send(to: string, port: number, text: string): void {
    this.child.stdin?.write(`${JSON.stringify({ to, port, text })}\n`);
  }

  /** Waits for the datagram with this text; undefined when it has not come after `timeoutMs`. */
  receive(text: string, timeoutMs: number): Promise<Received | undefined> {
    return new Promise((resolve) => {
      const look = (): void => {
        const found = this.inbox.find((datagram) => datagram.text === text);
        if (found !== undefined) finish(found);
      };
      const finish = (found: Received | undefined): void => {
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve(found);
      };
      const timer = setTimeout(finish, timeoutMs, undefined);
      this.waiting.add(look);
      look();
    });
  }

  async close(): Promise<void> {
    const gone = once(this.child, 'exit');
    this.child.stdin?.end();
    await gone;
  }
}
