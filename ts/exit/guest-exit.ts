// The exit of a member that is a virtual machine's: nothing of the host is changed, and nothing is served. Its packets go
// to members, and to the exit in use or nowhere, as the engine routes them; here it is told where names are asked for.

import type { Engine } from '../contract/engine.js';
import type { ExitInUse } from '../core/runtime/exit-change.js';
import { ExitCode, messageOf, OperatorError } from '../host/operator-error.js';
import { ExitBesideHost } from './exit-beside-host.js';
import type { ExitWish } from './exit-host.js';
import { machineNetwork } from './inner-network.js';

export interface GuestExitOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** The one that runs; undefined = none does yet. */
  readonly engine: () => Engine | undefined;
}

export class GuestExit extends ExitBesideHost {
  readonly backend = 'guest';
  readonly names = { guests: machineNetwork, resolvers: machineNetwork };
  readonly done = Promise.resolve();
  readonly isChanged = false;
  readonly gateway = undefined;
  readonly #options: GuestExitOptions;
  #resolvers: readonly string[] = [];
  /** What which engine was told last. */
  #told: { readonly engine: Engine; readonly text: string } | undefined;

  constructor(options: GuestExitOptions) {
    super(options.now);
    this.#options = options;
  }

  set({ serving, using, routing }: ExitWish): Promise<void> {
    const isServing = serving !== undefined || (routing?.advertised.length ?? 0) > 0;
    const refusal = isServing ? NOT_SERVED : using && refusalOf(using);
    if (refusal !== undefined) return Promise.reject(refusal);
    if (using === undefined) this.#resolvers = [];
    this.#tellNames();
    return this.done;
  }

  setInUse(use: ExitInUse | undefined): Promise<void> {
    this.#resolvers = use?.resolvers ?? [];
    this.#tellNames();
    return this.done;
  }

  /** Another engine may run. */
  check(): Promise<boolean> {
    this.#tellNames();
    return Promise.resolve(false);
  }

  clear(): Promise<void> {
    this.#resolvers = [];
    this.#tellNames();
    return this.done;
  }

  /** It forwards for nobody. */
  protected tellGuests(): void {
    return;
  }

  #tellNames(): void {
    const engine = this.#options.engine();
    const text = this.#resolvers.join(' ');
    if (engine?.guest === undefined || (this.#told?.engine === engine && this.#told.text === text)) return;
    try {
      engine.guest.setNameServers(this.#resolvers);
      this.#told = { engine, text };
      this.error = undefined;
    } catch (error) {
      this.error = `the virtual machine was not told its resolvers (${messageOf(error)})`;
    }
  }
}

const NOT_SERVED = new OperatorError(
  ExitCode.usage,
  'exit',
  'this member is a virtual machine’s, and forwards for nobody',
  'Serve by another member; what this one may do: omerta exit use PEER',
);

/** What asks for a host that is opened or closed in part has no meaning: a virtual machine always is closed. */
function refusalOf({
  allowLan,
  include,
  exclude,
}: NonNullable<ExitWish['using']>): OperatorError | undefined {
  const option = allowLan
    ? '--allow-lan'
    : include.length > 0
      ? '--include'
      : exclude.length > 0
        ? '--exclude'
        : undefined;
  if (option === undefined) return undefined;
  return new OperatorError(
    ExitCode.usage,
    option,
    'this member is a virtual machine’s: what it sends goes to members and by the exit, and nowhere else',
    'Leave it out',
  );
}
