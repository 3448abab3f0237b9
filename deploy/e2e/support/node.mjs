// Real nodes: the binary named by FANWAY_BIN, with settings of the test's own.
import { writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { folder, onFreePort, Process } from "./process.mjs";
import { SECRET } from "./token.mjs";
import { PATIENCE, until } from "./wait.mjs";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
const BINARY = process.env.FANWAY_BIN ?? join(ROOT, "target/debug/fanway");

/** The API key of nodes under test. */
export const API_KEY = "an-api-key-for-tests-only";

/** Settings by path; a value is JSON, which for texts, numbers, flags and lists is TOML as well. */
const DEFAULTS = {
  "broker.engine": "memory",
  "api.keys": [{ id: "e2e", key: API_KEY }],
  "auth.keys": [{ algorithm: "HS256", secret: SECRET }],
  "auth.leeway": "0s",
  "default_namespace.history_size": 200,
  "default_namespace.history_ttl": "5m",
  "default_namespace.subscribe": "authenticated",
  "default_namespace.publish": "authenticated",
  "default_namespace.history": "authenticated",
  // Quick clocks, so that a test does not take as long as a day in production.
  "client.position_check": "1s",
  "drain.propagation_delay": "0s",
  "drain.window": "500ms",
};

/** Settings that join nodes by a Redis. */
export const joined = (redis) => ({
  "broker.engine": "redis",
  "redis.url": redis.url,
  "redis.fleet": "e2e",
  "redis.probe_interval": "500ms",
});

/** Runs `fanway serve` and waits until it is ready. */
export function startNode(t, settings = {}) {
  const directory = folder(t);
  return onFreePort((port) => {
    const all = { ...DEFAULTS, ...settings, "server.listen": `127.0.0.1:${port}` };
    const file = join(directory, "fanway.toml");
    writeFileSync(file, Object.entries(all).map(([path, value]) => `${path} = ${toml(value)}\n`).join(""));
    return launch(t, directory, port, ["serve", "--config", file]);
  });
}

/** Runs `fanway dev` and waits until it is ready. Give it a Redis to join another one. */
export function startDevNode(t, redis) {
  const directory = folder(t);
  const joining = redis ? ["--redis-url", redis.url] : [];
  return onFreePort((port) => {
    const args = ["dev", "--listen", `127.0.0.1:${port}`, "--secret", SECRET, "--api-key", API_KEY, ...joining];
    return launch(t, directory, port, args);
  });
}

function launch(t, directory, port, args) {
  const child = new Process(t, join(directory, `fanway-${port}.log`), BINARY, args);
  const node = new Node(child, port);
  return { child, result: node, ready: () => node.ready() };
}

function toml(value) {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{ ${Object.entries(value).map(([name, member]) => `${name} = ${toml(member)}`).join(", ")} }`;
}

class Node {
  #child;

  constructor(child, port) {
    this.#child = child;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.websocketUrl = `ws://127.0.0.1:${port}/connection/websocket`;
  }

  async ready() {
    await until("the node to be ready", async () => {
      if (!this.#child.running) throw new Error("the node exited");
      const response = await fetch(`${this.url}/health/ready`).catch(() => undefined);
      return response?.ok;
    });
  }

  /** Publishes over the server API. Returns the position. */
  publish(channel, data, more = {}) {
    return this.api("publish", { channel, data, ...more });
  }

  /** Calls the server API. */
  async api(method, body) {
    const response = await fetch(`${this.url}/api/${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-API-Key": API_KEY },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
    const answer = await response.json();
    if (!response.ok || answer.error) throw new Error(`${method}: ${response.status} ${JSON.stringify(answer)}`);
    return answer.result;
  }

  /** SIGKILL: nothing is said to anybody. */
  kill() {
    return this.#child.kill();
  }

  /** SIGTERM: the node drains. */
  terminate() {
    this.#child.terminate();
  }

  /** How it ended. */
  exited() {
    return this.#child.exited();
  }
}
