// The autoscaler follows the connections, as Prometheus sees them, up and down; the new gateways get their share; switching
// it on takes no gateway away, and neither do lost scrapes.
import { spawn } from "node:child_process";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { Crowd, SteadyPublisher } from "../../e2e/support/crowd.mjs";
import { until } from "../../e2e/support/wait.mjs";
import { get, kubectl, NAMESPACE, pods, watching } from "./cluster.mjs";
import { caughtUp, CHANNELS, connections, deploy, RELEASE, services, token } from "./fleet.mjs";
import { serveMetrics } from "./metrics-api.mjs";

export const title = "autoscaling on connections";

const COUNTS = { websocket: 350, sse: 100 };
const TOTAL = 450;
const TARGET = 100;
/** A drain that a test can wait for. */
const DRAIN = { propagationDelaySeconds: 2, windowSeconds: 6, closeTimeoutSeconds: 2 };
const SCALING = {
  autoscaling: {
    enabled: true,
    minReplicas: 2,
    maxReplicas: 6,
    targetConnections: TARGET,
    behavior: {
      scaleUp: { stabilizationWindowSeconds: 0, policies: [{ type: "Pods", value: 4, periodSeconds: 15 }] },
      scaleDown: { stabilizationWindowSeconds: 10, policies: [{ type: "Pods", value: 1, periodSeconds: 15 }] },
    },
  },
};
/** Gateways far above the average give connections away; quick and for small numbers here. */
const REBALANCE = { gateway: { rebalance: { shedThreshold: 10, shedRate: 20, heartbeatInterval: "1s", settleTime: "5s" } } };

export default async function run(table) {
  const prometheus = await startPrometheus();
  const stopServing = await serveMetrics({ folder: prometheus.folder, metric: "fanway_connections", query: prometheus.query });
  let crowd, publisher;
  try {
    await deploy({ replicaCount: 4, ...REBALANCE }, { drain: DRAIN });
    const least = await leastWhile(() => deploy({ replicaCount: 4, ...REBALANCE, autoscaling: { ...SCALING.autoscaling, minReplicas: 4 } }, { drain: DRAIN }));
    table.row("fewest gateways while autoscaling is switched on, of 4", least, least === 4);

    await deploy({ ...REBALANCE, ...SCALING }, { drain: DRAIN });
    await reach(2, 180_000);
    table.row("gateways without connections", await wanted(), (await wanted()) === 2);
    const { clients, api } = await services();
    crowd = new Crowd({ ...clients, token, channels: CHANNELS, counts: COUNTS });
    publisher = new SteadyPublisher({ ...api, channels: CHANNELS, perSecond: 20 });
    const began = Date.now();
    await crowd.open(200);
    await reach(Math.ceil(TOTAL / TARGET), 120_000);
    table.row(`gateways for ${TOTAL} connections at ${TARGET} each`, `${await wanted()} after ${since(began)} s`, (await wanted()) === 5);
    await until("all to be ready", async () => (await pods(RELEASE)).filter(({ ready }) => ready).length >= 5, 60_000).catch(() => {});
    const share = await until("the new ones to get their share", balanced, 90_000).catch(() => undefined);
    const spread = (await connections()).map(({ held }) => held).join(", ");
    table.row("connections of each", `${spread} after ${since(began)} s`, share !== undefined);

    await prometheus.blind(true);
    await pause(30_000);
    table.row("gateways after 30 s without scrapes", await wanted(), (await wanted()) === 5);
    await prometheus.blind(false);

    await publisher.stop();
    await caughtUp(crowd, publisher);
    const lost = crowd.behind(publisher.heads).length + crowd.journal.faults.length;
    table.row("clients with a loss, a double or a gap", lost, lost === 0);
    crowd.close();
    const ended = Date.now();
    await reach(2, 240_000);
    const pace = since(ended);
    table.row("gateways after the clients have gone", `${await wanted()} after ${pace} s`, (await wanted()) === 2 && pace >= 30);
  } finally {
    crowd?.close();
    await publisher?.stop();
    stopServing();
    await kubectl(["delete", "apiservice", "v1beta2.custom.metrics.k8s.io", "--ignore-not-found"]);
    prometheus.stop();
  }
}

const since = (time) => Math.round((Date.now() - time) / 1000);
const wanted = async () => (await get("deployment", RELEASE)).spec.replicas;
const reach = (count, within) => until(`${count} gateways`, async () => (await wanted()) === count, within).catch(() => {});

/** The fewest replicas that the Deployment was told to have while something goes on. */
async function leastWhile(change) {
  let least = Infinity;
  const look = async () => {
    least = Math.min(least, await wanted());
  };
  await watching(look, change);
  return least;
}

/** Whether all clients are back, and no gateway has less than half or more than 1.3 times as many as the average. */
async function balanced() {
  const held = (await connections()).map(({ held }) => held);
  const total = held.reduce((sum, one) => sum + one, 0);
  const average = total / held.length;
  return total >= TOTAL && Math.min(...held) >= 0.5 * average && Math.max(...held) <= 1.3 * average;
}

/** A Prometheus on this machine that scrapes the gateways' pods. */
async function startPrometheus() {
  const folder = mkdtempSync(join(tmpdir(), "fanway-prometheus-"));
  const targets = join(folder, "targets.json");
  let blind = false;
  let stopped = false;
  const settings = {
    global: { scrape_interval: "2s", scrape_timeout: "1s" },
    scrape_configs: [{ job_name: "fanway", file_sd_configs: [{ files: [targets], refresh_interval: "2s" }] }],
  };
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(settings));
  const address = "127.0.0.1:9090";
  const child = spawn("prometheus", [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=${address}`], { stdio: "ignore" });
  // What the operator's discovery of pods does; blind, it looks at a port where nobody answers.
  const discover = async () => {
    while (!stopped) {
      const known = (await pods(RELEASE).catch(() => [])).filter(({ ip }) => ip);
      const list = known.map(({ name, ip }) => ({ targets: [`${ip}:${blind ? 9 : 9000}`], labels: { namespace: NAMESPACE, pod: name, instance: name } }));
      writeFileSync(`${targets}.new`, JSON.stringify(list));
      renameSync(`${targets}.new`, targets);
      await pause(1000);
    }
  };
  const discovering = discover();
  const query = async (expression) => {
    const response = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent(expression)}`, { signal: AbortSignal.timeout(5000) });
    return (await response.json()).data.result.map(({ metric, value }) => ({ ...metric, value: Number(value[1]) }));
  };
  await until("Prometheus", () => fetch(`http://${address}/-/ready`).then(({ ok }) => ok, () => false));
  return {
    folder,
    query,
    blind: async (is) => {
      blind = is;
      const value = is ? 0 : 1;
      await until("Prometheus to notice", async () => {
        const up = await query("up");
        return up.length > 0 && up.every((target) => target.value === value);
      });
    },
    stop: () => {
      stopped = true;
      child.kill();
      discovering.then(() => rmSync(folder, { recursive: true, force: true }));
    },
  };
}
