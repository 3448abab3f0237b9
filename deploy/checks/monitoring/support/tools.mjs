// Debian's Prometheus and promtool, and where things lie.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { parse } from "yaml";

/** The top of the repository. */
export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../../../..");
/** The rule groups. */
export const ALERTS = join(ROOT, "helm/fanway/files/alerts.yaml");
/** The generated dashboards. */
export const DASHBOARDS = join(ROOT, "helm/fanway/files/dashboards");
/** What `make setup` installs. */
export const PROMETHEUS = process.env.PROMETHEUS ?? "prometheus";
const PROMTOOL = process.env.PROMTOOL ?? "promtool";

export const read = (path) => readFileSync(join(ROOT, path), "utf8");
export const readYaml = (path) => parse(read(path));

/** Runs promtool; its arguments may name files by content: `{ rules: "text" }`. Throws with what it printed. */
export function promtool(args, files = {}) {
  const folder = mkdtempSync(join(tmpdir(), "fanway-promtool-"));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const options = { cwd: folder, encoding: "utf8", timeout: 120_000, maxBuffer: 64 << 20 };
    const run = spawnSync(PROMTOOL, args, options);
    if (run.error) throw new Error(`${PROMTOOL}: ${run.error.message}; \`make setup\` installs it`);
    if (run.status !== 0) throw new Error(`promtool ${args.join(" ")}:\n${run.stdout}${run.stderr}`);
    return run.stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** All alerts of the rule file, with their group. */
export function alerts() {
  return parse(readFileSync(ALERTS, "utf8")).groups.flatMap((group) => group.rules.map((rule) => ({ ...rule, group: group.name })));
}
