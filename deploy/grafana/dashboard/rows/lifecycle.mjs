// How connections begin and end.
import { heatmap, lines, of, quantile, query, rate } from "../parts.mjs";

const TRANSPORT = 'transport=~"$transport"';

export const lifecycle = {
  title: "Life of connections",
  panels: [
    lines({
      title: "Opened and closed by transport",
      description: "Connections opened (upwards) and closed (downwards) per second.",
      unit: "cps",
      below: "closed .*",
      queries: [
        query(`sum by (transport) (${rate("fanway_connections_opened_total", TRANSPORT)})`, { legend: "opened {{transport}}" }),
        query(`sum by (transport) (${rate("fanway_connections_closed_total", TRANSPORT)})`, { legend: "closed {{transport}}" }),
      ],
    }),
    lines({
      title: "Closed by reason",
      description: "Why connections ended. `client` is the client's own doing; `shutdown` a drain; `max_age` and `rebalanced` spread the load.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (reason) (${rate("fanway_connections_closed_total", TRANSPORT)})`, { legend: "{{reason}}" })],
      alerts: ["FanwayUnexpectedCloses"],
    }),
    lines({
      title: "Refused by reason",
      description: "Connections that were not let in, per second.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (reason) (${rate("fanway_connections_rejected_total")})`, { legend: "{{reason}}" })],
      alerts: ["FanwayConnectionsRejected"],
    }),
    lines({
      title: "Limited",
      description: "Actions that a limit of what one client may cost refused or delayed, per second, by limit: `user_` and `address_` are one user's or client address's, the others the node's. See the settings `[limits]`. Downwards: users and addresses whose buckets are not full.",
      unit: "ops",
      stack: true,
      below: "users and addresses",
      queries: [
        query(`sum by (limit) (${rate("fanway_limited_total")})`, { legend: "{{limit}}" }),
        query(`sum(${of("fanway_limited_subjects")})`, { legend: "users and addresses" }),
      ],
      alerts: ["FanwayClientsLimited", "FanwayNodeOverLimit"],
    }),
    heatmap({
      title: "Age at the end",
      description: "How old connections were when they closed.",
      unit: "s",
      metric: "fanway_connection_age_seconds",
      more: TRANSPORT,
    }),
    heatmap({
      title: "Handshakes",
      description: "From accepting a connection to the whole head of its first request, TLS included. Slow ones are mostly slow clients.",
      unit: "s",
      metric: "fanway_handshake_seconds",
      more: 'listener="public"',
    }),
    lines({
      title: "Handshake time",
      description: "The median and the chosen quantile of the same.",
      unit: "s",
      queries: [
        query(quantile("fanway_handshake_seconds", { q: "0.5", more: 'listener="public"' }), { legend: "median" }),
        query(quantile("fanway_handshake_seconds", { more: 'listener="public"' }), { legend: "quantile $quantile" }),
      ],
    }),
    lines({
      title: "Resumes by outcome",
      description: "Clients that came back with a position: `recovered` got all they had missed, the others were told of a gap, with the reason.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (outcome) (${rate("fanway_recoveries_total")})`, { legend: "{{outcome}}" })],
      alerts: ["FanwayResumesFail"],
    }),
    lines({
      title: "Resumed without a gap",
      description: "Share of the clients that came back with a position and missed nothing. Nothing is shown while nobody comes back.",
      unit: "percentunit",
      max: 1,
      queries: [
        query(`sum(${rate("fanway_recoveries_total", 'outcome="recovered"')}) / (sum(${rate("fanway_recoveries_total")}) > 0)`, { legend: "recovered" }),
      ],
      alerts: ["FanwayResumesFail"],
    }),
    lines({
      title: "Refused credentials",
      description: "Tokens that were refused, per second, by reason. `missing` means that none was presented.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (reason) (${rate("fanway_auth_failures_total")})`, { legend: "{{reason}}" })],
      alerts: ["FanwayAuthFailures"],
    }),
    lines({
      title: "Connections of draining nodes",
      description: "What draining nodes still have. It should fall in a straight line over drain.window.",
      unit: "short",
      stack: true,
      width: 12,
      queries: [
        query(`sum by (instance) (${of("fanway_connections")} and on (namespace, job, instance) ${of("fanway_draining")} == 1)`, { legend: "{{instance}}" }),
      ],
      alerts: ["FanwayDrainTooLong"],
    }),
    lines({
      title: "Cut off by the server",
      description: "Sockets of clients that were refused or cut off below the transports, per second: over the limit, too slow, or not speaking HTTP.",
      unit: "cps",
      width: 12,
      queries: [
        query(`sum by (reason) (${rate("fanway_sockets_rejected_total", 'listener="public"')})`, { legend: "{{reason}}" }),
        query(`sum(${rate("fanway_accept_errors_total")})`, { legend: "accept failed" }),
      ],
      alerts: ["FanwayAcceptErrors"],
    }),
  ],
};
