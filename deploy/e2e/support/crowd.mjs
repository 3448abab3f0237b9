// Many clients over all transports that come back when they are sent away, as SDKs and browsers do, and that know exactly
// what they have received: every one follows one channel and notes what is missing, doubled or out of order.
import { randomUUID } from "node:crypto";
import { request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

import { until } from "./wait.mjs";

/** How long a browser waits before it comes back, unless the stream said something else. */
const DEFAULT_RETRY = 3000;
/** How long an answer may take to begin. */
const CONNECT_TIMEOUT = 10_000;

/** What happened to all of them, with the time of each in milliseconds. */
class Journal {
  /** Connections made; the first of each client included. */
  connects = [];
  /** Connections or requests that failed: refused, cut before an answer, or answered with an error. */
  failures = [];
  /** Connections that ended, with what was said. */
  closes = [];
  /** Publications missing, doubled or out of order, and gaps. */
  faults = [];

  note(list, what) {
    this[list].push({ at: Date.now(), ...what });
  }
}

/** One client's place in its channel. */
class Place {
  #journal;
  #name;

  constructor(journal, name, channel) {
    this.#journal = journal;
    this.#name = name;
    this.channel = channel;
    /** The last offset it knows of: its start, then what it received. */
    this.offset = undefined;
    this.received = 0;
  }

  start(offset) {
    this.offset = offset;
  }

  take(offset) {
    if (offset !== this.offset + 1) this.fault(`${offset} after ${this.offset}`);
    this.offset = offset;
    this.received += 1;
  }

  fault(what) {
    this.#journal.note("faults", { client: this.#name, channel: this.channel, what });
  }
}

/**
 * Clients of one address. `counts` says how many of which transport; channels are given out in turn. `token` is that of all of
 * them, or a function of the client's number: a user may have only so many connections.
 */
export class Crowd {
  journal = new Journal();
  clients = [];

  constructor({ host, port, token, channels, counts }) {
    let n = 0;
    for (const [transport, count] of Object.entries(counts)) {
      for (let of = 0; of < count; of++) {
        const at = { host, port, token: typeof token === "function" ? token(n) : token };
        const place = new Place(this.journal, `${transport}-${of}`, channels[n++ % channels.length]);
        this.clients.push(new KINDS[transport](at, place, this.journal));
      }
    }
  }

  /** Connects all, so many per second, and waits until each has its place. */
  async open(perSecond) {
    const began = Date.now();
    let ready = 0;
    for (const [n, client] of this.clients.entries()) {
      const due = began + (n * 1000) / perSecond;
      if (due > Date.now()) await pause(due - Date.now());
      client.open().then(() => (ready += 1));
    }
    await until("every client to be connected", () => ready === this.clients.length, 60_000);
  }

  /** Those that do not have everything up to the offsets given by channel. */
  behind(heads) {
    return this.clients.filter(({ place }) => place.offset !== heads.get(place.channel));
  }

  close() {
    for (const client of this.clients) client.close();
  }
}

/** The official SDK. */
class ByWebSocket {
  #sdk;
  #subscription;

  constructor({ host, port, token }, place, journal) {
    this.place = place;
    // The SDK retries by itself; what failed on the way is only seen below it.
    class Watched extends WebSocket {
      constructor(...args) {
        super(...args);
        let opened = false;
        this.on("open", () => (opened = true));
        this.on("error", (error) => {
          if (!opened) journal.note("failures", { transport: "websocket", what: error.message });
        });
      }
    }
    this.#sdk = new Centrifuge(`ws://${host}:${port}/connection/websocket`, { websocket: Watched, token });
    this.#sdk.on("connected", () => journal.note("connects", { transport: "websocket" }));
    this.#sdk.on("connecting", ({ code, reason }) => {
      if (code !== 0) journal.note("closes", { transport: "websocket", what: `${code} ${reason}` });
    });
    this.#sdk.on("disconnected", ({ code, reason }) => {
      if (code !== 0) place.fault(`disconnected for good: ${code} ${reason}`);
    });
    this.#subscription = this.#sdk.newSubscription(place.channel);
  }

  open() {
    const { place } = this;
    const ready = new Promise((resolve) => {
      this.#subscription.on("subscribed", ({ streamPosition, wasRecovering, recovered }) => {
        if (place.offset === undefined) place.start(streamPosition.offset);
        else if (!wasRecovering || !recovered) place.fault("not recovered");
        resolve();
      });
    });
    this.#subscription.on("publication", ({ offset }) => place.take(offset));
    this.#subscription.subscribe();
    this.#sdk.connect();
    return ready;
  }

  close() {
    this.#sdk.disconnect();
  }
}

/** What both transports over plain requests have in common: a loop that goes on until it is told to stop. */
class ByRequests {
  #at;
  #live;
  closed = false;

  constructor(at, place, journal) {
    this.#at = at;
    this.place = place;
    this.journal = journal;
  }

  open() {
    return new Promise((resolve) => {
      this.ready = resolve;
      this.run();
    });
  }

  close() {
    this.closed = true;
    this.#live?.destroy();
  }

  /** A request on a connection of its own; the answer, or `undefined` when there was none that helps. */
  async ask(transport, path, headers = {}) {
    const { host, port, token } = this.#at;
    try {
      return await new Promise((resolve, reject) => {
        const asked = request({ host, port, path, agent: false, headers: { Authorization: `Bearer ${token}`, ...headers } });
        this.#live = asked;
        // A poll answers late; only a connection that is not made, or a stream that does not begin, is a failure.
        const late = setTimeout(() => asked.destroy(new Error("no connection in time")), CONNECT_TIMEOUT);
        asked.on("socket", (socket) => socket.once("connect", () => clearTimeout(late)));
        asked.on("error", reject);
        asked.on("close", () => clearTimeout(late));
        asked.on("response", (answer) => {
          if (answer.statusCode === 200) return resolve(answer);
          answer.resume();
          reject(new Error(`status ${answer.statusCode}`));
        });
        asked.end();
      });
    } catch (error) {
      if (!this.closed) this.journal.note("failures", { transport, what: error.message });
      return undefined;
    }
  }
}

