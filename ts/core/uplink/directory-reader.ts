// Reads the directory of one bootstrap, network by network: from its beginning at first, then what has changed
// since the version that is known. What the bootstrap tells by itself comes here too.

import type { SessionKey } from '../../contract/engine.js';
import { fromHex, sameBytes, toHex } from '../../wire/bytes.js';
import type { MessageOf } from '../protocol/control-message.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';

/** What a bootstrap says of its directory. */
export type DirectoryPage = Pick<MessageOf<'records'>, 'network' | 'from' | 'records' | 'gone'> & {
  /** Monotonic ms: of this page, or of the first one while a directory is read from its beginning. */
  readonly since: number;
};

/** What the uplink to the bootstrap lends. Networks are blinded ids (hex), here and below. */
export interface DirectoryReaderHost {
  readonly sessionKey: SessionKey;
  readonly requests: RequestTable;
  isRegistered(): boolean;
  /** Whether the network is read there. */
  wants(network: string): boolean;
  /** Relays a question about this network has come by, this node included; 0 = it is our own. */
  depthOf(network: string): number;
  learned(page: DirectoryPage, turn: Turn): void;
}

export class DirectoryReader {
  readonly #host: DirectoryReaderHost;
  /** Of the bootstrap's present life: the same object, so that an answer is known to be of it. */
  #boot: Uint8Array | undefined;
  /** Version known, by network. */
  readonly #cursors = new Map<string, number>();
  readonly #lookups = new Set<string>();
  /** Networks whose records are being read from the beginning, since when. */
  readonly #reading = new Map<string, number>();

  constructor(host: DirectoryReaderHost) {
    this.#host = host;
  }

  /** The bootstrap's boot id. Whether it is another life of it: then all is read anew. */
  rebooted(boot: Uint8Array): boolean {
    if (this.#boot !== undefined && sameBytes(this.#boot, boot)) return false;
    this.#cursors.clear();
    this.#boot = boot;
    return true;
  }

  /** Forgets what is known of all networks but these. */
  keepOnly(networks: readonly string[]): void {
    const kept = new Set(networks);
    for (const network of this.#cursors.keys()) if (!kept.has(network)) this.#cursors.delete(network);
  }

  /** Asks for what has changed in a network, until there is no more. */
  read(network: string, turn: Turn): void {
    if (this.#lookups.has(network)) return;
    const blindedId = fromHex(network);
    if (blindedId === undefined) return;
    this.#lookups.add(network);
    const boot = this.#boot;
    const message = {
      type: 'lookup',
      network: blindedId,
      after: this.#cursors.get(network) ?? 0,
      depth: this.#host.depthOf(network),
    } as const;
    this.#host.requests.send(this.#host.sessionKey, message, turn, (answer, later) => {
      this.#lookups.delete(network);
      if (answer?.type !== 'records' || boot !== this.#boot) {
        this.#reading.delete(network);
        if (boot !== this.#boot && this.#host.isRegistered()) this.read(network, later);
        return;
      }
      // Only what was asked for is remembered, of a network that is read still: or a bootstrap would tell of any, and
      // of one more page without end.
      if (toHex(answer.network) !== network || !this.#host.wants(network)) {
        this.#reading.delete(network);
        return;
      }
      this.#advance(network, answer);
      this.#host.learned({ ...answer, since: this.#readSince(network, answer.from, later) }, later);
      if (!answer.more) this.#reading.delete(network);
      if (answer.more) this.read(network, later);
    });
  }

  /** The bootstrap tells what has changed. */
  handleChanged(request: number, message: MessageOf<'records-changed'>, turn: Turn): void {
    const network = toHex(message.network);
    const { sessionKey } = this.#host;
    // Only what was asked for is remembered.
    if (!this.#host.wants(network)) {
      turn.refuse(sessionKey, request, message.type, 'not-a-member');
      return;
    }
    this.#advance(network, message);
    const { network: blindedId, version } = message;
    turn.send(sessionKey, request, { type: 'records-received', network: blindedId, version });
    this.#host.learned({ ...message, since: this.#reading.get(network) ?? turn.now }, turn);
  }

  #advance(network: string, { from, version }: { readonly from: number; readonly version: number }): void {
    const known = this.#cursors.get(network) ?? 0;
    if (from > 0 && !this.#cursors.has(network)) return; // of no interest any more
    this.#cursors.set(network, from === 0 ? version : Math.max(version, known));
  }

  #readSince(network: string, from: number, turn: Turn): number {
    if (from === 0 && !this.#reading.has(network)) this.#reading.set(network, turn.now);
    return this.#reading.get(network) ?? turn.now;
  }
}
