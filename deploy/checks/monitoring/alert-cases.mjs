// What each alert must do: series for which it fires, with what it then says, and series close by for which it must not.
//
// A case is one history of a fleet, a sample per minute, in promtool's notation ("100x20" is 100 and twenty times the same,
// "0+60x20" counts 60 a minute, "_" is a lost scrape, "stale" the end of a series). `fires` holds the labels besides
// namespace and job; `says` is the description. Without `fires` the alert must be silent at that time.

/** Series of one node: `node("a", { fanway_draining: "1x20", 'fanway_connections{transport="sse"}': "5x20" })`. */
function node(name, series) {
  const own = `namespace="push",job="fanway",pod="fanway-${name}",instance="fanway-${name}"`;
  return Object.entries(series).map(([metric, values]) => {
    const [, family, labels] = /^(\w+)(?:\{(.*)\})?$/.exec(metric);
    return { series: `${family}{${labels ? `${labels},` : ""}${own}}`, values };
  });
}

const at = (name) => ({ pod: `fanway-${name}`, instance: `fanway-${name}` });
const BUILD = 'fanway_build_info{version="1.0.0"}';
const CONNECTIONS = 'fanway_connections{transport="websocket"}';
const hpa = (metric, labels, values) => ({
  series: `kube_horizontalpodautoscaler_${metric}{job="kube-state-metrics",namespace="push",horizontalpodautoscaler="fanway"${labels}}`,
  values,
});

/** A Deployment: its ready nodes, and those that it should have. */
const deployment = (ready, wanted, name = "fanway") => [
  ["status_replicas_ready", ready],
  ["spec_replicas", wanted],
].map(([metric, values]) => ({ series: `kube_deployment_${metric}{job="kube-state-metrics",namespace="push",deployment="${name}"}`, values }));
/** What a container uses and may use, in MiB, as the kubelet and kube-state-metrics tell it. */
const memory = (name, used, limit, container = "fanway") => [
  { series: `container_memory_working_set_bytes{job="kubelet",node="m",namespace="push",pod="fanway-${name}",container="${container}"}`, values: `${used << 20}x20` },
  { series: `kube_pod_container_resource_limits{job="kube-state-metrics",resource="memory",unit="byte",namespace="push",pod="fanway-${name}",container="${container}"}`, values: `${limit << 20}x20` },
];
/** KEDA's errors with a ScaledObject. The scrape has put KEDA's own namespace where that of the object was. */
const keda = (name, values) => ({ series: `keda_scaler_detail_errors_total{job="keda",namespace="keda",exported_namespace="push",scaledObject="${name}",scaler="prometheus"}`, values });

/** Whether publishes are refused, by cause. */
const causes = (values) =>
  Object.fromEntries(Object.entries(values).map(([cause, series]) => [`fanway_broker_publishes_refused{cause="${cause}"}`, series]));

/** A histogram of which all samples, 120 a minute, lie between two bounds. */
function histogram(name, labels, below, above, minutes = 30) {
  const all = `0+120x${minutes}`;
  const bucket = (le, values) => [`${name}_bucket{${labels}le="${le}"}`, values];
  return Object.fromEntries([bucket(below, `0x${minutes}`), bucket(above, all), bucket("+Inf", all)]);
}

