// Event-stream clients that people use, against two nodes and a Redis: each receives at once, resumes on another node with
// exactly what it missed, and sees no empty message.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import test, { after, before } from "node:test";

import { startBrowser } from "../support/browser.mjs";
import { openDoor } from "../support/door.mjs";
import { joined, startNode } from "../support/node.mjs";
import { startRedis } from "../support/redis.mjs";
import { mint } from "../support/token.mjs";
import { PATIENCE, until } from "../support/wait.mjs";
import { clients } from "./event-streams.mjs";
import { servePage } from "./page.mjs";

const options = { timeout: 90_000 };

/** The longest that an event may take, in milliseconds. A client that waits for pings to fill its buffer takes minutes. */
const AT_ONCE = 2_000;
/** As often as the settings allow. */
const PINGS = { "client.ping_interval": "1s", "client.pong_timeout": "500ms" };

/** More than the buffers of clients, with characters that take several bytes or end a line for some parsers. */
const LARGE = "line\nbreaks\r\n\u0085\u2028 ünïcode 👍 ".repeat(500);

const around = {};
before(async () => {
  around.page = await servePage();
  around.origin = around.page.origin;
  around.browser = await startBrowser();
}, options);
after(async () => {
  await around.browser?.close();
  around.page?.close();
});

/** Two nodes, a door to the first, and a client whose stream is ready. */
async function open(t, client) {
  const redis = await startRedis(t);
  const settings = { ...joined(redis), ...PINGS, "auth.allowed_origins": [around.origin], "auth.query_parameter": "token" };
  const [a, b] = await Promise.all([1, 2].map(() => startNode(t, settings)));
  const door = await openDoor(t, a);
  const journal = await client.open(t, `${door.url}/sse?channel=news&channel=quiet`, around);
  await journal.next("opened");
  await journal.next("ready", AT_ONCE);
  return { a, b, door, journal };
}

/** Resolves when a stream of the node, opened now, has seen two pings: one that was opened before has seen one at least. */
async function pinged(node) {
  const headers = { Authorization: `Bearer ${mint()}` };
  const answer = await fetch(`${node.url}/sse?channel=news`, { headers, signal: AbortSignal.timeout(PATIENCE) });
  let lines = "";
  for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
    lines += piece;
    if (lines.split("\n").filter((line) => line === ":").length === 2) return;
  }
  throw new Error(`the stream ended without two pings: ${lines}`);
}

/** The published data of message events. */
function published(messages) {
  return messages.map(({ data }) => {
    assert.notEqual(data, "", "a message is empty");
    return JSON.parse(data).data;
  });
}

/** Every connection has one `opened` and one `ready`, no event is empty or a gap, and nothing else happened. */
function assertOrderly(journal, connections) {
  const kinds = ["opened", "ready", "message", "ended", "broken", "interrupted"];
  assert.deepEqual(journal.kinds().filter((kind) => !kinds.includes(kind)), []);
  assert.equal(journal.all("opened").length, connections, "onopen is called once for each connection");
  assert.equal(journal.all("ready").length, connections);
  const events = [...journal.all("ready"), ...journal.all("message")];
  assert.deepEqual(events.filter(({ data }) => !data), [], "no event is empty");
  for (const { data } of events) assert.equal(typeof JSON.parse(data), "object");
}

/** The position in the request for the newest stream. */
function position(client, door) {
  const head = door.heads.filter((head) => head.startsWith("GET /sse?")).at(-1);
  return decodeURIComponent(client.position.exec(head)?.[1] ?? "none");
}

for (const client of clients) {
  test(`${client.name} receives at once, also after pings`, options, async (t) => {
    const { a, b, journal } = await open(t, client);
    await b.publish("news", "alone");
    assert.deepEqual(published([await journal.next("message", AT_ONCE)]), ["alone"]);
    await pinged(a);
    await b.publish("news", LARGE);
    assert.deepEqual(published([await journal.next("message", AT_ONCE)]), [LARGE]);
    assertOrderly(journal, 1);
  });

  test(`${client.name} resumes after its node was killed`, options, async (t) => {
    const { a, b, door, journal } = await open(t, client);
    await a.publish("news", "before");
    const { id } = await journal.next("message");
    door.lead(null);
    await a.kill();
    for (let n = 1; n <= 5; n++) await b.publish("news", n);
    await until("the client to have tried in vain", () => door.refused > 0);
    door.lead(b);
    await journal.next("ready");
    assert.equal(position(client, door), id);
    await b.publish("news", "after");
    await journal.take("message", 6);
    assert.deepEqual(published(journal.all("message")), ["before", 1, 2, 3, 4, 5, "after"]);
    assertOrderly(journal, 2);
    assert.deepEqual(journal.all("ended"), [], "a killed node's stream does not end in good order");
  });

  test(`${client.name} is handed over by a draining node`, options, async (t) => {
    const { a, b, door, journal } = await open(t, client);
    await a.publish("news", 1);
    await journal.next("message");
    door.lead(b);
    a.terminate();
    await b.publish("news", 2);
    assert.equal((await a.exited()).code, 0);
    await b.publish("news", 3);
    await journal.next("ready");
    await b.publish("news", 4);
    await journal.take("message", 3);
    assert.deepEqual(published(journal.all("message")), [1, 2, 3, 4]);
    assertOrderly(journal, 2);
    assert.deepEqual(journal.all("broken"), [], "a draining node ends its streams in good order");
  });
}

/** The last bytes of a stream whose client must not come back: no call of the server API ends one so yet. */
const LAST_EVENT = 'event: disconnect\ndata: {"code":3503,"reason":"force disconnect"}\nid: stop\n\n';

/** A server whose only stream has the last bytes, and ends when the test calls `end`. */
async function startEnding(t) {
  const ending = { end: undefined };
  const server = createServer((_, response) => {
    const headers = { "Content-Type": "text/event-stream", "Access-Control-Allow-Origin": "*", Connection: "close" };
    response.writeHead(200, headers);
    response.write(`: fanway\nretry: 1\n${LAST_EVENT}`);
    ending.end = () => response.end();
  });
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  ending.port = server.address().port;
  return ending;
}

for (const client of clients.filter(({ stops }) => stops)) {
  test(`${client.name} stops after an event that says so`, options, async (t) => {
    const ending = await startEnding(t);
    const settings = { "auth.allowed_origins": [around.origin], "auth.query_parameter": "token" };
    const node = await startNode(t, { ...joined(await startRedis(t)), ...settings });
    const door = await openDoor(t, ending);
    const journal = await client.open(t, `${door.url}/sse?channel=news`, around);
    assert.equal((await journal.next("disconnect")).id, "stop");
    door.lead(node);
    ending.end();
    await journal.next("stopped");
    assert.equal(position(client, door), "stop");
    assert.equal(door.heads.filter((head) => head.startsWith("GET /sse?")).length, 2);
    assert.deepEqual(journal.all("ready"), []);
    // The page may begin anew.
    const anew = await client.open(t, `${door.url}/sse?channel=news`, around);
    await anew.next("ready");
  });
}
