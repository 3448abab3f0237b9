// The browser's own EventSource, which knows nothing of Fanway: ids, automatic resume, gaps.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";

import { openPage, startBrowser, untilPage } from "../support/browser.mjs";
import { cursorOf } from "../support/cursor.mjs";
import { openDoor } from "../support/door.mjs";
import { joined, startNode } from "../support/node.mjs";
import { startRedis } from "../support/redis.mjs";
import { mint } from "../support/token.mjs";
import { until } from "../support/wait.mjs";

const options = { timeout: 120_000 };
const OPEN = { "console.enabled": true, "auth.allow_anonymous": true, "default_namespace.subscribe": "anyone" };

let browser;
before(async () => (browser = await startBrowser()), options);
after(() => browser?.close());

async function fleet(t, settings = {}) {
  const redis = await startRedis(t);
  const [a, b] = await Promise.all([1, 2].map(() => startNode(t, { ...OPEN, ...joined(redis), ...settings })));
  return { redis, a, b, door: await openDoor(t, a) };
}

/** An EventSource in a page of the node's own. */
async function listen(t, url, channels) {
  const page = await openPage(t, browser, url + "/");
  const query = channels.map((channel) => `channel=${encodeURIComponent(channel)}`).join("&");
  await page.evaluate((query) => {
    window.heard = [];
    window.source = new EventSource("/sse?" + query);
    for (const kind of ["open", "ready", "message", "gap", "error"]) {
      window.source.addEventListener(kind, (event) => {
        const data = event.data && JSON.parse(event.data);
        window.heard.push({ kind, data, id: event.lastEventId });
      });
    }
  }, query);
  const heard = (kind) => page.evaluate((kind) => window.heard.filter((event) => event.kind === kind), kind);
  const stream = {
    /** At least so many events of a kind. */
    heard: (kind, count) => untilPage(`${count} ${kind} events`, () => heard(kind), (events) => events.length >= count),
    /** At least so many streams that are ready. */
    opened: (count) => stream.heard("ready", count),
    all: () => page.evaluate(() => window.heard),
    state: () => page.evaluate(() => window.source.readyState),
  };
  await stream.opened(1);
  return stream;
}

/** The header with which the newest stream was asked for. */
function lastEventId(door) {
  const head = door.heads.filter((head) => head.startsWith("GET /sse?")).at(-1);
  return /^last-event-id: *(.*?)\r?$/im.exec(head)?.[1];
}

const data = (events) => events.map((event) => event.data.data);

test("publications carry the cursor as their id", options, async (t) => {
  const node = await startNode(t, OPEN);
  const stream = await listen(t, node.url, ["news"]);
  const { epoch } = await node.publish("news", { text: "line\nbreak, ünïcode" }, { tags: { lang: "en" } });
  await node.publish("news", 2);
  const [first, second] = await stream.heard("message", 2);
  assert.equal(first.id, cursorOf(["news", epoch, 1]));
  assert.equal(second.id, cursorOf(["news", epoch, 2]));
  const { channel, offset, data, tags, time } = first.data;
  assert.deepEqual([channel, offset, first.data.epoch, data], ["news", 1, epoch, { text: "line\nbreak, ünïcode" }]);
  assert.deepEqual(tags, { lang: "en" });
  assert.equal(typeof time, "number");
});

test("after its node was killed the browser resumes on another with exactly what was missed", options, async (t) => {
  const { a, b, door } = await fleet(t);
  const stream = await listen(t, door.url, ["news"]);
  await a.publish("news", "before");
  const [{ id }] = await stream.heard("message", 1);
  door.lead(null);
  await a.kill();
  for (let n = 1; n <= 5; n++) await b.publish("news", n);
  await until("the browser to have tried in vain", () => door.refused > 0);
  door.lead(b);
  await stream.opened(2);
  assert.equal(lastEventId(door), id);
  await b.publish("news", "after");
  assert.deepEqual(data(await stream.heard("message", 7)), ["before", 1, 2, 3, 4, 5, "after"]);
  assert.deepEqual(await stream.heard("gap", 0), []);
});

