// Channels of one node: subscribing, publishing, history, and who may do what.
import assert from "node:assert/strict";
import test from "node:test";

import { openDoor } from "../support/door.mjs";
import { startNode } from "../support/node.mjs";
import { client, connected, data, journaled, subscribed, subscription, watched } from "../support/sdk.mjs";
import { mint } from "../support/token.mjs";

const options = { timeout: 60_000 };

test("publications arrive in order, with offsets and tags", options, async (t) => {
  const node = await startNode(t);
  const { sdk } = await connected(t, node);
  const { reply, journal } = await subscribed(sdk, "news");
  assert.equal(reply.recoverable, true);
  assert.equal(reply.positioned, true);
  const { epoch } = reply.streamPosition;
  const wanted = [];
  for (let n = 1; n <= 100; n++) {
    assert.deepEqual(await node.publish("news", { n }, { tags: { odd: String(n % 2) } }), { offset: n, epoch });
    wanted.push({ offset: n, n, odd: String(n % 2) });
  }
  const heard = await journal.take("publication", 100);
  assert.deepEqual(heard.map(({ offset, data, tags }) => ({ offset, n: data.n, odd: tags.odd })), wanted);
});

test("what a client publishes names it to the others", options, async (t) => {
  const node = await startNode(t);
  const alice = await connected(t, node, { token: mint({ sub: "alice", info: { name: "Alice" } }) });
  const bob = await connected(t, node, { token: mint({ sub: "bob" }) });
  const { journal } = await subscribed(bob.sdk, "news");
  await alice.sdk.publish("news", { text: "line\nbreak and ünïcode" });
  const publication = await journal.next("publication");
  assert.deepEqual(publication.data, { text: "line\nbreak and ünïcode" });
  assert.deepEqual(publication.info, { user: "alice", client: alice.greeting.client, connInfo: { name: "Alice" } });
});

test("history: pages forwards, backwards and from a position", options, async (t) => {
  const node = await startNode(t);
  const { sdk } = await connected(t, node);
  const { sub } = await subscribed(sdk, "news");
  let epoch;
  for (let n = 1; n <= 5; n++) ({ epoch } = await node.publish("news", n));
  const all = await sub.history({ limit: 100 });
  assert.deepEqual(data(all.publications), [1, 2, 3, 4, 5]);
  assert.deepEqual({ offset: all.offset, epoch: all.epoch }, { offset: 5, epoch });
  assert.deepEqual(data((await sub.history({ limit: 2, reverse: true })).publications), [5, 4]);
  const since = await sub.history({ limit: 2, since: { offset: 2, epoch } });
  assert.deepEqual(since.publications.map(({ offset }) => offset), [3, 4]);
  const none = await sub.history({ limit: 0 });
  assert.deepEqual({ count: none.publications.length, offset: none.offset }, { count: 0, offset: 5 });
  await assert.rejects(sub.history({ limit: 2, since: { offset: 2, epoch: "elsewhere" } }), { code: 112 });
});

test("after an unsubscribe nothing arrives; the next subscribe brings what was missed", options, async (t) => {
  const node = await startNode(t);
  const { sdk } = await connected(t, node);
  const { sub, journal } = await subscribed(sdk, "news");
  await node.publish("news", 1);
  await journal.next("publication");
  sub.unsubscribe();
  assert.equal((await journal.next("unsubscribed")).code, 0);
  await node.publish("news", 2);
  await node.publish("news", 3);
  // The answer comes after anything that was under way on this connection.
  await sdk.history("news", { limit: 1 });
  assert.equal(journal.all("publication").length, 1);
  sub.subscribe();
  const { wasRecovering, recovered } = await journal.next("subscribed");
  assert.deepEqual({ wasRecovering, recovered }, { wasRecovering: true, recovered: true });
  await node.publish("news", 4);
  assert.deepEqual(data(await journal.take("publication", 3)), [2, 3, 4]);
});

