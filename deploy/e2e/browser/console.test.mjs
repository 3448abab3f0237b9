// The page at "/": connect over each transport, publish, watch, change the transport, lose the node.
import assert from "node:assert/strict";
import { join } from "node:path";
import test, { after, before } from "node:test";

import { openPage, startBrowser, untilPage } from "../support/browser.mjs";
import { openDoor } from "../support/door.mjs";
import { startDevNode } from "../support/node.mjs";
import { startRedis } from "../support/redis.mjs";

const options = { timeout: 180_000 };
const TRANSPORTS = ["websocket", "sse", "poll"];

let browser;
before(async () => (browser = await startBrowser()), options);
after(() => browser?.close());

/** The console, as somebody uses it who sits in front of it. */
class Console {
  constructor(page) {
    this.page = page;
  }

  field(name) {
    return this.page.getByTestId(name);
  }

  /** Connects, or changes the transport of what is connected. */
  async connect(transport) {
    await this.field("transport").selectOption(transport);
    if (await this.field("connect").isEnabled()) await this.field("connect").click();
    await this.connected(transport);
  }

  async connected(transport) {
    const words = { websocket: "WebSocket", sse: "server-sent events", poll: "long polling" }[transport];
    const read = async () => [await this.field("state").textContent(), await this.field("state-detail").textContent()];
    await untilPage(`connected over ${transport}`, read, ([state, detail]) => state === "connected" && detail.startsWith(words));
    // A WebSocket is connected before it is subscribed; a channel has a position once it is.
    const channels = (await this.field("channels").inputValue()).split(", ").length;
    await untilPage("positions", () => this.field("positions").locator("tr").count(), (count) => count === channels);
  }

  async disconnect() {
    await this.field("disconnect").click();
    await untilPage("disconnected", () => this.field("state").textContent(), (state) => state === "disconnected");
  }

  async publish(data, via) {
    await this.field("publish-via").selectOption(via);
    await this.field("publish-data").fill(JSON.stringify(data));
    await this.field("publish").click();
    await untilPage("the result", () => this.field("publish-result").textContent(), (text) => /^published/.test(text));
    await this.page.evaluate(() => (document.getElementById("publish-result").textContent = ""));
  }

  /** Offsets of a channel's publications in the log, oldest first. */
  async offsets(channel) {
    const selector = `[data-testid=log] [data-kind=publication][data-channel="${channel}"]`;
    const lines = await this.page.$$eval(selector, (lines) => lines.map((line) => Number(line.dataset.offset)));
    return lines.reverse();
  }

  /** Waits until the channel's log is exactly 1 to `last`. */
  async heard(channel, last) {
    const offsets = await untilPage(`#${last} of ${channel}`, () => this.offsets(channel), (all) => all.at(-1) >= last);
    assert.deepEqual(offsets, Array.from({ length: last }, (_, at) => at + 1));
  }

  async counts() {
    const names = ["count-publications", "count-gaps", "count-errors"];
    const [publications, gaps, errors] = await Promise.all(names.map((name) => this.field(name).textContent()));
    return { publications: Number(publications), gaps: Number(gaps), errors: Number(errors) };
  }
}

async function openConsole(t, url) {
  return new Console(await openPage(t, browser, url + "/"));
}

test("each transport connects, and hears what the page publishes", options, async (t) => {
  const node = await startDevNode(t);
  let published = 0;
  for (const transport of TRANSPORTS) {
    const console = await openConsole(t, node.url);
    await console.field("channels").fill("news, other");
    await console.connect(transport);
    const before = published;
    for (const via of transport === "websocket" ? ["api", "websocket"] : ["api"]) {
      await console.publish({ n: ++published, text: "<b>ünïcode</b>" }, via);
    }
    const offsets = Array.from({ length: published - before }, (_, at) => before + at + 1);
    await untilPage("what was published", () => console.offsets("news"), (all) => all.length >= offsets.length);
    assert.deepEqual(await console.offsets("news"), offsets);
    assert.deepEqual(await console.counts(), { publications: offsets.length, gaps: 0, errors: 0 });
    const log = await console.field("log").textContent();
    assert.ok(log.includes("<b>ünïcode</b>"), "shown as text");
    const rows = await console.field("positions").locator("tr").allTextContents();
    assert.equal(rows.length, 2);
    assert.match(rows[0], new RegExp(`^news.*${published}$`));
    assert.match(await console.field("cursor").textContent(), new RegExp(`^2~[^~]+\\.${published}~[^~]+\\.0$`));
    assert.deepEqual(console.page.complaints, []);
  }
});

