// The dashboards as files: made by their source, laid out without overlaps, explained, and asking only for what exists.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { load, panels, substitute } from "./support/dashboards.mjs";
import { existing, unknownMetrics } from "./support/metrics.mjs";
import { alerts, DASHBOARDS, promtool, readYaml, ROOT } from "./support/tools.mjs";

const all = load();

test("the files are what their source makes", () => {
  const run = spawnSync(process.execPath, [join(ROOT, "deploy/grafana/build.mjs"), "--check"], { encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
});

test("Grafana can provision them", () => {
  const [provider] = readYaml("deploy/grafana/provisioning/dashboards/fanway.yml").providers;
  assert.equal(provider.type, "file");
  const [source] = readYaml("deploy/grafana/provisioning/datasources/prometheus.yml").datasources;
  assert.equal(source.type, "prometheus");
  const prometheus = readYaml("deploy/prometheus/prometheus.yml");
  assert.equal(source.jsonData.timeInterval, prometheus.global.scrape_interval, "Grafana must know how often is scraped");
  assert.ok(existsSync(DASHBOARDS));
});

for (const dashboard of all) {
  const list = panels(dashboard);

  test(`${dashboard.uid}: stable, not editable, without inputs`, () => {
    assert.match(dashboard.uid, /^fanway[a-z-]*$/);
    assert.equal(dashboard.editable, false);
    assert.equal(dashboard.schemaVersion, 39);
    assert.ok(!("__inputs" in dashboard) && !("id" in dashboard));
    const names = dashboard.templating.list.map((variable) => variable.name);
    assert.deepEqual(names, ["datasource", "namespace", "job", "instance", "transport", "quantile"]);
    assert.equal(dashboard.annotations.list.length, 4);
    assert.ok(dashboard.links.some((link) => link.url.endsWith("runbooks.md")));
  });

  test(`${dashboard.uid}: only the first row is open`, () => {
    const rows = dashboard.panels.filter((panel) => panel.type === "row");
    assert.deepEqual(rows.map((row) => row.collapsed), rows.map((_, at) => at > 0));
    assert.ok(rows.slice(1).every((row) => row.panels.length > 0));
  });

  test(`${dashboard.uid}: every panel has an own number and title, a place, a description, a unit and the variable data source`, () => {
    const ids = dashboard.panels.flatMap((panel) => [panel.id, ...(panel.panels ?? []).map((inner) => inner.id)]);
    assert.deepEqual(ids, [...new Set(ids)]);
    for (const panel of list) {
      assert.ok(panel.description.endsWith("."), panel.title);
      const unit = panel.type === "heatmap" ? panel.options.yAxis.unit : panel.fieldConfig.defaults.unit;
      assert.ok(unit, `${panel.title} has no unit`);
      assert.equal(panel.datasource.uid, "${datasource}", panel.title);
      assert.ok(panel.targets.length > 0, panel.title);
      for (const target of panel.targets) assert.equal(target.datasource.uid, "${datasource}", panel.title);
    }
    for (const row of [dashboard.panels.filter((panel) => panel.type !== "row"), ...dashboard.panels.map((panel) => panel.panels ?? [])]) {
      const titles = row.map((panel) => panel.title);
      assert.deepEqual(titles, [...new Set(titles)]);
      const cells = row.flatMap(({ gridPos: { x, y, w, h } }) =>
        Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`),
      );
      assert.deepEqual(cells.length, new Set(cells).size, "panels overlap");
      assert.ok(row.every(({ gridPos: { x, w } }) => x + w <= 24), "a panel is wider than the dashboard");
    }
  });

  test(`${dashboard.uid}: every query is limited to what is selected, and no range is fixed`, () => {
    for (const { title, targets } of list) {
      for (const { expr } of targets) {
        assert.ok(/namespace=~"\$namespace"/.test(expr) || /^max by \(alertname/.test(expr), `${title}: ${expr}`);
        for (const [, range] of expr.matchAll(/\[([^\]]*)\]/g)) assert.match(range, /^\$__(rate_)?interval$/, `${title}: ${expr}`);
        if (/histogram_quantile/.test(expr)) assert.match(expr, /by \([^)]*\ble\)/, title);
      }
    }
  });

  test(`${dashboard.uid}: the metrics exist`, () => {
    for (const { title, targets } of list) {
      for (const { expr } of targets) assert.deepEqual(unknownMetrics(expr), [], title);
    }
    for (const { name, expr } of dashboard.annotations.list) assert.deepEqual(unknownMetrics(expr), [], name);
  });

  test(`${dashboard.uid}: Prometheus can parse every query`, () => {
    const queries = [...list.flatMap((panel) => panel.targets), ...dashboard.annotations.list].map(({ expr }) => substitute(expr));
    const rules = queries.map((expr, at) => ({ record: `query_${at}`, expr }));
    const text = JSON.stringify({ groups: [{ name: "dashboard", rules }] });
    assert.match(promtool(["check", "rules", "rules.yaml"], { "rules.yaml": text }), new RegExp(`${queries.length} rules found`));
  });

  test(`${dashboard.uid}: links lead to alerts that exist, and every alert is linked from a panel`, () => {
    const known = new Map(alerts().map((rule) => [`Runbook: ${rule.alert}`, rule.annotations.runbook_url]));
    const linked = list.flatMap((panel) => panel.links);
    for (const { title, url } of linked) assert.equal(url, known.get(title), title);
    const missing = [...known.keys()].filter((title) => !linked.some((link) => link.title === title));
    assert.deepEqual(missing, []);
  });
}

test("every metric of a node is on a dashboard or in an alert", () => {
  // What stands here is the total of something that is shown in parts, or of no use on its own.
  const left = ["fanway_sockets_accepted_total", "fanway_sockets_taken_over_total", "process_virtual_memory_bytes"];
  const text = all.flatMap(panels).flatMap((panel) => panel.targets.map((target) => target.expr)).join("\n");
  const seen = (name) => new RegExp(`\\b${name}(_bucket|_count|_sum)?\\b`).test(text);
  assert.deepEqual([...existing().keys()].filter((name) => !seen(name)).sort(), left.sort());
});

test("screenshots are small", () => {
  const folder = join(ROOT, "deploy/docs/dashboards");
  for (const row of all[0].panels.filter((panel) => panel.type === "row")) {
    const file = join(folder, `${row.title.toLowerCase().replace(/[^a-z]+/g, "-")}.png`);
    assert.ok(readFileSync(file).length < 200 * 1024, `${file}: make screenshots`);
  }
});
