// A cap on the connections of a server that nobody can use up by being silent: one more than the cap
// ends the one that has been silent longest, not the newcomer.

import type { Server, Socket } from 'node:net';

export class ConnectionLimit {
  /** Connections, the longest silent first; how many requests of each are being answered. */
  readonly #answering = new Map<Socket, number>();

  constructor(
    server: Server,
    readonly most: number,
  ) {
    server.on('connection', (socket: Socket) => {
      this.#answering.set(socket, 0);
      socket.once('close', () => this.#answering.delete(socket));
      if (this.#answering.size > this.most) this.#endOne(socket);
    });
  }

  /** A request of this connection is being answered, until `answered`: it is not silent. */
  asked(socket: Socket): void {
    this.#move(socket, 1);
  }

  answered(socket: Socket): void {
    this.#move(socket, -1);
  }

  /** Something came in. */
  heard(socket: Socket): void {
    this.#move(socket, 0);
  }

  #move(socket: Socket, by: number): void {
    const answering = this.#answering.get(socket);
    if (answering === undefined) return; // closed
    this.#answering.delete(socket);
    this.#answering.set(socket, answering + by);
  }

  #endOne(newcomer: Socket): void {
    for (const [socket, answering] of this.#answering)
      if (answering === 0) {
        socket.destroy();
        this.#answering.delete(socket);
        return;
      }
    newcomer.destroy();
  }
}
