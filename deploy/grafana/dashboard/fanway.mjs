// The dashboard: what a fleet does, from the outside in.
import { labelled, layout, marks, of, runbooks } from "./parts.mjs";
import { api } from "./rows/api.mjs";
import { balance } from "./rows/balance.mjs";
import { delivery } from "./rows/delivery.mjs";
import { lifecycle } from "./rows/lifecycle.mjs";
import { overview } from "./rows/overview.mjs";
import { redis } from "./rows/redis.mjs";
import { resources } from "./rows/resources.mjs";

const BUILD = "fanway_build_info";

const variables = [
  { type: "datasource", name: "datasource", label: "data source", query: "prometheus", includeAll: false, multi: false, refresh: 1, regex: "", options: [], current: {}, hide: 0, skipUrlSync: false },
  // Without Kubernetes there is no such label; then everything is selected.
  labelled("namespace", "namespace", BUILD, { allValue: ".*" }),
  // No allValue here: "All" has to mean the jobs of Fanway, because metrics of processes are everybody's.
  labelled("job", "job", `${BUILD}{namespace=~"$namespace"}`),
  labelled("instance", "instance", `${BUILD}{namespace=~"$namespace", job=~"$job"}`, { label: "node", allValue: ".*" }),
  labelled("transport", "transport", `fanway_connections{namespace=~"$namespace", job=~"$job"}`, { allValue: ".*" }),
  {
    type: "custom",
    name: "quantile",
    label: "quantile",
    query: "0.5,0.9,0.95,0.99,0.999",
    includeAll: false,
    multi: false,
    current: { selected: true, text: "0.99", value: "0.99" },
    options: ["0.5", "0.9", "0.95", "0.99", "0.999"].map((value) => ({ text: value, value, selected: value === "0.99" })),
    hide: 0,
    skipUrlSync: false,
  },
];

// Over two minutes, so that there are several samples whatever the step and the scrape's interval.
const annotations = [
  marks("Node started", "green", `${of("process_start_time_seconds")} * 1000`, { title: "{{instance}} started", atValue: true }),
  marks("Node draining", "orange", `${of("fanway_draining")} == 1`, { title: "{{instance}} draining" }),
  marks("Deployment changed", "blue", 'changes(kube_deployment_status_observed_generation{namespace=~"$namespace", deployment=~".*fanway.*"}[2m]) > 0', { title: "{{deployment}} changed" }),
  marks("Fleet resized", "purple", 'changes(kube_horizontalpodautoscaler_status_desired_replicas{namespace=~"$namespace", horizontalpodautoscaler=~".*fanway.*"}[2m]) > 0', { title: "{{horizontalpodautoscaler}} resized" }),
];

/** The file's content. */
export const dashboard = {
  uid: "fanway",
  title: "Fanway",
  description: "A fleet of push gateways: its connections, what it delivers, and what it lives on.",
  tags: ["fanway"],
  schemaVersion: 39,
  version: 1,
  editable: false,
  graphTooltip: 1,
  timezone: "browser",
  time: { from: "now-1h", to: "now" },
  refresh: "30s",
  fiscalYearStartMonth: 0,
  liveNow: false,
  weekStart: "",
  links: [runbooks],
  templating: { list: variables },
  annotations: { list: annotations },
  panels: layout([overview, balance, lifecycle, delivery, api, redis, resources]),
};