test("two channels in one stream resume together", options, async (t) => {
  const { a, b, door } = await fleet(t);
  // The cursor has one item per channel in byte order of the names, however they were asked for.
  const stream = await listen(t, door.url, ["sport", "news"]);
  const { epoch: sport } = await a.publish("sport", "s1");
  const { epoch: news } = await a.publish("news", "n1");
  const [, { id }] = await stream.heard("message", 2);
  assert.equal(id, cursorOf(["news", news, 1], ["sport", sport, 1]));
  door.lead(null);
  await a.kill();
  await b.publish("sport", "s2");
  await b.publish("news", "n2");
  await b.publish("sport", "s3");
  door.lead(b);
  await stream.opened(2);
  assert.equal(lastEventId(door), id);
  await b.publish("news", "n3");
  const events = await stream.heard("message", 6);
  const of = (channel) => data(events.filter((event) => event.data.channel === channel));
  assert.deepEqual(of("sport"), ["s1", "s2", "s3"]);
  assert.deepEqual(of("news"), ["n1", "n2", "n3"]);
  assert.equal(events.at(-1).id, cursorOf(["news", news, 3], ["sport", sport, 3]));
});

test("a flushed Redis is a gap with a reason, and the stream goes on", options, async (t) => {
  const { redis, a, b, door } = await fleet(t);
  const stream = await listen(t, door.url, ["news"]);
  await a.publish("news", "before");
  await stream.heard("message", 1);
  await redis.flush();
  const { epoch } = await b.publish("news", "after");
  const [gap] = await stream.heard("gap", 1);
  assert.deepEqual([gap.data.channel, gap.data.reason, gap.data.epoch], ["news", "unknown_epoch", epoch]);
  assert.ok([0, 1].some((offset) => gap.id === cursorOf(["news", epoch, offset])), gap.id);
  await b.publish("news", "later");
  const kinds = await untilPage("the later one", stream.all, (events) => events.at(-1)?.data?.data === "later");
  const at = kinds.findIndex(({ kind }) => kind === "gap");
  assert.deepEqual(data(kinds.slice(0, at).filter(({ kind }) => kind === "message")), ["before"]);
  assert.deepEqual((await stream.heard("error", 0)).length, 0, "the connection stayed");
});

test("a resume from a position that is gone is a gap with a reason", options, async (t) => {
  const { a, b, door } = await fleet(t, { "default_namespace.history_size": 2 });
  const stream = await listen(t, door.url, ["news"]);
  await a.publish("news", 0);
  await stream.heard("message", 1);
  door.lead(null);
  await a.kill();
  for (let n = 1; n <= 10; n++) await b.publish("news", n);
  door.lead(b);
  const [gap] = await stream.heard("gap", 1);
  assert.deepEqual([gap.data.channel, gap.data.reason, gap.data.offset], ["news", "retention", 11]);
  await b.publish("news", 11);
  assert.deepEqual(data(await stream.heard("message", 2)), [0, 11]);
});

test("a draining node hands its streams over", options, async (t) => {
  const { a, b, door } = await fleet(t);
  const stream = await listen(t, door.url, ["news"]);
  await a.publish("news", 1);
  await stream.heard("message", 1);
  door.lead(b);
  a.terminate();
  await b.publish("news", 2);
  assert.equal((await a.exited()).code, 0);
  await b.publish("news", 3);
  await stream.opened(2);
  await b.publish("news", 4);
  assert.deepEqual(data(await stream.heard("message", 4)), [1, 2, 3, 4]);
  assert.deepEqual(await stream.heard("gap", 0), []);
});

test("a token comes in a cookie; without one the browser is told to stop", options, async (t) => {
  const node = await startNode(t, { "console.enabled": true, "auth.cookie": "fanway_token" });
  const page = await openPage(t, browser, node.url + "/");
  const ask = () =>
    page.evaluate(
      () =>
        new Promise((resolve) => {
          const source = new EventSource("/sse?channel=news");
          source.addEventListener("ready", () => (source.close(), resolve("ready")));
          source.addEventListener("error", () => source.readyState === EventSource.CLOSED && resolve("closed"));
        }),
    );
  assert.equal(await ask(), "closed");
  await page.context().addCookies([{ name: "fanway_token", value: mint(), url: node.url }]);
  assert.equal(await ask(), "ready");
});
