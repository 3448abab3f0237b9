// Are connections spread evenly, and is there room to lose a node?
import { lines, of, query, rate, states, staying } from "../parts.mjs";

const BY_NODE = staying(`sum by (namespace, job, instance) (${of("fanway_connections")})`);
const HPA = 'namespace=~"$namespace", horizontalpodautoscaler=~".*fanway.*"';

export const balance = {
  title: "Balance and capacity",
  panels: [
    lines({
      title: "Connections by node",
      description: "A new node gets new connections only, until others shed theirs or theirs grow old.",
      unit: "short",
      stack: true,
      width: 12,
      queries: [query(`sum by (instance) (${of("fanway_connections")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayUnbalanced"],
    }),
    lines({
      title: "Imbalance",
      description: "The fullest node as a multiple of the average (1 is even), and the standard deviation as a share of the average (0 is even). Draining nodes do not count.",
      unit: "none",
      limit: 1.5,
      queries: [
        query(`max(${BY_NODE}) / avg(${BY_NODE})`, { legend: "fullest / average" }),
        query(`stddev(${BY_NODE}) / avg(${BY_NODE})`, { legend: "deviation / average" }),
      ],
      width: 12,
      alerts: ["FanwayUnbalanced"],
    }),
    lines({
      title: "Filled without the largest node",
      description: "How full the others would be if the node with the highest limit went away now. Beyond 1, clients would be refused. Nothing is shown for a single node.",
      unit: "percentunit",
      limit: 0.95,
      queries: [
        query(
          `sum(${of("fanway_connections")}) / (sum${staying(of("fanway_connections_limit"))} - max${staying(of("fanway_connections_limit"))} > 0)`,
          { legend: "filled" },
        ),
      ],
      alerts: ["FanwayNoHeadroom"],
    }),
    lines({
      title: "Sockets by node",
      description: "Open sockets for clients, whatever they speak, as a share of what the node takes.",
      unit: "percentunit",
      limit: 0.9,
      queries: [
        query(`max by (instance) (${of("fanway_sockets_open", 'listener="public"')} / ${of("fanway_sockets_limit", 'listener="public"')})`, { legend: "{{instance}}" }),
      ],
      alerts: ["FanwayNodeNearConnectionLimit"],
    }),
    lines({
      title: "Autoscaler",
      description: "Nodes that there are, that the autoscaler wants, and that it may have. Needs kube-state-metrics.",
      unit: "short",
      queries: [
        query(`max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_current_replicas{${HPA}})`, { legend: "current" }),
        query(`max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_desired_replicas{${HPA}})`, { legend: "desired" }),
        query(`max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_spec_max_replicas{${HPA}})`, { legend: "maximum" }),
      ],
      alerts: ["FanwayAutoscalerAtMaximum", "FanwayAutoscalerBlind", "FanwayKedaErrors"],
    }),
    states({
      title: "Draining",
      description: "Nodes that give their connections away before they stop.",
      states: { 0: ["serving", "green"], 1: ["draining", "orange"] },
      queries: [query(`max by (instance) (${of("fanway_draining")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayDrainTooLong"],
    }),
    states({
      title: "Shedding",
      description: "Nodes that close connections because they have more than their share.",
      states: { 0: ["at rest", "green"], 1: ["shedding", "orange"] },
      queries: [query(`max by (instance) (${of("fanway_shedding")})`, { legend: "{{instance}}" })],
      alerts: ["FanwaySheddingInVain"],
    }),
    lines({
      title: "Why no shedding",
      description: "Nodes that would shed nothing now, whatever they have, by reason. `new` after a node came (`rebalance.settle_time`) and `draining` are usual in a rollout; `resting` for long: the load balancer sends clients back to where they were; `full`: no other node has room.",
      unit: "short",
      queries: [query(`sum by (reason) (${of("fanway_shedding_held")}) > 0`, { legend: "{{reason}}" })],
    }),
    lines({
      title: "Moved to balance",
      description: "Connections per second that nodes closed so that they come back elsewhere: for their age, or to shed load.",
      unit: "cps",
      queries: [query(`sum by (reason) (${rate("fanway_connections_closed_total", 'reason=~"max_age|rebalanced|shutdown"')})`, { legend: "{{reason}}" })],
    }),
    lines({
      title: "Fleet as nodes hear it",
      description: "Nodes that each node hears of, itself included. All lines should be one.",
      unit: "short",
      queries: [query(`max by (instance) (${of("fanway_fleet_nodes")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayFleetSplit"],
    }),
    lines({
      title: "Average as nodes hear it",
      description: "Connections of the average node of the fleet as each node computes it, beside what is true.",
      unit: "short",
      queries: [
        query(`max by (instance) (${of("fanway_fleet_connections_average")})`, { legend: "{{instance}}" }),
        query(`avg(${BY_NODE})`, { legend: "true average" }),
      ],
    }),
  ],
};
