#!/usr/bin/env node
// Writes the dashboards as Grafana reads them. `--check` only tells whether they are up to date.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { dashboard } from "./dashboard/fanway.mjs";

const path = fileURLToPath(new URL("../../helm/fanway/files/dashboards/fanway.json", import.meta.url));
const text = JSON.stringify(dashboard, null, 2) + "\n";
const current = existsSync(path) ? readFileSync(path, "utf8") : "";

if (process.argv.includes("--check")) {
  if (current !== text) {
    console.error("helm/fanway/files/dashboards/fanway.json is not what deploy/grafana/build.mjs makes; run it");
    process.exit(1);
  }
} else {
  writeFileSync(path, text);
}
