// A load balancer in miniature: one address whose connections go to the node that the test names.
import { once } from "node:events";
import { connect, createServer } from "node:net";

const REQUEST = /^[A-Z]+ \S+ HTTP\/1/;

/** Opens a door to a node. */
export async function openDoor(t, node) {
  const door = new Door(node);
  t.after(() => door.close());
  await door.listen();
  return door;
}

class Door {
  #server = createServer((client) => this.#accept(client));
  #sockets = new Set();
  #node;

  /** The heads of all requests that were let through: also of those that follow another one on a connection. */
  heads = [];
  /** How many connections were turned away. */
  refused = 0;

  constructor(node) {
    this.#node = node;
  }

  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    const { port } = this.#server.address();
    this.url = `http://127.0.0.1:${port}`;
    this.websocketUrl = `ws://127.0.0.1:${port}/connection/websocket`;
  }

  /** Lets new connections through to a node, or turns them away if there is none. Those that stand are left alone. */
  lead(node) {
    this.#node = node;
  }

  /** Cuts every connection that stands, as a broken network does. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #accept(client) {
    if (!this.#node) {
      this.refused += 1;
      client.on("error", () => {});
      client.destroy();
      return;
    }
    client.on("data", (bytes) => {
      const text = bytes.toString("latin1");
      if (REQUEST.test(text)) this.heads.push(text);
    });
    const upstream = connect(this.#node.port, "127.0.0.1");
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroySoon();
      });
      from.pipe(to);
    }
  }
}