test("subscribing and unsubscribing at once, many times, ends as it was asked last", options, async (t) => {
  const node = await startNode(t);
  const { sdk, journal: connection } = await connected(t, node);
  const { sub, journal } = subscription(sdk, "news");
  for (let round = 0; round < 20; round++) {
    sub.subscribe();
    sub.unsubscribe();
  }
  sub.subscribe();
  await sub.ready(20_000);
  await node.publish("news", "once");
  assert.equal((await journal.next("publication")).data, "once");
  await sdk.history("news", { limit: 1 });
  assert.equal(journal.all("publication").length, 1);
  assert.deepEqual(connection.kinds(), ["connecting", "connected"]);
});

test("sixty subscriptions in the first frame", options, async (t) => {
  const node = await startNode(t);
  const frames = [];
  const websocket = watched((direction, text) => void (direction === "out" && frames.push(text)));
  const { sdk } = client(t, node, { websocket });
  const channels = Array.from({ length: 60 }, (_, n) => `room-${n}`);
  const subscriptions = channels.map((channel) => subscription(sdk, channel));
  for (const { sub } of subscriptions) sub.subscribe();
  sdk.connect();
  for (const { journal } of subscriptions) await journal.next("subscribed");
  assert.equal(frames[0].split("\n").length, 61, "connect and all subscribes in one frame");
  await node.api("broadcast", { channels, data: "hello" });
  for (const { journal } of subscriptions) assert.equal((await journal.next("publication")).data, "hello");
  await sdk.history(channels[0], { limit: 1 });
  for (const { journal } of subscriptions) assert.equal(journal.all("publication").length, 1);
});

test("the token's channels are subscribed by the server, and resumed", options, async (t) => {
  const node = await startNode(t);
  const door = await openDoor(t, node);
  const { sdk, journal } = client(t, door, { token: mint({ channels: ["inbox", "all"] }) });
  sdk.connect();
  const replies = await journal.take("subscribed", 2);
  assert.deepEqual(replies.map(({ channel }) => channel).sort(), ["all", "inbox"]);
  await journal.next("connected");
  await node.publish("inbox", 1);
  await node.publish("all", 2);
  assert.deepEqual(data(await journal.take("publication", 2)).sort(), [1, 2]);

  door.lead(null);
  door.cut();
  await journal.take("connecting", 2);
  await node.publish("inbox", 3);
  await node.publish("inbox", 4);
  door.lead(node);
  for (const { channel, wasRecovering, recovered } of await journal.take("subscribed", 2)) {
    assert.deepEqual({ channel, wasRecovering, recovered }, { channel, wasRecovering: true, recovered: true });
  }
  await node.publish("inbox", 5);
  const heard = await journal.take("publication", 3);
  assert.deepEqual(heard.map(({ channel, data, offset }) => [channel, data, offset]), [
    ["inbox", 3, 2],
    ["inbox", 4, 3],
    ["inbox", 5, 4],
  ]);
});

test("what is not allowed is refused by its code, and the connection stays", options, async (t) => {
  const node = await startNode(t, { "namespaces.closed.history_size": 10, "namespaces.closed.history_ttl": "1m" });
  const { sdk, journal: connection } = await connected(t, node);
  for (const [channel, code] of [["closed:news", 103], ["unheard-of:news", 102]]) {
    const { sub, journal } = subscription(sdk, channel);
    sub.subscribe();
    assert.equal((await journal.next("unsubscribed")).code, code);
    await assert.rejects(sdk.publish(channel, 1), { code });
    await assert.rejects(sdk.history(channel, { limit: 1 }), { code });
  }
  await assert.rejects(sdk.presence("news"), { code: 108 });
  await assert.rejects(sdk.rpc("method", {}), { code: 108 });
  await subscribed(sdk, "news");
  assert.deepEqual(connection.kinds(), ["connecting", "connected"]);
});

