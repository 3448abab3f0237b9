// What back ends see.
import { heatmap, lines, quantile, query, rate } from "../parts.mjs";

export const api = {
  title: "Server API",
  panels: [
    lines({
      title: "Requests by endpoint",
      description: "Requests of back ends per second.",
      unit: "reqps",
      stack: true,
      queries: [query(`sum by (endpoint) (${rate("fanway_api_requests_total")})`, { legend: "{{endpoint}}" })],
    }),
    lines({
      title: "Failed requests",
      description: "Requests per second that did not succeed, by endpoint and reason. `broker_...` and `publish_outcome_unknown` are Redis' doing, `abandoned` means that the back end hung up.",
      unit: "reqps",
      stack: true,
      queries: [query(`sum by (endpoint, outcome) (${rate("fanway_api_requests_total", 'outcome!="ok"')})`, { legend: "{{endpoint}}: {{outcome}}" })],
      alerts: ["FanwayPublishErrors"],
    }),
    lines({
      title: "Publications by node",
      description: "Publications per second that the broker took from the server API, repeated ones not counted.",
      unit: "cps",
      stack: true,
      queries: [query(`sum by (instance) (${rate("fanway_api_publications_total")})`, { legend: "{{instance}}" })],
    }),
    heatmap({
      title: "Time of publishes",
      description: "From a publish's head to its answer, Redis included.",
      unit: "s",
      metric: "fanway_api_request_seconds",
      more: 'endpoint=~"publish|broadcast"',
    }),
    lines({
      title: "Time by endpoint",
      description: "The chosen quantile of the time from a request's head to its answer.",
      unit: "s",
      width: 16,
      queries: [query(quantile("fanway_api_request_seconds", { by: "endpoint" }), { legend: "{{endpoint}}" })],
      alerts: ["FanwayPublishSlow"],
    }),
  ],
};
