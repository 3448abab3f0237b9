"""Runs Helm. What it renders is remembered, since most checks look at the same manifests."""

import functools
import json
import pathlib
import subprocess

import yaml


class Refused(Exception):
    """Helm could not render; the text is its own."""


@functools.cache
def text(chart: str, values: str, kubernetes: str, overrides: tuple[str, ...] = ()) -> str:
    """What Helm makes of one file of values on one version of Kubernetes."""
    command = ["helm", "template", "fanway", chart, "--namespace", "push", "--values", values]
    command += ["--kube-version", kubernetes, *(f"--set={override}" for override in overrides)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


@functools.cache
def manifests(chart: str, values: str, kubernetes: str, overrides: tuple[str, ...] = ()) -> tuple[dict, ...]:
    """The same as objects."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(document for document in yaml.load_all(text(chart, values, kubernetes, overrides), loader) if document)


def matrix(chart: str) -> list[str]:
    """All files of values that are to be rendered."""
    return [str(path) for path in sorted(pathlib.Path(chart, "ci").glob("*-values.yaml"))]


def name(manifest: dict) -> str:
    """How a manifest is called in messages."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def one(found: tuple[dict, ...], kind: str) -> dict:
    """The only manifest of its kind that is the chart's own."""
    return next(manifest for manifest in found if manifest["kind"] == kind and not name(manifest).endswith(("-extra", "-text")))


def pretty(value: object) -> str:
    """One line for a message."""
    return json.dumps(value, sort_keys=True)
