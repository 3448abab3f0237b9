// A real redis-server of a test's own, which keeps nothing on disk.
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";

import { PATIENCE, until } from "./wait.mjs";
import { folder, onFreePort, Process } from "./process.mjs";

/** Starts a server and waits until it answers. */
export async function startRedis(t) {
  const directory = folder(t);
  return onFreePort((port) => {
    const args = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory];
    const child = new Process(t, join(directory, `redis-${port}.log`), "redis-server", args.map(String));
    const ready = () =>
      until("redis-server", async () => {
        if (!child.running) throw new Error("redis-server exited");
        return (await command(port, "PING").catch(() => "")) === "+PONG";
      });
    return { child, ready, result: { url: `redis://127.0.0.1:${port}`, flush: () => flush(port) } };
  });
}

async function flush(port) {
  const answer = await command(port, "FLUSHALL");
  if (answer !== "+OK") throw new Error(`FLUSHALL: ${answer}`);
}

/** Sends an inline command whose answer is one line. */
async function command(port, text) {
  const socket = connect(port, "127.0.0.1");
  try {
    socket.setEncoding("utf8").write(text + "\r\n");
    const [answer] = await once(socket, "data", { signal: AbortSignal.timeout(PATIENCE) });
    return answer.trim();
  } finally {
    socket.destroy();
  }
}
