// Does everybody get everything, and how soon?
import { heatmap, lines, of, quantile, query, rate } from "../parts.mjs";

const TRANSPORT = 'transport=~"$transport"';

export const delivery = {
  title: "Delivery",
  panels: [
    heatmap({
      title: "Delivery latency",
      description: "From receiving a publication on a node to handing it to a socket, one sample per batch written.",
      unit: "s",
      metric: "fanway_delivery_latency_seconds",
      more: TRANSPORT,
    }),
    lines({
      title: "Delivery latency by transport",
      description: "The chosen quantile of the same.",
      unit: "s",
      queries: [query(quantile("fanway_delivery_latency_seconds", { by: "transport", more: TRANSPORT }), { legend: "{{transport}}" })],
      alerts: ["FanwayDeliverySlow"],
    }),
    lines({
      title: "Delivery latency by node",
      description: "The chosen quantile of the same. One node above the others is short of CPU.",
      unit: "s",
      queries: [query(quantile("fanway_delivery_latency_seconds", { by: "instance", more: TRANSPORT }), { legend: "{{instance}}" })],
      alerts: ["FanwayDeliverySlow"],
    }),
    lines({
      title: "Deliveries by transport",
      description: "Publications handed to sockets, per second.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (transport) (${rate("fanway_deliveries_total", TRANSPORT)})`, { legend: "{{transport}}" })],
    }),
    lines({
      title: "Publications by namespace",
      description: "Publications that reached the nodes, per second, by the namespace of their channel. One that several nodes have subscribers for counts on each.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (namespace) (label_replace(${rate("fanway_publications_in_total")}, "namespace", "$1", "exported_namespace", "(.+)"))`, { legend: "{{namespace}}" })],
    }),
    lines({
      title: "Fan-out",
      description: "Deliveries per publication that reached a node.",
      unit: "none",
      queries: [query(`sum(${rate("fanway_deliveries_total")}) / (sum(${rate("fanway_publications_in_total")}) > 0)`, { legend: "deliveries per publication" })],
    }),
    lines({
      title: "Waiting for slow clients",
      description: "Bytes that wait in outboxes of connections whose sockets are full, bytes of publications read for clients that are behind, at most `client.node_page_bytes` on each node, and answers above 16 KiB: to polls, from when they are collected, at most 16 MiB on each node; and of any kind that clients have not taken yet, those to polls included. `unfinished`: messages of clients that have not connected, at most `client.node_unfinished_bytes`.",
      unit: "bytes",
      queries: [
        query(`sum by (instance) (${of("fanway_outbox_bytes")})`, { legend: "outboxes, {{instance}}" }),
        query(`sum by (instance) (${of("fanway_page_bytes")})`, { legend: "pages, {{instance}}" }),
        query(`sum by (instance) (${of("fanway_poll_answer_bytes")})`, { legend: "polls, {{instance}}" }),
        query(`sum by (instance) (${of("fanway_large_answer_bytes")})`, { legend: "answers, {{instance}}" }),
        query(`sum by (instance) (${of("fanway_unfinished_bytes")})`, { legend: "unfinished, {{instance}}" }),
      ],
      alerts: ["FanwaySlowConsumers"],
    }),
    lines({
      title: "Slow clients",
      description: "Clients per second that fell behind, by what was done: caught up from the log, told of a gap, or closed. `pages dropped`: what a full socket did not take within a second, to be read again. `waits`: clients that sent commands faster than `client.command_rate` and had to wait.",
      unit: "cps",
      stack: true,
      queries: [
        query(`sum by (action) (${rate("fanway_slow_consumers_total")})`, { legend: "{{action}}" }),
        query(`sum(${rate("fanway_pages_dropped_total")})`, { legend: "pages dropped" }),
        query(`sum(${rate("fanway_command_rate_waits_total")})`, { legend: "waits" }),
      ],
      alerts: ["FanwaySlowConsumers", "FanwayPagesDropped"],
    }),
    lines({
      title: "Gaps",
      description: "Losses announced to the subscribers of channels, per second, by reason.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (reason) (${rate("fanway_gaps_total")})`, { legend: "{{reason}}" })],
      alerts: ["FanwayGaps"],
    }),
    lines({
      title: "Losses of Redis",
      description: "Per second: logs found to lack publications that had been acknowledged, attempts to record that which failed, and gaps sent to subscriptions that had passed over such a loss.",
      unit: "cps",
      queries: [
        query(`sum(${rate("fanway_losses_recorded_total")})`, { legend: "recorded" }),
        query(`sum by (reason) (${rate("fanway_losses_unrecorded_total")})`, { legend: "not recorded: {{reason}}" }),
        query(`sum by (notice) (${rate("fanway_loss_notices_total")})`, { legend: "{{notice}} notices" }),
      ],
      alerts: ["FanwayPublicationsLost", "FanwayLossesUnrecorded"],
    }),
    lines({
      title: "Channels and subscriptions",
      description: "Channels that nodes have subscribers for (one that several nodes have counts on each), and subscriptions.",
      unit: "short",
      queries: [
        query(`sum(${of("fanway_channels")})`, { legend: "channels" }),
        query(`sum(${of("fanway_subscriptions")})`, { legend: "subscriptions" }),
      ],
    }),
    lines({
      title: "Publications in memory",
      description: "Bytes of publications that nodes hold: recent ones for subscribers that are behind, at most `client.node_ring_bytes` on each node, and those that are not put in order yet.",
      unit: "bytes",
      stack: true,
      queries: [
        query(`sum by (instance) (${of("fanway_ring_bytes")})`, { legend: "recent, {{instance}}" }),
        query(`sum by (instance) (${of("fanway_inbox_bytes")})`, { legend: "arriving, {{instance}}" }),
      ],
    }),
    lines({
      title: "Publications dropped and evicted",
      description: "Publications per second that a node dropped because too many arrived at once (their channels are repaired from the log), and evictions per second because recent publications exceeded `client.node_ring_bytes`.",
      unit: "cps",
      queries: [
        query(`sum(${rate("fanway_inbox_dropped_total")})`, { legend: "dropped" }),
        query(`sum(${rate("fanway_ring_evictions_total")})`, { legend: "evictions" }),
      ],
      alerts: ["FanwayInboxOverflow"],
    }),
    lines({
      title: "Reads of logs",
      description: "Reads per second to repair a channel that missed something, and for clients that resume; those that come back together share one.",
      unit: "cps",
      queries: [
        query(`sum(${rate("fanway_repair_reads_total")})`, { legend: "repair" }),
        query(`sum(${rate("fanway_resume_reads_total")})`, { legend: "resume" }),
      ],
    }),
  ],
};
