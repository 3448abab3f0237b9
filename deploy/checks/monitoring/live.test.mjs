// Two real nodes behind one Redis, clients of all transports, a real Prometheus: every panel is answered with data, every
// rule evaluates, and a lost scrape does not change what the autoscaler is told.
import assert from "node:assert/strict";
import test from "node:test";

import { openDoor } from "../../e2e/support/door.mjs";
import { startRedis } from "../../e2e/support/redis.mjs";
import { until } from "../../e2e/support/wait.mjs";
import { load, panels, substitute } from "./support/dashboards.mjs";
import { startBalancer, startGateway } from "./support/gateway.mjs";
import { Load } from "./support/load.mjs";
import { metricsOf, OF_KUBERNETES } from "./support/metrics.mjs";
import { startPrometheus } from "./support/prometheus.mjs";
import { readYaml } from "./support/tools.mjs";

/** Panels that are empty in a healthy fleet, and why. Nothing else may be. */
const EMPTY = {
  Alerts: "nothing fires while all is well",
  "Failed calls": "counted only when Redis fails",
  "Trace spans": "tracing is off unless an endpoint is set",
};

const KEDA = readYaml("deploy/prometheus/keda.yaml").spec.triggers[0].metadata.query;

test("a fleet, its Prometheus and its dashboards", { timeout: 170_000 }, async (t) => {
  const redis = await startRedis(t);
  const [a, b] = [await startGateway(t, "fanway-a", redis), await startGateway(t, "fanway-b", redis)];
  // Prometheus scrapes the first node through a door that the test can shut.
  const door = await openDoor(t, { port: a.internal });
  const targets = [{ name: a.name, address: door.url.slice("http://".length) }, b];
  const prometheus = await startPrometheus(t, targets);
  const begun = Date.now() / 1000;

  const balancer = await startBalancer(t, [a, b]);
  const clients = new Load(t, balancer);
  clients.websockets(16);
  clients.streams(16);
  clients.pollers(4);
  clients.publish(20);

  await t.test("clients of all transports receive, and Prometheus sees them", async () => {
    await until("publications over all transports", () => Object.values(clients.received).every((count) => count > 50));
    await until("all connections", async () => (await prometheus.value('sum(fanway_connections{transport!="poll"})')) === 32);
    await until("deliveries", async () => (await prometheus.value("min(sum by (instance) (rate(fanway_deliveries_total[5s])))")) > 0);
  });

  await t.test("every rule evaluates", async () => {
    await until("all rules to be evaluated", async () => (await prometheus.rules()).every((rule) => rule.health === "ok"));
    const firing = (await prometheus.rules()).filter((rule) => rule.state === "firing").map((rule) => rule.name);
    assert.deepEqual(firing, []);
  });

  await t.test("while a node cannot be scraped, KEDA is told what it last had", async () => {
    const before = await prometheus.value(KEDA);
    assert.ok(before >= 32, `${before} connections`);
    door.lead(undefined);
    door.cut();
    await until("the scrape to be lost", async () => (await prometheus.value('up{pod="fanway-a"}')) === 0);
    const plain = await prometheus.value("sum(fanway_connections)");
    assert.ok(plain < 0.8 * before, `${plain} of ${before}: the plain sum falls`);
    const told = await prometheus.value(KEDA);
    assert.ok(Math.abs(told - before) <= 4, `${told} of ${before}: only polls come and go`);
    door.lead({ port: a.internal });
    await until("the scrape to be back", async () => (await prometheus.value('up{pod="fanway-a"}')) === 1);
  });

  await t.test("what clients do wrong is counted", async () => {
    const refused = () => prometheus.value("sum(fanway_auth_failures_total)");
    await clients.mistakes();
    // A counter's first sample shows no growth, so that all has to happen once more.
    await until("the refused token", async () => (await refused()) > 0);
    const first = await refused();
    await clients.mistakes();
    await until("another one", async () => (await refused()) > first);
  });

  await t.test("a drain is seen from its beginning to its end", async () => {
    balancer.gateways.splice(1, 1);
    const drained = b.drain();
    await until("the drain to be seen", async () => (await prometheus.value('fanway_draining{pod="fanway-b"}')) === 1);
    assert.equal((await drained).code, 0);
    prometheus.retarget(targets.slice(0, 1));
    await until("everybody to be back", async () => (await prometheus.value('sum(fanway_connections{transport!="poll"})')) === 32);
  });

  await t.test("every panel is answered with data", async () => {
    const end = Date.now() / 1000;
    const unanswered = [];
    for (const panel of load().flatMap(panels)) {
      for (const { expr } of panel.targets) {
        if (panel.title in EMPTY || metricsOf(expr).some((name) => OF_KUBERNETES.includes(name))) continue;
        const series = await prometheus.range(substitute(expr), begun, end, 1);
        const values = series.flatMap((one) => one.values.map(([, value]) => Number(value))).filter(Number.isFinite);
        if (values.length === 0) unanswered.push(`${panel.row} / ${panel.title}: ${expr}`);
      }
    }
    assert.deepEqual(unanswered, []);
  });

  await t.test("the list of empty panels has no strangers", () => {
    const titles = load().flatMap(panels).map((panel) => panel.title);
    assert.deepEqual(Object.keys(EMPTY).filter((title) => !titles.includes(title)), []);
  });
});
