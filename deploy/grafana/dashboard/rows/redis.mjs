// What the nodes see of Redis.
import { heatmap, lines, of, quantile, query, rate, states } from "../parts.mjs";

export const redis = {
  title: "Redis",
  panels: [
    states({
      title: "Answers",
      description: "Whether Redis answers each node's commands.",
      states: { 0: ["down", "red"], 1: ["up", "green"] },
      queries: [query(`max by (instance) (${of("fanway_broker_up")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayBrokerDown"],
    }),
    lines({
      title: "Age of the last echo",
      description: "Each node publishes a probe now and then and hears it again. An old echo while Redis answers means a deaf node.",
      unit: "s",
      limit: 15,
      queries: [query(`max by (instance) (${of("fanway_broker_echo_age_seconds")})`, { legend: "{{instance}}" })],
      alerts: ["FanwayNodeDeaf"],
    }),
    lines({
      title: "What went wrong",
      description: "Per second: lost feeds, nodes that were deaf, nodes whose connections led to different servers, publications that could not be read, and those that were kept but not announced.",
      unit: "cps",
      queries: [
        query(`sum(${rate("fanway_broker_interruptions_total")})`, { legend: "interrupted" }),
        query(`sum(${rate("fanway_broker_deaf_total")})`, { legend: "deaf" }),
        query(`sum(${rate("fanway_broker_split_total")})`, { legend: "split" }),
        query(`sum(${rate("fanway_broker_unreadable_total")})`, { legend: "unreadable" }),
        query(`sum(${rate("fanway_broker_unannounced_total")})`, { legend: "unannounced" }),
      ],
      alerts: ["FanwayNodeSplit", "FanwayBrokerInterruptions", "FanwayPublicationsUnreadable", "FanwayPublicationsUnannounced"],
    }),
    lines({
      title: "Calls",
      description: "Calls to Redis per second, by operation.",
      unit: "ops",
      stack: true,
      queries: [query(`sum by (operation) (${rate("fanway_broker_call_seconds_count")})`, { legend: "{{operation}}" })],
    }),
    lines({
      title: "Time of calls",
      description: "The chosen quantile of the time that nodes wait for Redis, by operation. Operations that nobody called are left out.",
      unit: "s",
      queries: [query(`${quantile("fanway_broker_call_seconds", { by: "operation" })} >= 0`, { legend: "{{operation}}" })],
      alerts: ["FanwayBrokerSlow"],
    }),
    heatmap({
      title: "Time of publishes",
      description: "How long publishes wait for Redis.",
      unit: "s",
      metric: "fanway_broker_call_seconds",
      more: 'operation="publish"',
    }),
    lines({
      title: "Failed calls",
      description: "Calls per second that failed, by operation and reason.",
      unit: "ops",
      stack: true,
      queries: [query(`sum by (operation, reason) (${rate("fanway_broker_errors_total")})`, { legend: "{{operation}}: {{reason}}" })],
      alerts: ["FanwayPublishErrors"],
    }),
    lines({
      title: "Refused publishes",
      description: "Causes for which Redis answers and refuses what nodes publish: how many nodes see each of them.",
      unit: "short",
      queries: [query(`sum by (cause) (${of("fanway_broker_publishes_refused")})`, { legend: "{{cause}}" })],
      alerts: ["FanwayPublishesRefused"],
    }),
    lines({
      title: "Heard",
      description: "Publications per second that each node hears from Redis.",
      unit: "cps",
      queries: [query(`sum by (instance) (${rate("fanway_broker_events_total")})`, { legend: "{{instance}}" })],
    }),
    lines({
      title: "Channels listened to",
      description: "Channels that each node wants Redis to deliver.",
      unit: "short",
      stack: true,
      queries: [query(`sum by (instance) (${of("fanway_broker_subscriptions")})`, { legend: "{{instance}}" })],
    }),
  ],
};
