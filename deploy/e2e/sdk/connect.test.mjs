// Connecting, and staying connected: tokens, their expiry and refresh, pings.
import assert from "node:assert/strict";
import test from "node:test";

import { startNode } from "../support/node.mjs";
import { client, connected, counted, protobufClient, subscribed, subscription, watched } from "../support/sdk.mjs";
import { mint } from "../support/token.mjs";
import { until } from "../support/wait.mjs";

const options = { timeout: 60_000 };

test("connects with a token that the application fetches", options, async (t) => {
  const node = await startNode(t);
  let fetched = 0;
  const getToken = async () => (fetched++, mint());
  const { greeting } = await connected(t, node, { token: "", getToken });
  assert.equal(fetched, 1);
  assert.equal(greeting.transport, "websocket");
  assert.match(greeting.client, /^[0-9a-f-]{36}$/);
});

test("a client without a token is refused", options, async (t) => {
  const node = await startNode(t);
  const { sdk, journal } = client(t, node, { token: "" });
  sdk.connect();
  assert.equal((await journal.next("disconnected")).code, 101);
});

test("a client without a token is anonymous where that is allowed, and then no authenticated one", options, async (t) => {
  const node = await startNode(t, {
    "auth.allow_anonymous": true,
    "namespaces.open.subscribe": "anyone",
  });
  const { sdk } = await connected(t, node, { token: "" });
  const { journal } = await subscribed(sdk, "open:news");
  await node.publish("open:news", "for all");
  assert.equal((await journal.next("publication")).data, "for all");
  const refused = subscription(sdk, "news");
  refused.sub.subscribe();
  assert.equal((await refused.journal.next("unsubscribed")).code, 103);
});

test("an invalid token ends it for good", options, async (t) => {
  const node = await startNode(t);
  for (const token of ["nonsense", mint({ secret: "another secret, and a long one too" })]) {
    let fetched = 0;
    const getToken = async () => (fetched++, mint());
    const { sdk, journal } = client(t, node, { token, getToken });
    sdk.connect();
    assert.equal((await journal.next("disconnected")).code, 3500);
    assert.equal(sdk.state, "disconnected");
    assert.equal(fetched, 0);
  }
});

test("the SDK's protobuf build learns that only JSON is supported, and stays away", options, async (t) => {
  const node = await startNode(t);
  const { sdk, journal } = protobufClient(t, node);
  sdk.connect();
  const { code, reason } = await journal.next("disconnected");
  assert.deepEqual({ code, reason }, { code: 3506, reason: "inappropriate protocol: only JSON is supported" });
  assert.deepEqual(journal.kinds(), ["connecting", "disconnected"]);

  // The query asks for it as well. One handshake: the SDK does not come back.
  const sockets = counted();
  const byQuery = client(t, { websocketUrl: `${node.websocketUrl}?cf_protocol=protobuf` }, { websocket: sockets.websocket });
  byQuery.sdk.connect();
  assert.equal((await byQuery.journal.next("disconnected")).code, 3506);
  assert.deepEqual([sockets.opened, byQuery.sdk.state], [1, "disconnected"]);
});

test("an expired token makes the SDK fetch another one, connect and subscribe", options, async (t) => {
  const node = await startNode(t);
  let fetched = 0;
  const getToken = async () => (fetched++, mint());
  const { sdk, journal } = client(t, node, { token: mint({ ttl: -60 }), getToken });
  // The subscribe goes out together with the connect that is refused.
  const news = subscription(sdk, "news");
  news.sub.subscribe();
  sdk.connect();
  assert.equal((await journal.next("error")).error.code, 109);
  await news.journal.next("subscribed");
  assert.equal(fetched, 1);
  await node.publish("news", "hello");
  assert.equal((await news.journal.next("publication")).data, "hello");
});

test("a live connection outlives its tokens by refreshing them", options, async (t) => {
  const node = await startNode(t, { "client.expiry_grace": "3s" });
  let fetched = 0;
  const getToken = async () => (fetched++, mint({ ttl: 2 }));
  const lifeOfFirst = 2 + 3 + 1;
  const from = Date.now();
  const { sdk, journal } = await connected(t, node, { token: mint({ ttl: 2 }), getToken });
  const news = await subscribed(sdk, "news");
  await until("refreshes for longer than the first token", () => fetched >= 2 && Date.now() > from + 1000 * lifeOfFirst);
  await node.publish("news", "still here");
  assert.equal((await news.journal.next("publication")).data, "still here");
  assert.deepEqual(journal.kinds(), ["connecting", "connected"]);
});

test("a connection whose token is not refreshed is ended, and comes back with a new one", options, async (t) => {
  const node = await startNode(t, { "client.expiry_grace": "1s" });
  let broken = true;
  const getToken = async () => {
    if (broken) throw new Error("the back end is away");
    return mint();
  };
  const { sdk, journal } = await connected(t, node, { token: mint({ ttl: 2 }), getToken });
  const news = await subscribed(sdk, "news");
  await journal.next("connecting");
  const { code } = await journal.next("connecting");
  assert.equal(code, 3005);
  broken = false;
  await node.publish("news", "meanwhile");
  await journal.next("connected");
  assert.equal((await news.journal.next("publication")).data, "meanwhile");
});

test("a refresh with a token of somebody else ends it for good", options, async (t) => {
  const node = await startNode(t);
  const getToken = async () => mint({ sub: "mallory" });
  const { journal } = await connected(t, node, { token: mint({ ttl: 2 }), getToken });
  assert.equal((await journal.next("disconnected")).code, 3500);
});

test("pings and pongs keep a silent connection", options, async (t) => {
  const node = await startNode(t, { "client.ping_interval": "1s", "client.pong_timeout": "900ms" });
  const pings = { in: 0, out: 0 };
  const websocket = watched((direction, text) => void (text === "{}" && pings[direction]++));
  const { journal } = await connected(t, node, { websocket });
  await until("three pings and their pongs", () => pings.in >= 3 && pings.out >= 3);
  assert.deepEqual(journal.kinds(), ["connecting", "connected"]);
});

test("a connection that does not answer a ping is ended, and made anew", options, async (t) => {
  const node = await startNode(t, { "client.ping_interval": "1s", "client.pong_timeout": "500ms" });
  const websocket = watched((direction, text) => direction === "in" || text !== "{}");
  const { journal } = await connected(t, node, { websocket });
  await journal.next("connecting");
  assert.equal((await journal.next("connecting")).code, 3012);
  await journal.next("connected");
});
