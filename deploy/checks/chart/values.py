"""That values.yaml and values.schema.json name the same values, and that nothing unknown is let in anywhere."""

import json
import pathlib

import jsonschema
import yaml



def _resolve(schema: dict, root: dict) -> dict:
    if "$ref" in schema:
        return root["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def check(chart: str, fail) -> int:
    """Returns how many values there are."""
    schema = json.loads(pathlib.Path(chart, "values.schema.json").read_text())
    values = yaml.safe_load(pathlib.Path(chart, "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    for error in jsonschema.Draft7Validator(schema).iter_errors(values):
        fail(f"values.yaml does not fit its schema: {error.json_path}: {error.message}")
    return _compare("", values, schema, schema, fail)


def _compare(path: str, values: dict, schema: dict, root: dict, fail) -> int:
    properties = schema["properties"]
    if schema.get("additionalProperties") is not False and path != ".global":
        fail(f"values.schema.json lets unknown values into {path or 'the top'}")
    count = 0
    for name in sorted({*values, *properties}):
        where = f"{path}.{name}"
        if name not in properties:
            fail(f"{where[1:]} is not in values.schema.json")
        elif name not in values:
            # The only value that is not ours: a parent chart's switch.
            if where != ".enabled":
                fail(f"{where[1:]} is not in values.yaml, where people look for it")
        else:
            inner = _resolve(properties[name], root)
            # A map that is empty by default has keys to choose from, told in its comment.
            if "properties" in inner and values[name] != {}:
                count += _compare(where, values[name], inner, root, fail)
            else:
                count += 1
            _lists(where, inner, root, fail)
    return count


def _lists(where: str, schema: dict, root: dict, fail) -> None:
    """That objects in lists are closed as well, unless they are Kubernetes' own."""
    items = _resolve(schema.get("items", {}), root)
    if "properties" in items:
        if items.get("additionalProperties") is not False:
            fail(f"values.schema.json lets unknown values into {where[1:]}[]")
        for name, inner in items["properties"].items():
            _lists(f"{where}[].{name}", _resolve(inner, root), root, fail)
