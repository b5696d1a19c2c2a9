// iperf3: throughput of TCP streams.

import type { ChildProcess } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import type { Namespace } from './namespace.js';

const PORT = 5201;

interface Report {
  readonly error?: string;
  readonly end?: { readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number } };
}

/** As the receiver saw it. */
export interface Throughput {
  readonly megabitsPerSecond: number;
  readonly bytes: number;
}

/**
 * Sends as fast as it goes to `to` (which listens on `address`) from `from` during `seconds`, over so
 * many streams at once.
 * @param reverse `to` sends, by connections that `from` makes
 */
export async function tcpThroughput(
  from: Namespace,
  to: Namespace,
  address: string,
  seconds: number,
  streams = 1,
  reverse = false,
): Promise<Throughput> {
  const server = to.spawn('iperf3', ['-s', '-1', '-B', address, '-p', String(PORT)], { stdio: 'ignore' });
  try {
    await listening(to, server);
    const args = [
      '-J',
      '-c',
      address,
      '-p',
      String(PORT),
      '-t',
      String(seconds),
      '-P',
      String(streams),
      '--connect-timeout',
      '5000',
      ...(reverse ? ['-R'] : []),
    ];
    const { stdout, stderr } = await from.run('iperf3', args, { timeoutMs: seconds * 1000 + 20_000 });
    if (stdout === '') throw new Error(`iperf3 to ${address}: ${stderr.trim() || 'no answer'}`);
    const report = JSON.parse(stdout) as Report;
    const received = report.end?.sum_received;
    if (report.error !== undefined || received === undefined) {
      throw new Error(`iperf3 to ${address}: ${report.error ?? 'no result'}`);
    }
    return { megabitsPerSecond: received.bits_per_second / 1e6, bytes: received.bytes };
  } finally {
    server.kill('SIGKILL');
  }
}

async function listening(node: Namespace, server: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 100 && server.exitCode === null; tries++) {
    const { stdout } = await node.run('ss', ['-Htln', `sport = :${PORT}`]);
    if (stdout.trim() !== '') return;
    await setTimeout(30);
  }
  throw new Error(`iperf3 does not listen in ${node.name}`);
}