test("what the SDK asks for and Fanway does not have is refused, what it merely offers is not", options, async (t) => {
  const node = await startNode(t);
  const { sdk, journal: connection } = await connected(t, node);
  const tagsFilter = { key: "odd", cmp: "eq", val: "1" };
  const refused = [
    subscription(sdk, "filtered", { tagsFilter }),
    subscription(sdk, "crowded", { joinLeave: true }),
    journaled(sdk.newMapSubscription("map")),
    journaled(sdk.newMapClientsSubscription("map-clients")),
    journaled(sdk.newSharedPollSubscription("polled", { getSignature: async () => "signature" })),
  ];
  for (const { sub, journal } of refused) {
    sub.subscribe();
    assert.equal((await journal.next("unsubscribed")).code, 108, sub.channel);
    assert.equal(sub.state, "unsubscribed");
  }
  await assert.rejects(sdk.mapPublish("news", "key", 1), { code: 108 });
  await assert.rejects(sdk.mapRemove("news", "key"), { code: 108 });

  const { journal } = await subscribed(sdk, "news", { delta: "fossil" });
  for (let n = 0; n < 3; n++) await node.publish("news", { n, filler: "the same text in each of them" });
  assert.deepEqual((await journal.take("publication", 3)).map(({ data }) => data.n), [0, 1, 2]);
  assert.deepEqual(connection.kinds(), ["connecting", "connected"]);
});

test("a thousand publishes, one after the other, pass with the settings as they come", options, async (t) => {
  const node = await startNode(t);
  const { sdk, journal: connection } = await connected(t, node);
  const began = Date.now();
  for (let n = 0; n < 1000; n++) await sdk.publish("news", n);
  // Those above client.command_burst come at client.command_rate.
  assert.ok(Date.now() - began >= (1000 * (1000 - 200)) / 30 - 1000);
  const { offset } = await sdk.history("news", { limit: 0 });
  assert.equal(offset, 1000);
  assert.deepEqual(connection.kinds(), ["connecting", "connected"]);
});

test("a message to a back end that is not there ends the connection for good", options, async (t) => {
  const node = await startNode(t);
  const { sdk, journal } = await connected(t, node);
  await sdk.send({ text: "is anybody there?" });
  assert.equal((await journal.next("disconnected")).code, 3508);
});

test("a token's caps open what the namespace keeps closed, right by right", options, async (t) => {
  const node = await startNode(t, { "namespaces.closed.history_size": 10, "namespaces.closed.history_ttl": "1m" });
  const caps = [
    { channels: ["closed:a"], allow: ["sub"] },
    { channels: ["closed:b:*"], match: "wildcard", allow: ["sub", "pub", "hst"] },
  ];
  const { sdk } = await connected(t, node, { token: mint({ caps }) });
  await subscribed(sdk, "closed:a");
  await assert.rejects(sdk.publish("closed:a", 1), { code: 103 });
  await assert.rejects(sdk.history("closed:a", { limit: 1 }), { code: 103 });
  const { journal } = await subscribed(sdk, "closed:b:1");
  await sdk.publish("closed:b:1", 1);
  assert.equal((await journal.next("publication")).data, 1);
  assert.equal((await sdk.history("closed:b:1", { limit: 1 })).publications.length, 1);
});

test("a channel without history delivers without offsets", options, async (t) => {
  const node = await startNode(t, { "namespaces.live.subscribe": "authenticated", "namespaces.live.publish": "subscriber" });
  const { sdk } = await connected(t, node);
  const { reply, journal } = await subscribed(sdk, "live:score");
  assert.equal(reply.recoverable, false);
  await sdk.publish("live:score", [1, 0]);
  const publication = await journal.next("publication");
  assert.deepEqual([publication.data, publication.offset], [[1, 0], undefined]);
  await assert.rejects(sdk.history("live:score", { limit: 1 }), { code: 103 });
});