/** A plain event stream, read as a browser's EventSource reads it. */
class ByEventStream extends ByRequests {
  #cursor;
  #retry = DEFAULT_RETRY;

  async run() {
    const path = `/sse?channel=${encodeURIComponent(this.place.channel)}`;
    while (!this.closed) {
      const answer = await this.ask("sse", path, this.#cursor ? { "Last-Event-ID": this.#cursor } : {});
      if (answer) {
        this.journal.note("connects", { transport: "sse" });
        await this.#read(answer);
        if (!this.closed) this.journal.note("closes", { transport: "sse", what: `retry ${this.#retry}` });
      }
      if (!this.closed) await pause(this.#retry);
    }
  }

  async #read(answer) {
    let rest = "";
    let fields = {};
    try {
      for await (const piece of answer.setEncoding("utf8")) {
        const lines = (rest + piece).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (line === "") {
            this.#event(fields);
            fields = {};
            continue;
          }
          const [, field, value] = /^([^:]*): ?(.*)$/.exec(line) ?? [];
          // The one field that does not wait for the end of its event.
          if (field === "retry") this.#retry = Number(value);
          else fields[field] = value;
        }
      }
    } catch {
      // Cut off: like an end.
    }
  }

  #event({ event = "message", data, id }) {
    if (id !== undefined) this.#cursor = id;
    if (event === "gap") this.place.fault(`gap ${data}`);
    if (event === "ready" && this.place.offset === undefined) this.place.start(offsetOf(this.#cursor));
    if (event === "ready") this.ready();
    if (event === "message" && data) this.place.take(JSON.parse(data).offset);
  }
}

/** Long polling: each answer has the cursor for the next request. */
class ByPolling extends ByRequests {
  async run() {
    const path = `/poll?channel=${encodeURIComponent(this.place.channel)}`;
    let cursor;
    while (!this.closed) {
      const answer = await this.ask("poll", cursor ? `${path}&timeout=20&cursor=${cursor}` : path);
      const body = answer && (await json(answer).catch(() => undefined));
      if (!body) {
        if (!this.closed) await pause(1000);
        continue;
      }
      if (this.place.offset === undefined) {
        this.journal.note("connects", { transport: "poll" });
        this.place.start(offsetOf(body.cursor));
        this.ready();
      }
      for (const gap of body.gaps) this.place.fault(`gap ${JSON.stringify(gap)}`);
      for (const { offset } of body.publications) this.place.take(offset);
      cursor = body.cursor;
      if (body.retry) {
        this.journal.note("closes", { transport: "poll", what: "retry" });
        await pause(body.retry);
        if (!this.closed) this.journal.note("connects", { transport: "poll" });
      }
    }
  }
}

const KINDS = { websocket: ByWebSocket, sse: ByEventStream, poll: ByPolling };

/** The offset in a cursor of one channel: `2~<hash><epoch>.<offset>`. */
const offsetOf = (cursor) => Number(cursor.slice(cursor.lastIndexOf(".") + 1));

async function json(answer) {
  let text = "";
  for await (const piece of answer.setEncoding("utf8")) text += piece;
  return JSON.parse(text);
}

/** Publishes to channels in turn at a steady rate, each time on a new connection, until it is told to stop. */
export class SteadyPublisher {
  #id = randomUUID();
  #stopped = false;
  #pending = [];
  #publish;
  /** The last confirmed offset of each channel. */
  heads = new Map();
  /** Attempts that failed; each is made again with the same key, so that it happens once. */
  failures = [];
  published = 0;

  constructor({ host, port, apiKey, channels, perSecond }) {
    this.#publish = (body) => post({ host, port, apiKey, body });
    this.#pending = channels.map((channel, n) => this.#run(channel, (n * 1000) / perSecond, (channels.length * 1000) / perSecond));
  }

  async #run(channel, offset, interval) {
    await pause(offset);
    for (let n = 1; !this.#stopped; n++) {
      const due = Date.now() + interval;
      const body = { channel, data: { n }, idempotency_key: `${this.#id}-${channel}-${n}` };
      for (;;) {
        try {
          const { result } = await this.#publish(body);
          this.heads.set(channel, result.offset);
          this.published += 1;
          break;
        } catch (error) {
          this.failures.push({ at: Date.now(), what: error.message });
          await pause(200);
        }
      }
      await pause(Math.max(0, due - Date.now()));
    }
  }

  /** Ends it once what is on its way is confirmed. */
  async stop() {
    this.#stopped = true;
    await Promise.all(this.#pending);
  }
}

/** One request to the server API on a connection of its own. */
export function post({ host, port, apiKey, body, method = "publish" }) {
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "application/json", "X-API-Key": apiKey };
    const asked = request({ host, port, path: `/api/${method}`, method: "POST", agent: false, headers, timeout: CONNECT_TIMEOUT });
    asked.on("timeout", () => asked.destroy(new Error("no answer in time")));
    asked.on("error", reject);
    asked.on("response", async (answer) => {
      const body = await json(answer).catch(reject);
      if (answer.statusCode !== 200 || body?.error) reject(new Error(`status ${answer.statusCode} ${JSON.stringify(body)}`));
      else resolve(body);
    });
    asked.end(JSON.stringify(body));
  });
}
