// Two nodes and a Redis: what one node's client hears of the other, and how it resumes there.
import assert from "node:assert/strict";
import test from "node:test";

import { openDoor } from "../support/door.mjs";
import { joined, startNode } from "../support/node.mjs";
import { startRedis } from "../support/redis.mjs";
import { connected, data, subscribed } from "../support/sdk.mjs";

const options = { timeout: 90_000 };

async function fleet(t, settings = {}) {
  const redis = await startRedis(t);
  const [a, b] = await Promise.all([1, 2].map(() => startNode(t, { ...joined(redis), ...settings })));
  return { redis, a, b, door: await openDoor(t, a) };
}

test("what is published on one node arrives on the other", options, async (t) => {
  const { a, b } = await fleet(t);
  const left = await connected(t, a);
  const right = await connected(t, b);
  const { journal } = await subscribed(left.sdk, "news");
  await b.publish("news", "by the server");
  await right.sdk.publish("news", "by a client");
  assert.deepEqual(data(await journal.take("publication", 2)), ["by the server", "by a client"]);
});

test("a killed node's client resumes on the other with exactly what it missed", options, async (t) => {
  const { a, b, door } = await fleet(t);
  const { sdk, journal: connection } = await connected(t, door);
  const channels = ["news", "sport", "silent"];
  const subscriptions = await Promise.all(channels.map((channel) => subscribed(sdk, channel)));
  for (const channel of channels) await a.publish(channel, "before");
  for (const { journal } of subscriptions) assert.equal((await journal.next("publication")).data, "before");

  door.lead(null);
  await a.kill();
  await connection.take("connecting", 2);
  for (let n = 1; n <= 5; n++) await b.publish("news", n);
  await b.publish("sport", 1);
  door.lead(b);

  for (const { journal } of subscriptions) {
    const { wasRecovering, recovered } = await journal.next("subscribed");
    assert.deepEqual({ wasRecovering, recovered }, { wasRecovering: true, recovered: true });
  }
  for (const channel of channels) await b.publish(channel, "after");
  const [news, sport, silent] = subscriptions;
  assert.deepEqual(data(await news.journal.take("publication", 6)), [1, 2, 3, 4, 5, "after"]);
  assert.deepEqual(data(await sport.journal.take("publication", 2)), [1, "after"]);
  assert.deepEqual(data(await silent.journal.take("publication", 1)), ["after"]);
  assert.deepEqual(news.journal.all("publication").map(({ offset }) => offset), [1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual(connection.all("disconnected"), []);
});

test("a new client starts where another one stopped", options, async (t) => {
  const { a, b } = await fleet(t);
  const left = await connected(t, a);
  const { sub, reply, journal } = await subscribed(left.sdk, "news");
  await a.publish("news", 1);
  const { offset } = await journal.next("publication");
  sub.unsubscribe();
  await a.publish("news", 2);
  await a.publish("news", 3);

  const right = await connected(t, b);
  const since = { offset, epoch: reply.streamPosition.epoch };
  const next = await subscribed(right.sdk, "news", { since });
  assert.equal(next.reply.recovered, true);
  assert.deepEqual(data(await next.journal.take("publication", 2)), [2, 3]);
});

test("more was missed than is kept: told, not hidden", options, async (t) => {
  const { a, b, door } = await fleet(t, { "default_namespace.history_size": 3 });
  const { sdk } = await connected(t, door);
  const { journal } = await subscribed(sdk, "news");
  await a.publish("news", 0);
  await journal.next("publication");
  door.lead(null);
  await a.kill();
  for (let n = 1; n <= 10; n++) await b.publish("news", n);
  door.lead(b);
  const { wasRecovering, recovered } = await journal.next("subscribed");
  assert.deepEqual({ wasRecovering, recovered }, { wasRecovering: true, recovered: false });
  await b.publish("news", 11);
  const { data: heard, offset } = await journal.next("publication");
  assert.deepEqual([heard, offset], [11, 12]);
});

test("a flushed Redis is told to whom is connected, and everything goes on", options, async (t) => {
  const { redis, a, b } = await fleet(t);
  const { sdk, journal: connection } = await connected(t, a);
  const { reply, journal } = await subscribed(sdk, "news");
  await b.publish("news", "before");
  await journal.next("publication");
  await redis.flush();
  // Without any publication: the check of positions finds it out.
  assert.equal((await journal.take("subscribing", 2))[1].code, 2500);
  const anew = await journal.next("subscribed");
  assert.deepEqual([anew.wasRecovering, anew.recovered], [true, false]);
  assert.notEqual(anew.streamPosition.epoch, reply.streamPosition.epoch);
  await b.publish("news", "after");
  const { data: heard, offset } = await journal.next("publication");
  assert.deepEqual([heard, offset], ["after", 1]);
  assert.deepEqual(connection.kinds(), ["connecting", "connected"]);
});

test("publications right after a flush are never taken for successors of the old ones", options, async (t) => {
  const { redis, a, b } = await fleet(t);
  const { sdk } = await connected(t, a);
  const { journal } = await subscribed(sdk, "news");
  await b.publish("news", "before");
  await journal.next("publication");
  await redis.flush();
  // Offset 2 would fit the old position if only numbers were looked at.
  for (const text of ["one", "two", "three"]) await b.publish("news", text);
  const anew = await journal.take("subscribed", 1);
  assert.deepEqual([anew[0].wasRecovering, anew[0].recovered], [true, false]);
  await b.publish("news", "later");
  const heard = await journal.next("publication");
  const late = heard.data === "later" ? heard : (await journal.take("publication", 4 - heard.offset)).at(-1);
  assert.deepEqual([late.data, late.offset], ["later", 4]);
});

test("a draining node hands its clients over", options, async (t) => {
  const { a, b, door } = await fleet(t);
  const clients = await Promise.all([1, 2, 3, 4, 5].map(() => connected(t, door)));
  const subscriptions = await Promise.all(clients.map(({ sdk }) => subscribed(sdk, "news")));
  await a.publish("news", "before");
  for (const { journal } of subscriptions) await journal.next("publication");
  door.lead(b);
  a.terminate();
  await b.publish("news", "while it drains");
  for (const { journal } of clients) {
    const [, second] = await journal.take("connecting", 2);
    assert.equal(second.code, 3001);
    await journal.next("connected");
  }
  await b.publish("news", "after");
  for (const { journal } of subscriptions) {
    assert.deepEqual(data(await journal.take("publication", 2)), ["while it drains", "after"]);
    for (const { wasRecovering, recovered } of journal.all("subscribed").slice(1)) {
      assert.deepEqual([wasRecovering, recovered], [true, true]);
    }
  }
  const { code, signal } = await a.exited();
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
});
