// What the service manager that started this process is told (sd_notify(3)): when it serves, how it fares, that it still
// runs, and that it ends. By it `Type=notify` units start what needs them, `systemctl status` shows why one is not
// ready, and `WatchdogSec=` starts one anew that hangs.

import { getSystemErrorName } from 'node:util';
import type { Logger } from 'pino';
import { loadNativeAddon } from '../../engine/native/native-addon.js';
import { messageOf } from '../../host/operator-error.js';
import { obstacles, readinessText, type ReadinessFacts } from '../../status/model/readiness.js';

/** To build a status takes longer the more a relay carries. */
const STATUS_INTERVAL_MS = 10_000;

type Environment = Record<string, string | undefined>;

export class ServiceManager {
  readonly #timers: NodeJS.Timeout[] = [];
  #said = '';
  #failed = false;

  private constructor(
    private readonly socket: string,
    private readonly watchdogMs: number | undefined,
    private readonly log: Logger,
  ) {}

  /**
   * The one $NOTIFY_SOCKET names, if any. It is taken out of the environment: programs that are started by this one do
   * not speak for it.
   */
  static take(environment: Environment, log: Logger): ServiceManager | undefined {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC, WATCHDOG_PID } = environment;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'])
      Reflect.deleteProperty(environment, name);
    if (socket === undefined || !/^[/@]./.test(socket)) return undefined;
    const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
    const watchdogMs = isOurs ? Number(WATCHDOG_USEC) / 1000 : NaN;
    return new ServiceManager(socket, watchdogMs > 0 ? watchdogMs : undefined, log);
  }

  /** It serves; from now on the status is told when it changes. */
  serves(status: () => ReadinessFacts): void {
    const tell = (first: string[]): void => {
      const [line = '', more] = readinessText(obstacles(status())).split('\n');
      const said = `STATUS=${more === undefined ? line : `${line}: ${more}`}`;
      if (said === this.#said && first.length === 0) return;
      this.#said = said;
      this.#tell([...first, said]);
    };
    tell(['READY=1']);
    this.#timers.push(setInterval(() => tell([]), STATUS_INTERVAL_MS));
    // Twice in its time, as sd_watchdog_enabled(3) asks for.
    if (this.watchdogMs !== undefined)
      this.#timers.push(setInterval(() => this.#tell(['WATCHDOG=1']), this.watchdogMs / 2));
    for (const timer of this.#timers) timer.unref();
  }

  ends(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#tell(['STOPPING=1', 'STATUS=ending']);
  }

  #tell(lines: readonly string[]): void {
    const failure = this.#send(lines.join('\n'));
    if (failure !== undefined && !this.#failed)
      this.log.warn({ reason: failure }, 'service-manager-not-told');
    this.#failed = failure !== undefined;
  }

  #send(text: string): string | undefined {
    try {
      const error = loadNativeAddon().notifyService(this.socket, text);
      return error === 0 ? undefined : getSystemErrorName(-error);
    } catch (error) {
      return messageOf(error); // no addon
    }
  }
}
