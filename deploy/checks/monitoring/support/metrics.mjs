// Which metrics there are: what a node shows (metrics.txt) and what its sources declare, some of which show only after an error.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { read, ROOT } from "./tools.mjs";

/** Metrics of kube-state-metrics, the kubelet and KEDA, which a cluster has or has not. */
export const OF_KUBERNETES = [
  "container_memory_working_set_bytes",
  "keda_scaler_detail_errors_total",
  "kube_deployment_spec_replicas",
  "kube_deployment_status_observed_generation",
  "kube_deployment_status_replicas_ready",
  "kube_horizontalpodautoscaler_spec_max_replicas",
  "kube_horizontalpodautoscaler_status_condition",
  "kube_horizontalpodautoscaler_status_current_replicas",
  "kube_horizontalpodautoscaler_status_desired_replicas",
  "kube_pod_container_resource_limits",
];

/** Metrics of Prometheus itself. */
const OF_PROMETHEUS = ["up", "ALERTS"];

const KINDS = { Int: "", Vec: "" };
const kind = (type) => type.replace(/Int|Vec/g, (part) => KINDS[part]).toLowerCase();

/** Name to kind (`counter`, `gauge`, `histogram`) of all metrics that nodes have. */
export function existing() {
  const found = new Map();
  for (const line of read("services/gateway/metrics.txt").trim().split("\n")) {
    const [name, type] = line.split(" ");
    found.set(name, type);
  }
  for (const path of readdirSync(join(ROOT, "services"), { recursive: true })) {
    if (!/\/src\/.*\.rs$/.test(path)) continue;
    const source = readFileSync(join(ROOT, "services", path), "utf8");
    for (const [, block] of source.matchAll(/^\S*metrics! \{\n([^]*?)^\}/gm)) {
      for (const [, name, type] of block.matchAll(/^ {8}(\w+): (\w+)/gm)) found.set(`fanway_${name}`, kind(type));
    }
  }
  return found;
}

/** The metrics that a query reads, without what histograms append. */
export function metricsOf(query, kinds = existing()) {
  const names = query.match(/\b(?:(?:fanway|process|kube|container|keda)_\w+|up|ALERTS)\b/g) ?? [];
  const family = (name) => {
    const base = name.replace(/_(bucket|count|sum)$/, "");
    return kinds.get(base) === "histogram" ? base : name;
  };
  return [...new Set(names.map(family))];
}

/** The metrics that a query reads and nobody has. */
export function unknownMetrics(query) {
  const kinds = existing();
  const known = new Set([...kinds.keys(), ...OF_KUBERNETES, ...OF_PROMETHEUS]);
  return metricsOf(query, kinds).filter((name) => !known.has(name));
}
