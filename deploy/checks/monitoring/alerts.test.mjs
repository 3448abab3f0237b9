// The alerts: well-formed, explained in the runbook, and each of them seen both firing and silent by promtool.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { CASES } from "./alert-cases.mjs";
import { unknownMetrics } from "./support/metrics.mjs";
import { ALERTS, alerts, promtool, read } from "./support/tools.mjs";

const RUNBOOKS = "deploy/docs/runbooks.md";
const RULES = readFileSync(ALERTS, "utf8");

test("promtool takes the rules", () => {
  assert.match(promtool(["check", "rules", "alerts.yaml"], { "alerts.yaml": RULES }), new RegExp(`${alerts().length} rules found`));
});

test("Prometheus beside docker compose can read its configuration, and the rules with it", () => {
  const config = read("deploy/prometheus/prometheus.yml");
  assert.ok(config.includes("- /etc/prometheus/alerts.yaml"));
  const here = config.replace("/etc/prometheus/alerts.yaml", "alerts.yaml");
  promtool(["check", "config", "prometheus.yml"], { "alerts.yaml": RULES, "prometheus.yml": here });
});

test("names are unique, and every alert says how urgent it is, what is wrong and where to read on", () => {
  const names = alerts().map((rule) => rule.alert);
  assert.deepEqual(names, [...new Set(names)]);
  for (const { alert, labels, annotations } of alerts()) {
    assert.match(alert, /^Fanway[A-Z][A-Za-z]+$/);
    assert.deepEqual(Object.keys(labels), ["severity"], alert);
    assert.ok(["critical", "warning", "info"].includes(labels.severity), alert);
    assert.deepEqual(Object.keys(annotations).sort(), ["description", "runbook_url", "summary"], alert);
    assert.ok(!annotations.summary.includes("{{"), `${alert}: the summary groups alerts, so it names no one`);
    assert.ok(annotations.runbook_url.endsWith(`/${RUNBOOKS}#${alert.toLowerCase()}`), `${alert}: ${annotations.runbook_url}`);
  }
});

test("the runbook has a section for each alert, in the same order, with the same four parts", () => {
  const sections = read(RUNBOOKS).split(/^## /m).slice(1).filter((section) => section.startsWith("Fanway"));
  assert.deepEqual(sections.map((section) => section.split("\n")[0]), alerts().map((rule) => rule.alert));
  for (const section of sections) {
    for (const part of ["Meaning", "Impact", "Look at", "Do"]) {
      assert.match(section, new RegExp(`^\\*\\*${part}\\.\\*\\* \\S`, "m"), section.split("\n")[0]);
    }
  }
});

test("the alerts use metrics that exist", () => {
  assert.deepEqual(unknownMetrics(alerts().map((rule) => rule.expr).join("\n")), []);
});

test("every alert has a case in which it fires and one in which it does not", () => {
  for (const { alert } of alerts()) {
    const cases = CASES.filter((one) => one.alert === alert);
    assert.ok(cases.some((one) => one.fires), `${alert} is never seen firing`);
    assert.ok(cases.some((one) => !one.fires), `${alert} is never seen silent`);
  }
});

test("the cases", async (t) => {
  const rules = new Map(alerts().map((rule) => [rule.alert, rule]));
  for (const { alert, what, series, time, fires, says } of CASES) {
    await t.test(`${alert} ${fires ? "fires" : "is silent"}: ${what}`, () => {
      const { labels, annotations } = rules.get(alert);
      const firing = fires && {
        exp_labels: { ...labels, namespace: "push", job: "fanway", ...fires },
        exp_annotations: { ...annotations, description: says },
      };
      const alertTest = { eval_time: time, alertname: alert, exp_alerts: firing ? [firing] : [] };
      const suite = {
        rule_files: ["alerts.yaml"],
        evaluation_interval: "30s",
        tests: [{ interval: "1m", input_series: series, alert_rule_test: [alertTest] }],
      };
      // JSON is YAML.
      promtool(["test", "rules", "case.yaml"], { "alerts.yaml": RULES, "case.yaml": JSON.stringify(suite) });
    });
  }
});
