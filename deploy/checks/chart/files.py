"""That alerts and dashboards leave the chart as they lie in its folder `files`: what looks like a template in them belongs to
Prometheus and Grafana."""

import json
import pathlib

import yaml

from . import render


def check(chart: str, fail) -> int:
    """Returns how many alerts and dashboards there are."""
    values = str(pathlib.Path(chart, "ci", "production-values.yaml"))
    alerts = _rules(yaml.safe_load(pathlib.Path(chart, "files/alerts.yaml").read_text())["groups"])
    dashboards = {path.name: json.loads(path.read_text()) for path in pathlib.Path(chart, "files/dashboards").glob("*.json")}

    found = render.manifests(chart, values, "1.34")
    rendered = _rules(render.one(found, "PrometheusRule")["spec"]["groups"])
    for name, rule in alerts.items():
        if rendered.get(name) != rule:
            fail(f"the rule {name} is rendered as {render.pretty(rendered.get(name))}")
    maps = {}
    for manifest in found:
        if manifest["kind"] == "ConfigMap" and "grafana_dashboard" in manifest["metadata"].get("labels", {}):
            maps.update({name: json.loads(text) for name, text in manifest["data"].items()})
    if maps != dashboards or not dashboards:
        fail(f"of the dashboards {sorted(dashboards)} the chart renders {sorted(maps)}, or others than in the files")

    # One that is not wanted, and no other.
    unwanted = next(name for name, rule in alerts.items() if "alert" in rule)
    found = render.manifests(chart, values, "1.34", (f"metrics.prometheusRule.disabled={{{unwanted}}}",))
    rendered = _rules(render.one(found, "PrometheusRule")["spec"]["groups"])
    if set(alerts) - set(rendered) != {unwanted}:
        fail(f"without the alert {unwanted} these are missing: {sorted(set(alerts) - set(rendered))}")
    return len(alerts) + len(dashboards)


def _rules(groups: list[dict]) -> dict[str, dict]:
    """Rules by name, without their labels, which values may add to."""
    return {
        rule.get("alert") or rule["record"]: {key: value for key, value in rule.items() if key != "labels"}
        for group in groups
        for rule in group["rules"]
    }