export const CASES = [
  {
    alert: "FanwayNodeNearConnectionLimit",
    what: "95 % for six minutes; another node is half full",
    series: [
      ...node("a", { 'fanway_sockets_open{listener="public"}': "950x10", 'fanway_sockets_limit{listener="public"}': "1000x10" }),
      ...node("b", { 'fanway_sockets_open{listener="public"}': "500x10", 'fanway_sockets_limit{listener="public"}': "1000x10" }),
    ],
    time: "6m",
    fires: at("a"),
    says: "fanway-a has 95% of the connections it takes. It refuses those beyond.",
  },
  {
    alert: "FanwayNodeNearConnectionLimit",
    what: "90 % exactly, and a full internal listener",
    series: node("a", {
      'fanway_sockets_open{listener="public"}': "900x10",
      'fanway_sockets_limit{listener="public"}': "1000x10",
      'fanway_sockets_open{listener="internal"}': "1000x10",
      'fanway_sockets_limit{listener="internal"}': "1000x10",
    }),
    time: "10m",
  },
  {
    alert: "FanwayNoHeadroom",
    what: "three nodes of 1,000 with 1,950 connections: two could not hold them",
    series: ["a", "b", "c"].flatMap((name) =>
      node(name, { [BUILD]: "1x20", [CONNECTIONS]: "650x20", fanway_connections_limit: "1000x20", fanway_draining: "0x20" }),
    ),
    time: "16m",
    fires: {},
    says: "Without its largest node, fanway would be filled to 97.5% of its limit of connections.",
  },
  {
    alert: "FanwayNoHeadroom",
    what: "a draining node's limit does not count: two remain, of which one could not hold all",
    series: [
      ...["a", "b"].flatMap((name) =>
        node(name, { [BUILD]: "1x20", [CONNECTIONS]: "500x20", fanway_connections_limit: "1000x20", fanway_draining: "0x20" }),
      ),
      ...node("c", { [BUILD]: "1x20", [CONNECTIONS]: "100x20", fanway_connections_limit: "1000x20", fanway_draining: "1x20" }),
    ],
    time: "16m",
    fires: {},
    says: "Without its largest node, fanway would be filled to 110% of its limit of connections.",
  },
  {
    alert: "FanwayNoHeadroom",
    what: "three nodes of 1,000 with 1,800 connections",
    series: ["a", "b", "c"].flatMap((name) =>
      node(name, { [BUILD]: "1x20", [CONNECTIONS]: "600x20", fanway_connections_limit: "1000x20", fanway_draining: "0x20" }),
    ),
    time: "20m",
  },
  {
    alert: "FanwayNoHeadroom",
    what: "a single node has no other to fall back on, which is no news",
    series: node("a", { [BUILD]: "1x20", [CONNECTIONS]: "990x20", fanway_connections_limit: "1000x20", fanway_draining: "0x20" }),
    time: "20m",
  },
  {
    alert: "FanwayUnbalanced",
    what: "4,000 of 6,000 on one of three nodes, over two transports",
    series: [
      ...node("a", { [CONNECTIONS]: "3000x20", 'fanway_connections{transport="sse"}': "1000x20", fanway_draining: "0x20" }),
      ...node("b", { [CONNECTIONS]: "1000x20", fanway_draining: "0x20" }),
      ...node("c", { [CONNECTIONS]: "1000x20", fanway_draining: "0x20" }),
    ],
    time: "16m",
    fires: {},
    says: "The fullest node of fanway has 2 times the connections of the average one.",
  },
  {
    alert: "FanwayUnbalanced",
    what: "only the draining node is far from the others",
    series: [
      ...node("a", { [CONNECTIONS]: "9000x20", fanway_draining: "1x20" }),
      ...node("b", { [CONNECTIONS]: "1000x20", fanway_draining: "0x20" }),
      ...node("c", { [CONNECTIONS]: "1200x20", fanway_draining: "0x20" }),
    ],
    time: "20m",
  },
  {
    alert: "FanwayUnbalanced",
    what: "a small fleet may be uneven",
    series: [
      ...node("a", { [CONNECTIONS]: "900x20", fanway_draining: "0x20" }),
      ...node("b", { [CONNECTIONS]: "10x20", fanway_draining: "0x20" }),
    ],
    time: "20m",
  },
  {
    alert: "FanwayConnectionsRejected",
    what: "two a second over the limit, on two nodes",
    series: [
      ...node("a", { 'fanway_connections_rejected_total{reason="limit"}': "0+60x20" }),
      ...node("b", { 'fanway_connections_rejected_total{reason="limit"}': "0+60x20" }),
    ],
    time: "12m",
    fires: { reason: "limit" },
    says: "fanway refuses 2 connections per second (reason: limit).",
  },
  {
    alert: "FanwayConnectionsRejected",
    what: "refusals that have nothing to do with capacity, and few that have",
    series: node("a", {
      'fanway_connections_rejected_total{reason="origin"}': "0+600x20",
      'fanway_connections_rejected_total{reason="rate"}': "0+50x20",
    }),
    time: "20m",
  },
  {
    alert: "FanwayClientsLimited",
    what: "six publications a second beyond the rate, on two nodes",
    series: [
      ...node("a", { 'fanway_limited_total{limit="user_publishes"}': "0+180x30" }),
      ...node("b", { 'fanway_limited_total{limit="user_publishes"}': "0+180x30" }),
    ],
    time: "25m",
    fires: { limit: "user_publishes" },
    says: "fanway refuses or delays 6 actions of clients per second (limit: user_publishes).",
  },
  {
    alert: "FanwayClientsLimited",
    what: "a burst, and what concerns nodes",
    series: node("a", {
      'fanway_limited_total{limit="user_polls"}': "0 600 1200 1800 1800x30",
      'fanway_limited_total{limit="node_channels"}': "0+600x30",
    }),
    time: "25m",
  },
  {
    alert: "FanwayNodeOverLimit",
    what: "one channel too many every second",
    series: node("a", { 'fanway_limited_total{limit="node_channels"}': "0+60x20" }),
    time: "12m",
    fires: { ...at("a"), limit: "node_channels" },
    says: "fanway-a refuses or closes 1 times per second (limit: node_channels).",
  },
  {
    alert: "FanwayNodeOverLimit",
    what: "one client in five minutes",
    series: node("a", { 'fanway_limited_total{limit="unfinished_messages"}': "0x4 1x4 2x20" }),
    time: "20m",
  },
  {
    alert: "FanwayAcceptErrors",
    what: "one every two seconds",
    series: node("a", { 'fanway_accept_errors_total{listener="public"}': "0+30x20" }),
    time: "10m",
    fires: at("a"),
    says: "fanway-a failed 60 times within two minutes to accept a connection, mostly because it may open no more files.",
  },
  {
    alert: "FanwayAcceptErrors",
    what: "a few, such as clients that are gone before they are accepted",
    series: node("a", { 'fanway_accept_errors_total{listener="public"}': "0+5x20" }),
    time: "20m",
  },
  {
    alert: "FanwayAcceptErrors",
    what: "those of an hour ago",
    series: node("a", { 'fanway_accept_errors_total{listener="public"}': "120x20" }),
    time: "20m",
  },
  {
    alert: "FanwayOpenFilesNearLimit",
    what: "90 % of the files",
    series: node("a", { [BUILD]: "1x10", process_open_fds: "18000x10", process_max_fds: "20000x10" }),
    time: "6m",
    fires: at("a"),
    says: "fanway-a has 90% of the files open that it may open. Beyond that it cannot accept connections.",
  },
  {
    alert: "FanwayOpenFilesNearLimit",
    what: "another program's files, and a node at 80 %",
    series: [
      ...node("a", { [BUILD]: "1x10", process_open_fds: "16000x10", process_max_fds: "20000x10" }),
      { series: 'process_open_fds{job="other",instance="o"}', values: "99x10" },
      { series: 'process_max_fds{job="other",instance="o"}', values: "100x10" },
    ],
    time: "10m",
  },
  {
    alert: "FanwayMemoryNearLimit",
    what: "475 of 500 MiB, beside a sidecar that may use far more; another node is half full",
    series: [...memory("a", 475, 500), ...memory("a", 10, 5000, "sidecar"), ...memory("b", 250, 500)],
    time: "6m",
    fires: { job: undefined, pod: "fanway-a" },
    says: "fanway-a uses 95% of its memory limit. Beyond it the kernel kills the node.",
  },
  {
    alert: "FanwayMemoryNearLimit",
    what: "a sidecar at its limit, and a node at 90 % exactly",
    series: [...memory("a", 450, 500), ...memory("a", 600, 600, "sidecar")],
    time: "10m",
  },
  {
    alert: "FanwayNodesUnavailable",
    what: "two of three for a quarter of an hour",
    series: deployment("2x20", "3x20"),
    time: "16m",
    fires: { job: "kube-state-metrics", deployment: "fanway" },
    says: "fanway has had only 2 ready nodes for 15 minutes, which is fewer than it should have.",
  },
  {
    alert: "FanwayNodesUnavailable",
    what: "one of three for ten minutes, and another program without nodes",
    series: [...deployment("3x5 2x10 3x10", "3x25"), ...deployment("0x25", "1x25", "other")],
    time: "15m",
  },
  {
    alert: "FanwayNodesUnavailable",
    what: "one more than it should have, during a long rollout",
    series: deployment("4x40", "3x40"),
    time: "40m",
  },
  {
    alert: "FanwayNoNodes",
    what: "none of three",
    series: deployment("3x5 0x20", "3x25"),
    time: "9m",
    fires: { job: "kube-state-metrics", deployment: "fanway" },
    says: "No node of fanway is ready. Its clients have nowhere to go.",
  },
  {
    alert: "FanwayNoNodes",
    what: "still none after half a day, when Prometheus has forgotten the nodes",
    series: deployment("3x5 0x800", "3x805"),
    time: "12h",
    fires: { job: "kube-state-metrics", deployment: "fanway" },
    says: "No node of fanway is ready. Its clients have nowhere to go.",
  },
  {
    alert: "FanwayNoNodes",
    what: "a fleet that is meant to have none, one that has a node, and one that is replaced",
    series: [...deployment("0x20", "0x20"), ...deployment("1x20", "3x20", "fanway-b"), ...deployment("1x15 0x2 1x5", "1x22", "fanway-c")],
    time: "17m",
  },
  {
    alert: "FanwayAutoscalerAtMaximum",
    what: "ten of ten",
    series: [hpa("status_current_replicas", "", "10x20"), hpa("spec_max_replicas", "", "10x20")],
    time: "16m",
    fires: { job: "kube-state-metrics", horizontalpodautoscaler: "fanway" },
    says: "fanway has been at its maximum of 10 nodes.",
  },
  {
    alert: "FanwayAutoscalerAtMaximum",
    what: "nine of ten",
    series: [hpa("status_current_replicas", "", "9x20"), hpa("spec_max_replicas", "", "10x20")],
    time: "20m",
  },
  {
    alert: "FanwayAutoscalerBlind",
    what: "scaling is not active",
    series: [hpa("status_condition", ',condition="ScalingActive",status="false"', "1x20")],
    time: "11m",
    fires: { job: "kube-state-metrics", horizontalpodautoscaler: "fanway", condition: "ScalingActive", status: "false" },
    says: "fanway keeps the number of nodes as it is, because it cannot read the number of connections.",
  },
  {
    alert: "FanwayAutoscalerBlind",
    what: "scaling is active, and another condition is false",
    series: [
      hpa("status_condition", ',condition="ScalingActive",status="false"', "0x20"),
      hpa("status_condition", ',condition="ScalingLimited",status="false"', "1x20"),
    ],
    time: "20m",
  },
  {
    alert: "FanwayKedaErrors",
    what: "a look every 15 s that fails",
    series: [keda("fanway", "0+4x20")],
    time: "16m",
    fires: { namespace: undefined, job: undefined, scaledObject: "fanway" },
    says: "KEDA cannot read what fanway scales on, so that the fleet does not follow its connections.",
  },
  {
    alert: "FanwayKedaErrors",
    what: "five minutes without Prometheus, and the trouble of others",
    series: [keda("fanway", "0x5 4 8 12 16 20x20"), keda("other", "0+4x30")],
    time: "14m",
  },
  {
    alert: "FanwayConnectionCliff",
    what: "half of one node's clients of two do not come back",
    series: [
      ...node("a", { up: "1x30", [CONNECTIONS]: "4000x14 2000x15" }),
      ...node("b", { up: "1x30", [CONNECTIONS]: "4000x30" }),
    ],
    time: "18m",
    fires: {},
    says: "fanway has lost 25% of the connections it had in the last ten minutes.",
  },
  {
    alert: "FanwayConnectionCliff",
    what: "a node is drained and its clients come back on the other",
    series: [
      ...node("a", { up: "1x16 stale", [CONNECTIONS]: "4000x10 2000 1000 0x3 stale", fanway_draining: "0x10 1x5 stale" }),
      ...node("b", { up: "1x30", [CONNECTIONS]: "4000x10 6000 7000 8000x17", fanway_draining: "0x30" }),
    ],
    time: "18m",
  },
  {
    alert: "FanwayConnectionCliff",
    what: "a node cannot be scraped, so that nobody knows how many it has",
    series: [
      ...node("a", { up: "1x14 0x15", [CONNECTIONS]: "4000x14 stale" }),
      ...node("b", { up: "1x30", [CONNECTIONS]: "4000x30" }),
    ],
    time: "18m",
  },
  {
    alert: "FanwayConnectionCliff",
    what: "a small fleet",
    series: node("a", { up: "1x30", [CONNECTIONS]: "900x14 100x15" }),
    time: "18m",
  },
  {
    alert: "FanwayUnexpectedCloses",
    what: "6,000 connections, of which 120 a minute are closed for want of a pong",
    series: node("a", {
      [CONNECTIONS]: "6000x30",
      'fanway_connections_closed_total{transport="websocket",reason="no_pong"}': "0+120x30",
      'fanway_connections_closed_total{transport="websocket",reason="client"}': "0+6000x30",
    }),
    time: "20m",
    fires: { reason: "no_pong" },
    says: "fanway closes 2 connections per second (reason: no_pong).",
  },
  {
    alert: "FanwayUnexpectedCloses",
    what: "a drain, clients that leave, and a handful of slow ones",
    series: node("a", {
      [CONNECTIONS]: "6000x30",
      'fanway_connections_closed_total{transport="websocket",reason="shutdown"}': "0+3000x30",
      'fanway_connections_closed_total{transport="websocket",reason="max_age"}': "0+300x30",
      'fanway_connections_closed_total{transport="websocket",reason="rebalanced"}': "0+3000x30",
      'fanway_connections_closed_total{transport="websocket",reason="client"}': "0+3000x30",
      'fanway_connections_closed_total{transport="websocket",reason="slow"}': "0+60x30",
    }),
    time: "30m",
  },
  {
    alert: "FanwayAuthFailures",
    what: "five a second where four a second connect",
    series: node("a", {
      'fanway_auth_failures_total{reason="expired"}': "0+300x30",
      'fanway_connections_opened_total{transport="websocket"}': "0+240x30",
    }),
    time: "20m",
    fires: { reason: "expired" },
    says: "fanway refuses 5 tokens per second (reason: expired).",
  },
  {
    alert: "FanwayAuthFailures",
    what: "five a second where forty a second connect",
    series: node("a", {
      'fanway_auth_failures_total{reason="expired"}': "0+300x30",
      'fanway_connections_opened_total{transport="websocket"}': "0+2400x30",
    }),
    time: "30m",
  },
  {
    alert: "FanwayDrainTooLong",
    what: "for sixteen minutes",
    series: node("a", { fanway_draining: "1x20" }),
    time: "16m",
    fires: at("a"),
    says: "fanway-a has been giving its connections away for more than 15 minutes and has not stopped.",
  },
  {
    alert: "FanwayDrainTooLong",
    what: "two drains of ten minutes",
    series: node("a", { fanway_draining: "1x10 0 1x10" }),
    time: "20m",
  },
  {
    alert: "FanwaySheddingInVain",
    what: "for half an hour, most of it at rest",
    series: node("a", { fanway_shedding: "1x4 0x30", 'fanway_shedding_held{reason="resting"}': "0x5 1x30" }),
    time: "31m",
    fires: at("a"),
    says: "fanway-a has been trying for more than 30 minutes to come down to the average of the fleet.",
  },
  {
    alert: "FanwaySheddingInVain",
    what: "for a quarter of an hour, twice; held for another reason meanwhile",
    series: node("a", { fanway_shedding: "1x15 0x3 1x20", 'fanway_shedding_held{reason="draining"}': "0x15 1x3 0x20" }),
    time: "40m",
  },
  {
    alert: "FanwayNodeRestarting",
    what: "three starts",
    series: node("a", { [BUILD]: "1x60", process_start_time_seconds: "100x10 200x10 300x10 400x10" }),
    time: "40m",
    fires: at("a"),
    says: "fanway-a was started 3 times within an hour.",
  },
  {
    alert: "FanwayNodeRestarting",
    what: "a rollout restarts it once, and another program starts often",
    series: [
      ...node("a", { [BUILD]: "1x60", process_start_time_seconds: "100x10 200x50" }),
      { series: 'process_start_time_seconds{job="other",instance="o"}', values: "0+100x60" },
    ],
    time: "40m",
  },
  {
    alert: "FanwayDeliverySlow",
    what: "all between 0.1 and 0.5 seconds",
    series: node("a", histogram("fanway_delivery_latency_seconds", 'transport="sse",', "0.1", "0.5")),
    time: "20m",
    fires: {},
    says: "In fanway, one delivery of a hundred takes longer than 496ms from arriving at the node to the socket.",
  },
  {
    alert: "FanwayDeliverySlow",
    what: "all below 0.1 seconds",
    series: node("a", histogram("fanway_delivery_latency_seconds", 'transport="sse",', "0.05", "0.1")),
    time: "30m",
  },
  {
    alert: "FanwaySlowConsumers",
    what: "two a second of 6,000",
    series: node("a", {
      [CONNECTIONS]: "6000x30",
      'fanway_slow_consumers_total{action="closed"}': "0+60x30",
      'fanway_slow_consumers_total{action="gap"}': "0+60x30",
    }),
    time: "20m",
    fires: {},
    says: "In fanway, 2 clients per second are too slow, and are closed or told of a gap.",
  },
  {
    alert: "FanwaySlowConsumers",
    what: "many catch up from the log without loss, few are closed",
    series: node("a", {
      [CONNECTIONS]: "6000x30",
      'fanway_slow_consumers_total{action="catch_up"}': "0+6000x30",
      'fanway_slow_consumers_total{action="closed"}': "0+30x30",
    }),
    time: "30m",
  },
  {
    alert: "FanwayInboxOverflow",
    what: "one node drops two a second, another none",
    series: [
      ...node("a", { fanway_inbox_dropped_total: "0+120x20" }),
      ...node("b", { fanway_inbox_dropped_total: "5x20" }),
    ],
    time: "15m",
    fires: at("a"),
    says: "fanway-a drops 2 publications per second and reads them again from the log, if there is one.",
  },
  {
    alert: "FanwayInboxOverflow",
    what: "one burst",
    series: node("a", { fanway_inbox_dropped_total: "0x5 30000x20" }),
    time: "20m",
  },
  {
    alert: "FanwayPagesDropped",
    what: "ten a second on two nodes",
    series: [
      ...node("a", { fanway_pages_dropped_total: "0+360x30" }),
      ...node("b", { fanway_pages_dropped_total: "0+240x30" }),
    ],
    time: "25m",
    fires: {},
    says: "In fanway, 10 pages of missed publications per second are dropped, because a client took nothing for a second.",
  },
  {
    alert: "FanwayPagesDropped",
    what: "a few phones in tunnels",
    series: node("a", { fanway_pages_dropped_total: "0+60x30" }),
    time: "30m",
  },
  {
    alert: "FanwayGaps",
    what: "one a second, since history is too short",
    series: node("a", { 'fanway_gaps_total{reason="retention"}': "0+60x30" }),
    time: "20m",
    fires: { reason: "retention" },
    says: "fanway announces 1 gaps per second to subscribers (reason: retention).",
  },
  {
    alert: "FanwayGaps",
    what: "one outage of Redis, and slow clients, which have an alert of their own",
    series: node("a", {
      'fanway_gaps_total{reason="interrupted"}': "0x10 500x20",
      'fanway_gaps_total{reason="slow"}': "0+60x30",
    }),
    time: "20m",
  },
  {
    alert: "FanwayResumesFail",
    what: "half of four a second",
    series: node("a", {
      'fanway_recoveries_total{outcome="recovered"}': "0+120x40",
      'fanway_recoveries_total{outcome="retention"}': "0+120x40",
    }),
    time: "30m",
    fires: {},
    says: "In fanway, 50% of the clients that come back have missed more than history keeps.",
  },
  {
    alert: "FanwayResumesFail",
    what: "one of ten",
    series: node("a", {
      'fanway_recoveries_total{outcome="recovered"}': "0+540x40",
      'fanway_recoveries_total{outcome="retention"}': "0+60x40",
    }),
    time: "40m",
  },
  {
    alert: "FanwayResumesFail",
    what: "all, but they are few",
    series: node("a", { 'fanway_recoveries_total{outcome="retention"}': "0+30x40" }),
    time: "40m",
  },
  {
    alert: "FanwayPublishErrors",
    what: "one of four cannot be published",
    series: node("a", {
      'fanway_api_requests_total{endpoint="publish",outcome="ok"}': "0+90x20",
      'fanway_api_requests_total{endpoint="publish",outcome="broker_unavailable"}': "0+30x20",
    }),
    time: "12m",
    fires: {},
    says: "fanway answers 25% of the requests of the server API with 503.",
  },
  {
    alert: "FanwayPublishErrors",
    what: "Redis refuses one of four",
    series: node("a", {
      'fanway_api_requests_total{endpoint="publish",outcome="ok"}': "0+90x20",
      'fanway_api_requests_total{endpoint="publish",outcome="broker_full"}': "0+20x20",
      'fanway_api_requests_total{endpoint="publish",outcome="broker_refused"}': "0+10x20",
    }),
    time: "12m",
    fires: {},
    says: "fanway answers 25% of the requests of the server API with 503.",
  },
  {
    alert: "FanwayPublishErrors",
    what: "the back end's own mistakes",
    series: node("a", {
      'fanway_api_requests_total{endpoint="publish",outcome="ok"}': "0+90x20",
      'fanway_api_requests_total{endpoint="publish",outcome="unknown_channel"}': "0+900x20",
      'fanway_api_requests_total{endpoint="publish",outcome="broker_unavailable"}': "0x20",
    }),
    time: "20m",
  },
  {
    alert: "FanwayPublishSlow",
    what: "publishes between 0.1 and 0.5 seconds",
    series: node("a", histogram("fanway_api_request_seconds", 'endpoint="publish",', "0.1", "0.5")),
    time: "20m",
    fires: { endpoint: "publish" },
    says: "In fanway, one publish of a hundred takes longer than 496ms.",
  },
  {
    alert: "FanwayPublishSlow",
    what: "quick publishes, and reads of history that take long",
    series: [
      ...node("a", histogram("fanway_api_request_seconds", 'endpoint="publish",', "0.05", "0.1")),
      ...node("a", histogram("fanway_api_request_seconds", 'endpoint="history",', "0.5", "2")),
    ],
    time: "30m",
  },
  {
    alert: "FanwayBrokerDown",
    what: "one node of two",
    series: [...node("a", { fanway_broker_up: "1x5 0x10" }), ...node("b", { fanway_broker_up: "1x15" })],
    time: "8m",
    fires: at("a"),
    says: "fanway-a gets no answers from Redis. Its clients stay connected and receive nothing; publishes are answered with 503.",
  },
  {
    alert: "FanwayBrokerDown",
    what: "a blink",
    series: node("a", { fanway_broker_up: "1x5 0 1x10" }),
    time: "7m",
  },
  {
    alert: "FanwayPublishesRefused",
    what: "a full Redis, as two nodes see it",
    series: ["a", "b"].flatMap((name) => node(name, causes({ full: "0x5 1x10", read_only: "0x15" }))),
    time: "8m",
    fires: { cause: "full" },
    says: "Redis refuses publications of fanway (full). Clients stay connected and resume; publishes are answered with 503.",
  },
  {
    alert: "FanwayPublishesRefused",
    what: "a failover, and nothing refused",
    series: node("a", causes({ full: "0x15", read_only: "0x5 1 0x10" })),
    time: "10m",
  },
  {
    alert: "FanwayNodeDeaf",
    what: "no echo for a minute and a half, while Redis answers",
    series: node("a", { fanway_broker_echo_age_seconds: "1x5 30 90x10", fanway_broker_up: "1x20" }),
    time: "8m",
    fires: at("a"),
    says: "Redis answers fanway-a, but the last probe came back through pub/sub 1m 30s ago.",
  },
  {
    alert: "FanwayNodeDeaf",
    what: "Redis is down, which FanwayBrokerDown tells",
    series: node("a", { fanway_broker_echo_age_seconds: "1x5 90x10", fanway_broker_up: "1x5 0x10" }),
    time: "10m",
  },
  {
    alert: "FanwayNodeDeaf",
    what: "a node that has never heard anything, and one that hears",
    series: [
      ...node("a", { fanway_broker_echo_age_seconds: "-1x10", fanway_broker_up: "1x10" }),
      ...node("b", { fanway_broker_echo_age_seconds: "2x10", fanway_broker_up: "1x10" }),
    ],
    time: "5m",
    fires: at("a"),
    says: "Redis answers fanway-a, but no probe has ever come back through pub/sub.",
  },
  {
    alert: "FanwayNodeDeaf",
    what: "nodes that have just started or never had a Redis, and one that hears",
    series: [
      ...node("a", { fanway_broker_echo_age_seconds: "_x9 -1 1x5", fanway_broker_up: "_x9 1x6" }),
      ...node("b", { fanway_broker_echo_age_seconds: "-1x15", fanway_broker_up: "0x15" }),
      ...node("c", { fanway_broker_echo_age_seconds: "2x15", fanway_broker_up: "1x15" }),
    ],
    time: "10m",
  },
  {
    alert: "FanwayPublicationsLost",
    what: "an old snapshot",
    series: node("a", { fanway_losses_recorded_total: "0x5 12x20" }),
    time: "8m",
    fires: {},
    says: "Redis has lost publications of fanway that it had acknowledged. Clients that resume from before the loss are sent a gap.",
  },
  {
    alert: "FanwayPublicationsLost",
    what: "nothing new",
    series: node("a", { fanway_losses_recorded_total: "12x30" }),
    time: "20m",
  },
  {
    alert: "FanwayLossesUnrecorded",
    what: "a server that refuses writes",
    series: node("a", { 'fanway_losses_unrecorded_total{reason="full"}': "0+2x30" }),
    time: "20m",
    fires: { reason: "full" },
    says: "Nodes of fanway cannot record in Redis that publications were lost (full). Clients that resume from before the loss are not told of it meanwhile.",
  },
  {
    alert: "FanwayLossesUnrecorded",
    what: "one failed attempt",
    series: node("a", { 'fanway_losses_unrecorded_total{reason="unavailable"}': "0x5 1x30" }),
    time: "15m",
  },
  {
    alert: "FanwayNodeSplit",
    what: "found split every half minute",
    series: node("a", { fanway_broker_split_total: "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20" }),
    time: "9m",
    fires: at("a"),
    says: "The connections of fanway-a keep ending at different servers that both say they are the primary.",
  },
  {
    alert: "FanwayNodeSplit",
    what: "a failover, noticed by one connection after the other",
    series: node("a", { fanway_broker_split_total: "0x5 1x20" }),
    time: "8m",
  },
  {
    alert: "FanwayBrokerInterruptions",
    what: "one every five minutes",
    series: node("a", { fanway_broker_interruptions_total: "0x4 1x4 2x4 3x4 4x4 5x4 6x4 7x4" }),
    time: "35m",
    fires: at("a"),
    says: "fanway-a lost what it hears from Redis 6 times within 30 minutes.",
  },
  {
    alert: "FanwayBrokerInterruptions",
    what: "a failover",
    series: node("a", { fanway_broker_interruptions_total: "0x4 2x36" }),
    time: "20m",
  },
  {
    alert: "FanwayBrokerSlow",
    what: "publishes between 0.1 and 0.5 seconds",
    series: node("a", histogram("fanway_broker_call_seconds", 'operation="publish",', "0.1", "0.5")),
    time: "20m",
    fires: { operation: "publish" },
    says: "In fanway, one publish of a hundred waits longer than 496ms for Redis.",
  },
  {
    alert: "FanwayBrokerSlow",
    what: "publishes between 10 and 25 milliseconds",
    series: node("a", histogram("fanway_broker_call_seconds", 'operation="publish",', "0.01", "0.025")),
    time: "30m",
  },
  {
    alert: "FanwayPublicationsUnreadable",
    what: "one a minute",
    series: node("a", { fanway_broker_unreadable_total: "0+1x30" }),
    time: "20m",
    fires: at("a"),
    says: "fanway-a could not read 15 publications of the last 15 minutes and treated them as missed.",
  },
  {
    alert: "FanwayPublicationsUnreadable",
    what: "an hour ago",
    series: node("a", { fanway_broker_unreadable_total: "12x30" }),
    time: "30m",
  },
  {
    alert: "FanwayPublicationsUnannounced",
    what: "one a minute on each of two nodes",
    series: [...node("a", { fanway_broker_unannounced_total: "0+1x30" }), ...node("b", { fanway_broker_unannounced_total: "0+1x30" })],
    time: "20m",
    fires: {},
    says: "30 publications of fanway were kept in the last 15 minutes, but Redis refused to announce them. Subscribers find them late.",
  },
  {
    alert: "FanwayPublicationsUnannounced",
    what: "none",
    series: node("a", { fanway_broker_unannounced_total: "0x30" }),
    time: "30m",
  },
  {
    alert: "FanwayFleetSplit",
    what: "three nodes, of which one hears nobody",
    series: [
      ...["a", "b"].flatMap((name) => node(name, { [BUILD]: "1x20", fanway_fleet_nodes: "2x20", fanway_broker_up: "1x20" })),
      ...node("c", { [BUILD]: "1x20", fanway_fleet_nodes: "1x20", fanway_broker_up: "1x20" }),
    ],
    time: "11m",
    fires: {},
    says: "A node of fanway hears of only 1 nodes, itself included. What is published on one side may not reach the other.",
  },
  {
    alert: "FanwayFleetSplit",
    what: "two of a larger fleet, and a new one that needs some minutes to be heard of",
    series: [
      ...["a", "b"].flatMap((name) => node(name, { [BUILD]: "1x20", fanway_fleet_nodes: "3x20", fanway_broker_up: "1x20" })),
      ...node("c", { [BUILD]: "_x10 1x10", fanway_fleet_nodes: "_x10 1x5 3x5", fanway_broker_up: "_x10 1x10" }),
    ],
    time: "20m",
  },
  {
    alert: "FanwayFleetSplit",
    what: "an outage of Redis, in which every node hears of itself alone",
    series: ["a", "b"].flatMap((name) => node(name, { [BUILD]: "1x30", fanway_fleet_nodes: "2x5 1x25", fanway_broker_up: "1x5 0x25" })),
    time: "25m",
  },
  {
    alert: "FanwayTargetDown",
    what: "a node that was scraped before, and one that never was",
    series: [
      ...node("a", { up: "1x10 0x10", [BUILD]: "1x10 stale" }),
      ...node("b", { up: "1x20", [BUILD]: "1x20" }),
    ],
    time: "15m",
    fires: at("a"),
    says: "Prometheus cannot reach fanway-a of fanway. The node may be gone, or only its metrics.",
  },
  {
    alert: "FanwayTargetDown",
    what: "a pod was deleted, another one starts for two minutes, and another job has a target down",
    series: [
      ...node("a", { up: "1x10 stale", [BUILD]: "1x10 stale" }),
      ...node("b", { up: "_x10 0x2 1x10", [BUILD]: "_x13 1x10" }),
      { series: 'up{job="other",instance="o"}', values: "0x20" },
    ],
    time: "14m",
  },
  {
    alert: "FanwayAbsent",
    what: "all nodes are gone",
    series: [...node("a", { [BUILD]: "1x10 stale" }), ...node("b", { [BUILD]: "1x12 stale" })],
    time: "20m",
    fires: {},
    says: "Prometheus has no figures of any node of fanway. All other alerts about it are blind.",
  },
  {
    alert: "FanwayAbsent",
    what: "one of two is gone",
    series: [...node("a", { [BUILD]: "1x10 stale" }), ...node("b", { [BUILD]: "1x30" })],
    time: "30m",
  },
  {
    alert: "FanwayVersionsMixed",
    what: "a rollout that stopped half way",
    series: [...node("a", { [BUILD]: "1x90" }), ...node("b", { 'fanway_build_info{version="1.1.0"}': "1x90" })],
    time: "70m",
    fires: {},
    says: "fanway has run 2 versions for an hour. A rollout may be stuck.",
  },
  {
    alert: "FanwayVersionsMixed",
    what: "a rollout of half an hour",
    series: [
      ...node("a", { [BUILD]: "1x40 stale" }),
      ...node("b", { [BUILD]: "1x10 stale" }),
      ...node("c", { 'fanway_build_info{version="1.1.0"}': "_x10 1x80" }),
    ],
    time: "80m",
  },
];
