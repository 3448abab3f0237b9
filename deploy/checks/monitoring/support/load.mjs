// Clients of all transports that come back when they are sent away, publishers, and some who do everything wrong.
import { setMaxListeners } from "node:events";
import { get } from "node:http";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

import { client, subscription } from "../../../e2e/support/sdk.mjs";
import { mint } from "../../../e2e/support/token.mjs";

const CHANNELS = 10;
const channel = (at) => `news-${at % CHANNELS}`;

/** What runs until the test ends. Every loop of it ends with `stopped`. */
export class Load {
  #stopping = new AbortController();
  #token = mint();
  /** Publications received, by transport. */
  received = { websocket: 0, sse: 0, poll: 0 };

  constructor(t, balancer) {
    this.t = t;
    this.balancer = balancer;
    // One listener per client.
    setMaxListeners(0, this.#stopping.signal);
    t.after(() => this.#stopping.abort());
  }

  get #stopped() {
    return this.#stopping.signal.aborted;
  }

  /** Connects so many SDKs. */
  websockets(count) {
    for (let at = 0; at < count; at++) {
      const { sdk } = client(this.t, this.balancer);
      const { sub } = subscription(sdk, channel(at));
      sub.on("publication", () => (this.received.websocket += 1));
      sub.subscribe();
      sdk.connect();
    }
  }

  /** Opens so many event streams. */
  streams(count) {
    for (let at = 0; at < count; at++) this.#stream(channel(at));
  }

  #stream(name, last) {
    if (this.#stopped) return;
    const headers = { Authorization: `Bearer ${this.#token}`, Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
    const again = () => setTimeout(() => this.#stream(name, last), 100 + Math.random() * 400).unref();
    const request = get({ port: this.balancer.port, path: `/sse?channel=${name}`, headers, agent: false, signal: this.#stopping.signal });
    request.on("error", again);
    request.on("response", (response) => {
      response.setEncoding("utf8");
      response.on("data", (text) => {
        this.received.sse += (text.match(/^data: .*"data":/gm) ?? []).length;
        last = text.match(/^id: (.*)$/m)?.[1] ?? last;
      });
      response.on("error", () => {});
      response.on("end", again);
    });
  }

  /** Starts so many pollers. */
  pollers(count) {
    for (let at = 0; at < count; at++) this.#poll(channel(at));
  }

  async #poll(name) {
    let cursor;
    const headers = { Authorization: `Bearer ${this.#token}` };
    while (!this.#stopped) {
      const query = new URLSearchParams({ channel: name, timeout: "5", ...(cursor && { cursor }) });
      try {
        const response = await fetch(`http://127.0.0.1:${this.balancer.port}/poll?${query}`, { headers, signal: this.#stopping.signal });
        const answer = await response.json();
        cursor = answer.cursor ?? cursor;
        this.received.poll += answer.publications?.length ?? 0;
      } catch {
        await pause(200);
      }
    }
  }

  /** Publishes so many times a second, through every node in turn, until the test ends or another rate is set. */
  async publish(rate) {
    const mine = (this.publishing = Symbol(`${rate} per second`));
    const data = { text: "x".repeat(200) };
    for (let at = 0; !this.#stopped && this.publishing === mine; at++) {
      const { gateways } = this.balancer;
      await gateways[at % gateways.length].api("publish", { channel: channel(at * 7), data }).catch(() => {});
      await pause(1000 / rate);
    }
  }

  /** Does what must fail: a bad token, an unknown channel, a cursor out of the air, something that is not HTTP. */
  async mistakes() {
    const { port, gateways } = this.balancer;
    const url = `http://127.0.0.1:${port}`;
    const bad = { headers: { Authorization: `Bearer ${mint({ ttl: -100 })}` } };
    const fine = { headers: { Authorization: `Bearer ${this.#token}` } };
    const attempts = [
      fetch(`${url}/sse?channel=${channel(0)}`, bad),
      fetch(`${url}/poll?channel=${channel(0)}&timeout=0&cursor=1~${"0".repeat(16)}.3`, fine),
      gateways[0].api("publish", { channel: "nowhere:1", data: 1 }),
    ];
    const answers = await Promise.allSettled(attempts);
    for (const { value } of answers) await value?.body?.cancel?.();
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.end("this is not HTTP\r\n\r\n");
  }
}
