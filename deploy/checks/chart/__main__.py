"""Checks the rendered chart: `python -m chart CHART FOLDER-OF-DEFINITIONS`. FANWAY_BIN is the gateway."""

import os
import sys

from . import files, render, rules, schemas, settings, values


def main() -> int:
    """Prints what is wrong, and what was looked at. Returns the exit code."""
    chart, definitions = sys.argv[1:]
    wrong: list[str] = []
    versions = schemas.versions()
    try:
        named = values.check(chart, wrong.append)
        looked_at = schemas.check(chart, definitions, wrong.append)
        sets = rules.check(chart, versions, wrong.append)
        shipped = files.check(chart, wrong.append)
        accepted = settings.check(chart, versions, os.environ["FANWAY_BIN"], wrong.append)
    except render.Refused as refused:
        wrong.append(str(refused))
    for problem in wrong:
        print(f"chart: {problem}", file=sys.stderr)
    if wrong:
        print(f"chart: {len(wrong)} problems", file=sys.stderr)
        return 1
    print(f"chart: values: {named}, each in values.yaml and the schema")
    print(f"chart: schemas: {looked_at} manifests on Kubernetes {', '.join(versions)}, custom resources included")
    print(f"chart: rules: {sets} renderings restricted, selected, scraped once and scaled once")
    print(f"chart: settings: {accepted} files accepted by the gateway")
    print(f"chart: files: {shipped} rules and dashboards rendered as they are")
    return 0


if __name__ == "__main__":
    sys.exit(main())
