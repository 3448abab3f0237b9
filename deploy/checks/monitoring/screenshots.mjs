#!/usr/bin/env node
// Pictures of the dashboard's rows for the documentation, from real data: three nodes behind one Redis, clients of all
// transports, four minutes with more and less load, one node unscraped for a while, and one replaced. `make screenshots` runs
// it. What Prometheus got of connections is recorded as well, for autoscaling.test.mjs.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { startBrowser } from "../../e2e/support/browser.mjs";
import { openDoor } from "../../e2e/support/door.mjs";
import { startRedis } from "../../e2e/support/redis.mjs";
import { load, panels, substitute } from "./support/dashboards.mjs";
import { startBalancer, startGateway } from "./support/gateway.mjs";
import { Load } from "./support/load.mjs";
import { startPrometheus } from "./support/prometheus.mjs";
import { ROOT } from "./support/tools.mjs";

const FOLDER = join(ROOT, "deploy/docs/dashboards");
const RECORDING = join(ROOT, "deploy/checks/monitoring/recorded.json");
/** Seconds from one sample of the recording to the next. */
const STEP = 2;
/** Points of a picture from left to right; more make larger files. */
const POINTS = 75;
/** Length of one act in milliseconds; there are eight. */
const ACT = Number(process.env.ACT ?? 30_000);

/** Stands in for a test: what is started is ended in the opposite order. */
const endings = [];
const t = { after: (end) => endings.unshift(end) };

try {
  const shown = await play();
  await paint(shown);
  await record(shown);
} finally {
  for (const end of endings) await end();
}

async function play() {
  const redis = await startRedis(t);
  const names = ["fanway-a", "fanway-b", "fanway-c"];
  const gateways = [];
  for (const name of names) gateways.push(await startGateway(t, name, redis, { drain: "20s" }));
  // The third node is scraped through a door that can be shut.
  const door = await openDoor(t, { port: gateways[2].internal });
  const targets = [gateways[0], gateways[1], { name: "fanway-c", address: door.url.slice("http://".length) }];
  const prometheus = await startPrometheus(t, targets);
  const balancer = await startBalancer(t, gateways.slice(0, 2));
  const clients = new Load(t, balancer);
  await pause(3_000);
  const start = Date.now() / 1000;
  const act = async (what) => {
    console.log(`screenshots: ${what}`);
    await pause(ACT);
  };

  clients.publish(10);
  clients.websockets(80);
  clients.streams(150);
  clients.pollers(10);
  await act("two nodes, 240 clients");
  balancer.gateways.push(gateways[2]);
  clients.streams(100);
  await act("a third node, 100 more");
  clients.publish(60);
  await act("six times as many publications");
  clients.websockets(40);
  for (let at = 0; at < 20; at++) await clients.mistakes();
  await act("40 more, and some mistakes");
  door.lead(undefined);
  door.cut();
  await act("the third node cannot be scraped");
  door.lead({ port: gateways[2].internal });
  balancer.gateways.splice(1, 1);
  const drained = gateways[1].drain();
  await act("one node drains");
  await drained;
  const replaced = await startGateway(t, "fanway-b", redis, { drain: "20s" });
  prometheus.retarget([targets[0], replaced, targets[2]]);
  balancer.gateways.push(replaced);
  clients.streams(60);
  clients.publish(25);
  await act("it is replaced, and 60 more come");
  await act("calm");
  return { prometheus, start, end: Date.now() / 1000 };
}

/** Asks every row's queries and paints what comes. */
async function paint({ prometheus, start, end }) {
  mkdirSync(FOLDER, { recursive: true });
  const step = Math.max(STEP, Math.ceil((end - start) / POINTS));
  const browser = await startBrowser();
  try {
    const page = await browser.newPage({ viewport: { width: 1224, height: 200 } });
    await page.goto(`file://${join(ROOT, "deploy/grafana/preview/page.html")}`);
    await page.addScriptTag({ path: join(ROOT, "deploy/grafana/preview/draw.js") });
    const all = load().flatMap(panels);
    for (const title of new Set(all.map((panel) => panel.row))) {
      const row = [];
      for (const panel of all.filter((one) => one.row === title)) row.push({ panel, series: await answers(prometheus, panel, start, end, step) });
      await page.evaluate((data) => window.draw(data), { title: `Fanway / ${title}`, start, end, step, panels: row });
      const path = join(FOLDER, `${title.toLowerCase().replace(/[^a-z]+/g, "-")}.png`);
      await page.screenshot({ path, fullPage: true });
      console.log(`screenshots: ${path}`);
    }
  } finally {
    await browser.close();
  }
}

/** Keeps what Prometheus got of each node: a number, or "stale" where a series ended. */
async function record({ prometheus, start, end }) {
  const steps = Math.floor((end - start) / STEP);
  const seen = async (query) => {
    const series = new Map();
    for (const { metric, values } of await prometheus.range(query, start, end, STEP)) {
      const samples = Array.from({ length: steps }, () => undefined);
      for (const [time, value] of values) samples[Math.round((time - start) / STEP)] = Number(value);
      series.set(metric.pod, samples.slice(0, steps).map((one, at) => one ?? (samples[at - 1] === undefined ? null : "stale")));
    }
    return series;
  };
  const connections = await seen("sum by (pod) (fanway_connections)");
  const up = await seen("max by (pod) (up)");
  const pods = [...up].map(([name, up_seen]) => ({ name, silent: name === "fanway-c", up_seen, connections_seen: connections.get(name) }));
  writeFileSync(RECORDING, JSON.stringify({ step: STEP, pods }) + "\n");
  console.log(`screenshots: ${RECORDING}`);
}

/** The series of a panel, with their legends filled in. */
async function answers(prometheus, panel, start, end, step) {
  const series = [];
  for (const { expr, legendFormat } of panel.targets) {
    for (const { metric, values } of await prometheus.range(substitute(expr, { range: "8s", interval: "4s" }), start, end, step)) {
      const legend = legendFormat.replaceAll("$quantile", "0.99").replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? "");
      const points = values.map(([time, value]) => [time, Number(value)]).filter(([, value]) => Number.isFinite(value));
      if (points.length > 0) series.push({ legend, points });
    }
  }
  return series;
}
