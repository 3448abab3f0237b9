// Waiting for what must happen: every wait has a deadline and says what it waited for.
import { setTimeout as pause } from "node:timers/promises";

/** How long anything that must happen may take, in milliseconds. Generous: it is only ever used up by a failure. */
export const PATIENCE = 20_000;

const POLL_INTERVAL = 20;

/** Asks `condition` until it gives something truthy, and returns that. */
export async function until(what, condition, within = PATIENCE) {
  const deadline = Date.now() + within;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`waited ${within} ms for ${what}`);
    await pause(POLL_INTERVAL);
  }
}

/** Everything that has happened on one source, and waits for what is still to happen. */
export class Journal {
  #entries = [];
  #taken = new Map();
  #listeners = new Set();

  /** Notes a thing of a kind. */
  note(kind, value) {
    this.#entries.push({ kind, value });
    for (const listener of [...this.#listeners]) listener();
  }

  /** All of a kind so far, whether awaited or not. */
  all(kind) {
    return this.#entries.filter((entry) => entry.kind === kind).map((entry) => entry.value);
  }

  /** The kinds of everything so far, in order. */
  kinds() {
    return this.#entries.map((entry) => entry.kind);
  }

  /** The next of a kind that `next` has not yet returned. */
  async next(kind, within = PATIENCE) {
    const [value] = await this.take(kind, 1, within);
    return value;
  }

  /** The next `count` of a kind. */
  async take(kind, count, within = PATIENCE) {
    const from = this.#taken.get(kind) ?? 0;
    this.#taken.set(kind, from + count);
    const ready = () => this.all(kind).length >= from + count;
    if (!ready()) {
      await new Promise((resolve, reject) => {
        const check = () => {
          if (!ready()) return;
          clearTimeout(timer);
          this.#listeners.delete(check);
          resolve();
        };
        const timer = setTimeout(() => {
          this.#listeners.delete(check);
          const heard = this.#entries.map((entry) => `${entry.kind} ${JSON.stringify(entry.value)}`).slice(-20).join("\n  ");
          reject(new Error(`waited ${within} ms for ${count} of "${kind}" after ${from}; heard:\n  ${heard}`));
        }, within);
        this.#listeners.add(check);
      });
    }
    return this.all(kind).slice(from, from + count);
  }
}
