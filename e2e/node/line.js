// The actor's end of the line to the scenario, see `harness/wire.py`: facts go out, orders come in,
// and the line does not touch the room.

import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

export class Line {
  #socket;
  #who;

  constructor(socket, who) {
    this.#socket = socket;
    this.#who = who;
    // The scenario may close the line at any time.
    socket.on('error', () => {});
  }

  static async connect(path, who) {
    const socket = connect(path);
    await once(socket, 'connect');
    return new Line(socket, who);
  }

  /** Reports a fact, stamped with the wall clock unless a time in seconds is given. */
  report(what, facts = {}, at = now()) {
    const fact = { t: at, who: this.#who, what, ...facts };
    if (this.#socket.writable) this.#socket.write(`${JSON.stringify(fact)}\n`);
  }

  /** Yields orders until the scenario closes the line. */
  async *orders() {
    for await (const raw of createInterface({ input: this.#socket })) yield JSON.parse(raw);
  }
}

/** Unix seconds. */
export function now() {
  return Date.now() / 1000;
}
