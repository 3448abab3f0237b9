// A real Prometheus that scrapes nodes every second, with the labels that targets have in Kubernetes.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { folder, onFreePort, Process } from "../../../e2e/support/process.mjs";
import { PATIENCE, until } from "../../../e2e/support/wait.mjs";
import { ALERTS, PROMETHEUS } from "./tools.mjs";

/** Starts it. `targets` is a list of `{ name, address }`, which `retarget` replaces. */
export function startPrometheus(t, targets) {
  const directory = folder(t);
  const sd = join(directory, "targets.json");
  const config = {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: [ALERTS],
    scrape_configs: [{ job_name: "fanway", file_sd_configs: [{ files: [sd], refresh_interval: "1s" }] }],
  };
  // JSON is YAML.
  writeFileSync(join(directory, "prometheus.yml"), JSON.stringify(config));
  retarget(sd, targets);
  return onFreePort((port) => {
    const args = [
      `--config.file=${join(directory, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(directory, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
      "--log.level=warn",
    ];
    const child = new Process(t, join(directory, `prometheus-${port}.log`), PROMETHEUS, args);
    const prometheus = new Prometheus(`http://127.0.0.1:${port}`, sd);
    const ready = () =>
      until("Prometheus", async () => {
        if (!child.running) throw new Error("Prometheus exited");
        return (await fetch(`${prometheus.url}/-/ready`).catch(() => undefined))?.ok;
      });
    return { child, ready, result: prometheus };
  });
}

function retarget(file, targets) {
  const entries = targets.map(({ name, address }) => ({ targets: [address], labels: { instance: name, pod: name, namespace: "push" } }));
  writeFileSync(file, JSON.stringify(entries));
}

class Prometheus {
  #sd;

  constructor(url, sd) {
    this.url = url;
    this.#sd = sd;
  }

  /** Changes what is scraped. */
  retarget(targets) {
    retarget(this.#sd, targets);
  }

  async #get(path, parameters = {}) {
    const response = await fetch(`${this.url}/api/v1/${path}`, {
      method: "POST",
      body: new URLSearchParams(parameters),
      signal: AbortSignal.timeout(PATIENCE),
    });
    const answer = await response.json();
    if (answer.status !== "success") throw new Error(`${parameters.query}: ${answer.error}`);
    return answer.data.result ?? answer.data;
  }

  /** Values of an instant query, each `{ metric, value: [time, text] }`. */
  query(query) {
    return this.#get("query", { query });
  }

  /** The first value of an instant query, undefined if there is none. */
  async value(query) {
    const [first] = await this.query(query);
    return first && Number(first.value[1]);
  }

  /** Series of a range query, times in seconds. */
  range(query, start, end, step) {
    return this.#get("query_range", { query, start, end, step });
  }

  /** All rules with their state. */
  async rules() {
    const response = await fetch(`${this.url}/api/v1/rules`);
    return (await response.json()).data.groups.flatMap((group) => group.rules);
  }
}
