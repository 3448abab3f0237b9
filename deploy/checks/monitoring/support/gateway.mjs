// Nodes as they run in production: one port for clients, one for the server API, metrics and health.
import { writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";

import { folder, onFreePort, Process } from "../../../e2e/support/process.mjs";
import { SECRET } from "../../../e2e/support/token.mjs";
import { PATIENCE, until } from "../../../e2e/support/wait.mjs";
import { ROOT } from "./tools.mjs";

const BINARY = process.env.FANWAY_BIN ?? join(ROOT, "target/ci/fanway");
const API_KEY = "an-api-key-for-tests-only";

const settings = ({ port, internal, redis, drain }) => `
[server]
listen = "127.0.0.1:${port}"
internal_listen = "127.0.0.1:${internal}"
max_connections = 1000
[broker]
engine = "redis"
[redis]
url = "${redis.url}"
fleet = "monitoring"
probe_interval = "1s"
[api]
keys = [{ id = "checks", key = "${API_KEY}" }]
[auth]
keys = [{ algorithm = "HS256", secret = "${SECRET}" }]
[default_namespace]
history_size = 50
history_ttl = "5m"
subscribe = "authenticated"
[drain]
propagation_delay = "1s"
window = "${drain}"
close_timeout = "2s"
`;

/** Starts a node and waits until it is ready. `drain` is its drain window. */
export function startGateway(t, name, redis, { drain = "6s" } = {}) {
  const directory = folder(t);
  return onFreePort((port) => {
    // The kernel gives listeners ports of one parity and connections those of the other, so that this one is mostly free;
    // if not, both are tried anew.
    const file = join(directory, `${name}.toml`);
    const internal = port + 2;
    writeFileSync(file, settings({ port, internal, redis, drain }));
    const child = new Process(t, join(directory, `${name}-${port}.log`), BINARY, ["serve", "--config", file]);
    const gateway = new Gateway(name, child, port, internal);
    return { child, result: gateway, ready: () => gateway.ready() };
  });
}

class Gateway {
  #child;

  constructor(name, child, port, internal) {
    Object.assign(this, { name, port, internal });
    this.#child = child;
    this.address = `127.0.0.1:${internal}`;
  }

  async ready() {
    await until(`${this.name} to be ready`, async () => {
      if (!this.#child.running) throw new Error("the node exited");
      return (await fetch(`http://${this.address}/health/ready`).catch(() => undefined))?.ok;
    });
  }

  get running() {
    return this.#child.running;
  }

  /** Calls the server API. Gives the status. */
  async api(method, body) {
    const response = await fetch(`http://${this.address}/api/${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-API-Key": API_KEY },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
    await response.text();
    return response.status;
  }

  /** The node drains and ends. */
  async drain() {
    this.#child.terminate();
    return this.#child.exited(60_000);
  }
}

/** One address for clients, which leads each new connection to the next node that takes some. */
export async function startBalancer(t, gateways) {
  let turn = 0;
  const open = new Set();
  const server = createServer((client) => {
    const { port } = gateways[turn++ % gateways.length];
    const upstream = connect(port, "127.0.0.1");
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      open.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => {
        open.delete(from);
        to.destroySoon();
      });
      from.pipe(to);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  const { port } = server.address();
  return { port, gateways, websocketUrl: `ws://127.0.0.1:${port}/connection/websocket` };
}
