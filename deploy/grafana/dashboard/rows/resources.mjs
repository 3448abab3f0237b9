// What the nodes live on.
import { lines, of, query, rate, states } from "../parts.mjs";

const CONTAINER = 'namespace=~"$namespace", container="fanway"';

export const resources = {
  title: "Resources",
  panels: [
    lines({
      title: "CPU",
      description: "Cores that each node uses.",
      unit: "none",
      queries: [query(`max by (instance) (${rate("process_cpu_seconds_total")})`, { legend: "{{instance}}" })],
    }),
    lines({
      title: "Memory",
      description: "Memory of each node's process. Buffers of sockets are the kernel's and not in it.",
      unit: "bytes",
      queries: [query(`max by (instance) (${of("process_resident_memory_bytes")})`, { legend: "{{instance}}" })],
    }),
    lines({
      title: "Memory of the container",
      description: "What counts against the container's memory limit, the kernel's buffers included, as a share of it. Needs kube-state-metrics and the kubelet's figures.",
      unit: "percentunit",
      limit: 0.9,
      queries: [
        query(
          `max by (namespace, pod) (container_memory_working_set_bytes{${CONTAINER}}) / on (namespace, pod) max by (namespace, pod) (kube_pod_container_resource_limits{${CONTAINER}, resource="memory"})`,
          { legend: "{{pod}}" },
        ),
      ],
      alerts: ["FanwayMemoryNearLimit"],
    }),
    lines({
      title: "Memory per connection",
      description: "The same, divided by the node's connections. With few connections it says nothing.",
      unit: "bytes",
      queries: [
        query(
          `sum by (instance) (${of("process_resident_memory_bytes")}) / (sum by (instance) (${of("fanway_connections")}) > 0)`,
          { legend: "{{instance}}" },
        ),
      ],
    }),
    lines({
      title: "Open files",
      description: "As a share of what the process may open. At 1 no connection can be accepted.",
      unit: "percentunit",
      limit: 0.85,
      queries: [query(`max by (instance) (${of("process_open_fds")} / ${of("process_max_fds")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayOpenFilesNearLimit"],
    }),
    lines({
      title: "Sockets",
      description: "Open sockets of clients, from accept to close, and those of the internal listener.",
      unit: "short",
      queries: [query(`sum by (listener) (${of("fanway_sockets_open")})`, { legend: "{{listener}}" })],
    }),
    lines({
      title: "Threads",
      description: "Threads of each node's process.",
      unit: "short",
      queries: [query(`max by (instance) (${of("process_threads")})`, { legend: "{{instance}}" })],
    }),
    lines({
      title: "Trace spans",
      description: "Spans per second that were sent to the collector, and those that were lost because it was slow or away.",
      unit: "cps",
      queries: [query(`sum by (outcome) (${rate("fanway_trace_spans_total")})`, { legend: "{{outcome}}" })],
    }),
    lines({
      title: "Uptime",
      description: "Seconds since each node started.",
      unit: "s",
      queries: [query(`max by (instance) (time() - ${of("process_start_time_seconds")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayNodeRestarting"],
    }),
    states({
      title: "Versions",
      description: "The version that each node runs.",
      states: { 1: ["running", "green"] },
      queries: [query(`max by (instance, version) (${of("fanway_build_info")})`, { legend: "{{instance}}: {{version}}" })],
      alerts: ["FanwayVersionsMixed"],
    }),
  ],
};