test("any transport resumes where any other stopped", options, async (t) => {
  const node = await startDevNode(t);
  const console = await openConsole(t, node.url);
  await console.connect("websocket");
  let published = 0;
  for (const from of TRANSPORTS) {
    for (const to of TRANSPORTS) {
      await console.connect(from);
      await node.publish("news", { n: ++published });
      await console.heard("news", published);
      await console.disconnect();
      for (let missed = 0; missed < 3; missed++) await node.publish("news", { n: ++published });
      await console.connect(to);
      await console.heard("news", published);
    }
  }
  assert.deepEqual(await console.counts(), { publications: published, gaps: 0, errors: 0 });
  assert.deepEqual(console.page.complaints, []);
});

test("nothing is lost or doubled when the transport changes under way", options, async (t) => {
  const node = await startDevNode(t);
  const console = await openConsole(t, node.url);
  await console.connect("websocket");
  const count = () => console.counts();
  let published = 0;
  let changing = true;
  // Less than the 100 that the node keeps are ahead of the page: a browser that is slow to change its transport would
  // otherwise be told of a gap, and rightly.
  const ahead = 40;
  const publishing = (async () => {
    while (changing) {
      for (let n = 0; n < ahead; n++) await node.publish("news", { n: ++published });
      await untilPage("the page to follow", count, ({ publications }) => publications > published - ahead);
    }
  })();
  try {
    for (const transport of ["sse", "poll", "websocket", "poll", "sse", "websocket"]) await console.connect(transport);
  } finally {
    changing = false;
    await publishing;
  }
  await untilPage(`${published} publications`, count, ({ publications }) => publications >= published);
  assert.deepEqual(await count(), { publications: published, gaps: 0, errors: 0 });
  assert.deepEqual(console.page.complaints, []);
});

test("over each transport the page survives the death of its node", options, async (t) => {
  const redis = await startRedis(t);
  for (const transport of TRANSPORTS) {
    const [a, b] = await Promise.all([startDevNode(t, redis), startDevNode(t, redis)]);
    const door = await openDoor(t, a);
    const console = await openConsole(t, door.url);
    const channel = `news-${transport}`;
    await console.field("channels").fill(channel);
    await console.connect(transport);
    await a.publish(channel, "before");
    await console.heard(channel, 1);
    door.lead(null);
    await a.kill();
    for (let n = 1; n <= 3; n++) await b.publish(channel, n);
    door.lead(b);
    await console.heard(channel, 4);
    await b.publish(channel, "after");
    await console.heard(channel, 5);
    assert.deepEqual(await console.counts(), { publications: 5, gaps: 0, errors: 0 });
    if (process.env.SCREENSHOTS) {
      await console.page.screenshot({ path: join(process.env.SCREENSHOTS, `console-${transport}.png`), fullPage: true });
    }
    await b.kill();
  }
});

test("a flushed Redis shows as a gap, not as an error", options, async (t) => {
  const redis = await startRedis(t);
  const node = await startDevNode(t, redis);
  const console = await openConsole(t, node.url);
  for (const transport of TRANSPORTS) {
    await console.connect(transport);
    await node.publish("news", "before");
    await untilPage("it", async () => (await console.counts()).publications, (count) => count >= 1);
    await redis.flush();
    await node.publish("news", "after");
    await untilPage("a gap", async () => (await console.counts()).gaps, (count) => count >= 1);
    assert.equal((await console.counts()).errors, 0);
    await console.field("clear").click();
  }
  assert.deepEqual(console.page.complaints, []);
});

test("what is refused is said", options, async (t) => {
  const node = await startDevNode(t);
  const console = await openConsole(t, node.url);
  await console.field("token").fill("nonsense");
  for (const transport of ["websocket", "poll"]) {
    await console.field("transport").selectOption(transport);
    await console.field("connect").click();
    const read = () => console.field("state-detail").textContent();
    await untilPage("a refusal", read, (text) => /invalid token|unauthorized/i.test(text));
    assert.equal(await console.field("state").textContent(), "stopped");
  }
  await console.field("publish-via").selectOption("api");
  await console.field("api-key").fill("wrong");
  await console.field("publish").click();
  const result = () => console.field("publish-result").textContent();
  await untilPage("a refusal", result, (text) => text.startsWith("Not published: "));
  await console.field("publish-data").fill("{");
  await console.field("publish").click();
  await untilPage("a hint", result, (text) => text.startsWith("Not JSON: "));
});
