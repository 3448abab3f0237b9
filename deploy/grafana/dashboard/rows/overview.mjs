// Is all well? The only row that is open.
import { lines, of, quantile, query, rate, stat, states, staying } from "../parts.mjs";

const TRANSPORT = 'transport=~"$transport"';

export const overview = {
  title: "Overview",
  panels: [
    stat({
      title: "Connections",
      description: "Clients that are connected to the selected nodes now, over the selected transports.",
      unit: "short",
      queries: [query(`sum(${of("fanway_connections", TRANSPORT)})`)],
      alerts: ["FanwayConnectionCliff"],
    }),
    stat({
      title: "Capacity used",
      description: "Connections as a share of what the nodes take, those that are draining aside.",
      unit: "percentunit",
      levels: [[null, "green"], [0.7, "orange"], [0.9, "red"]],
      queries: [query(`sum(${of("fanway_connections")}) / sum${staying(of("fanway_connections_limit"))}`)],
      alerts: ["FanwayNodeNearConnectionLimit", "FanwayNoHeadroom"],
    }),
    stat({
      title: "Nodes",
      description: "Nodes that answer Prometheus, those of them that are draining, and targets of the same job that do not answer.",
      unit: "short",
      bare: true,
      queries: [
        query(`count(${of("fanway_build_info")})`, { legend: "answering" }),
        query(`sum(${of("fanway_draining")})`, { legend: "draining" }),
        query('count(up{namespace=~"$namespace", job=~"$job"} == 0) or vector(0)', { legend: "silent" }),
      ],
      alerts: ["FanwayTargetDown", "FanwayAbsent", "FanwayNodesUnavailable", "FanwayNoNodes"],
    }),
    stat({
      title: "Publications",
      description: "Publications per second that the broker took from the server API.",
      unit: "cps",
      queries: [query(`sum(${rate("fanway_api_publications_total")})`)],
    }),
    stat({
      title: "Deliveries",
      description: "Publications per second handed to sockets.",
      unit: "cps",
      queries: [query(`sum(${rate("fanway_deliveries_total", TRANSPORT)})`)],
    }),
    stat({
      title: "Redis",
      description: "Whether Redis answers every node. Nodes with the memory engine have none.",
      unit: "short",
      none: "no Redis",
      bare: true,
      mappings: { 0: ["down", "red"], 1: ["up", "green"] },
      levels: [[null, "red"], [1, "green"]],
      queries: [query(`min(${of("fanway_broker_up")})`)],
      alerts: ["FanwayBrokerDown", "FanwayNodeDeaf"],
    }),
    lines({
      title: "Connections by transport",
      description: "Connected clients. A drained node's clients come back at once, so that a rollout shows as a dent and not as a cliff.",
      unit: "short",
      stack: true,
      queries: [query(`sum by (transport) (${of("fanway_connections", TRANSPORT)})`, { legend: "{{transport}}" })],
      alerts: ["FanwayConnectionCliff"],
    }),
    lines({
      title: "Connects and disconnects",
      description: "Connections opened (upwards) and closed (downwards) per second, and those that were refused.",
      unit: "cps",
      below: "closed|refused",
      queries: [
        query(`sum(${rate("fanway_connections_opened_total", TRANSPORT)})`, { legend: "opened" }),
        query(`sum(${rate("fanway_connections_closed_total", TRANSPORT)})`, { legend: "closed" }),
        query(`sum(${rate("fanway_connections_rejected_total")})`, { legend: "refused" }),
      ],
      alerts: ["FanwayConnectionsRejected", "FanwayUnexpectedCloses"],
    }),
    lines({
      title: "Delivery latency",
      description: "From receiving a publication on a node to handing it to a socket: the median and the chosen quantile, one sample per batch written.",
      unit: "s",
      queries: [
        query(quantile("fanway_delivery_latency_seconds", { q: "0.5", more: TRANSPORT }), { legend: "median" }),
        query(quantile("fanway_delivery_latency_seconds", { more: TRANSPORT }), { legend: "quantile $quantile" }),
      ],
      alerts: ["FanwayDeliverySlow"],
    }),
    lines({
      title: "Publications and deliveries",
      description: "What comes in by the server API and what goes out to clients, per second.",
      unit: "cps",
      width: 12,
      queries: [
        query(`sum(${rate("fanway_api_publications_total")})`, { legend: "published" }),
        query(`sum(${rate("fanway_deliveries_total", TRANSPORT)})`, { legend: "delivered" }),
      ],
    }),
    states({
      title: "Alerts",
      description: "Alerts about Fanway that fire, of all fleets that this Prometheus knows. Empty is good.",
      width: 12,
      none: "none",
      states: { 1: ["firing", "red"] },
      queries: [query('max by (alertname, severity) (ALERTS{alertname=~"Fanway.+", alertstate="firing"})', { legend: "{{alertname}} ({{severity}})" })],
    }),
  ],
};
