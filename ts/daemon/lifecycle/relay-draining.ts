// A relay's drain, as its operator asks for it, or as a part of its end. What it is, the core decides; here is when the
// daemon ends by it.

import { setTimeout as sleep } from 'node:timers/promises';
import type { DrainStatus } from '../../core/runtime/mesh-status.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import type { Mesh } from './mesh.js';

const LOOK_MS = 50;

export class RelayDraining {
  readonly #mesh: () => Mesh;
  readonly #ended: () => void;
  #timer: NodeJS.Timeout | undefined;
  #hurried = false;

  /** @param ended called once a drain that was not to stay is over. */
  constructor(mesh: () => Mesh, ended: () => void) {
    this.#mesh = mesh;
    this.#ended = ended;
  }

  /**
   * @param stay whether the daemon goes on when it is over.
   * @throws OperatorError when this is no relay.
   */
  begin(seconds: number, stay: boolean): DrainStatus {
    this.#requireRelay();
    clearInterval(this.#timer);
    const { shell } = this.#mesh();
    shell.command((node, step) => node.drainRelay(seconds, false, step));
    if (!stay)
      this.#timer = setInterval(() => {
        if (!shell.node.isRelayDrained) return;
        this.close();
        this.#ended();
      }, LOOK_MS);
    return this.#status();
  }

  /** @throws OperatorError when this is no relay, or none that drains. */
  undo(): void {
    this.#requireRelay();
    this.#status();
    this.close();
    this.#mesh().shell.command((node, step) => node.undrainRelay(step));
  }

  /** Before the relay ends: lets those go to another relay who have one. At most `seconds`. */
  async beforeEnd(seconds: number): Promise<void> {
    this.close();
    const { shell } = this.#mesh();
    const { relay } = shell.status();
    if (relay === undefined || relay.registrations === 0 || shell.node.isRelayDrained) return;
    shell.command((node, step) => node.drainRelay(seconds, true, step));
    const isOver = (): boolean => this.#hurried || shell.node.isRelayDrained;
    while (!isOver()) await sleep(LOOK_MS);
  }

  /** Who waits for the end does not want to wait any longer. */
  hurry(): void {
    this.#hurried = true;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #requireRelay(): void {
    if (this.#mesh().shell.status().relay !== undefined) return;
    throw new OperatorError(
      ExitCode.usage,
      'relay',
      'this machine runs as a member',
      'Type it on the relay; here: omerta down',
    );
  }

  #status(): DrainStatus {
    const drain = this.#mesh().shell.status().relay?.drain;
    if (drain !== undefined) return drain;
    throw new OperatorError(
      ExitCode.usage,
      'relay',
      'it does not drain',
      'Type for a drain: omerta relay drain',
    );
  }
}
