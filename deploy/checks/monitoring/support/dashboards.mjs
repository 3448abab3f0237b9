// The generated dashboards, and their queries as Prometheus gets them.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { DASHBOARDS } from "./tools.mjs";

/** All dashboards. */
export const load = () =>
  readdirSync(DASHBOARDS).filter((name) => name.endsWith(".json")).map((name) => JSON.parse(readFileSync(join(DASHBOARDS, name), "utf8")));

/** All panels of a dashboard, those in collapsed rows included, each with its row's title. */
export function panels(dashboard) {
  let row = "";
  return dashboard.panels.flatMap((panel) => {
    if (panel.type !== "row") return [{ ...panel, row }];
    row = panel.title;
    return panel.panels.map((inner) => ({ ...inner, row }));
  });
}

/** A query with the dashboard's variables filled in, as if everything were selected. `range` stands for $__rate_interval. */
export const substitute = (expr, { quantile = "0.99", range = "10s", interval = "5s" } = {}) =>
  expr
    .replaceAll("$__rate_interval", range)
    .replaceAll("$__interval", interval)
    .replaceAll("$quantile", quantile)
    .replace(/\$(namespace|job|instance|transport)\b/g, ".*");
