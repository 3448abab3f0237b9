"""Every manifest against the schema of its kind, unknown fields included.

Kubernetes' own kinds come from kubernetes-validate, which carries the schemas of many versions; custom resources from the
definitions that their operators install, closed where they do not say that they are open.
"""

import functools
import pathlib

import jsonschema
import kubernetes_validate
import yaml

from . import render

# The oldest that the chart takes, the first with the sleep action, one in the middle of its life, and the newest known.
OLDEST = ["1.27", "1.30", "1.34"]


def versions() -> list[str]:
    """The versions of Kubernetes to check against."""
    return [*OLDEST, kubernetes_validate.latest_version()]


def _closed(schema: dict) -> dict:
    """The same schema, refusing fields that it does not name."""
    if not isinstance(schema, dict):
        return schema
    schema = dict(schema)
    for key in ("properties", "patternProperties"):
        if key in schema:
            schema[key] = {field: _closed(inner) for field, inner in schema[key].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = _closed(schema[key])
    open_by_word = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource")
    if "properties" in schema and "additionalProperties" not in schema and not open_by_word:
        schema["additionalProperties"] = False
    if schema.pop("nullable", False) and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def definitions(folder: str) -> dict[tuple[str, str], jsonschema.Draft7Validator]:
    """Validators of custom resources by apiVersion and kind."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if not document or document["kind"] != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                schema = _closed(version["schema"]["openAPIV3Schema"])
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = jsonschema.Draft7Validator(schema)
    return found


@functools.cache
def _native(text: str, version: str) -> str | None:
    """What is wrong with a manifest of Kubernetes' own; manifests that are the same everywhere are looked at once."""
    try:
        kubernetes_validate.validate(yaml.safe_load(text), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = ".".join(str(part) for part in error.path)
        return f"{path}: {error.message}"
    return None


def problems(manifest: dict, version: str, custom: dict) -> list[str]:
    """What the schemas say against a manifest."""
    validator = custom.get((manifest["apiVersion"], manifest["kind"]))
    if validator:
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    try:
        problem = _native(yaml.safe_dump(manifest), version)
    except kubernetes_validate.SchemaNotFoundError:
        return ["no schema is known for it"]
    return [problem] if problem else []


def check(chart: str, folder: str, fail) -> int:
    """All of the matrix on all versions. Returns how many manifests were looked at."""
    custom = definitions(folder)
    count = 0
    for values in render.matrix(chart):
        for version in versions():
            for manifest in render.manifests(chart, values, version):
                count += 1
                for problem in problems(manifest, version, custom):
                    fail(f"{values}, Kubernetes {version}, {render.name(manifest)}: {problem}")
    _can_fail(custom, fail)
    return count


def _can_fail(custom: dict, fail) -> None:
    """That the schemas do refuse: a check that lets everything pass would look the same."""
    wrong = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": "http"}]}},
        {"apiVersion": "v1", "kind": "Unknown", "metadata": {"name": "x"}},
    ]
    for (api_version, kind), _ in custom.items():
        wrong.append({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": {"unknownField": 1}})
    for manifest in wrong:
        if not problems(manifest, versions()[-1], custom):
            fail(f"the schemas let a wrong {manifest['kind']} ({manifest['apiVersion']}) pass: {render.pretty(manifest)}")
