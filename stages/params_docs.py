"""Writes docs/params.md, which describes every key of params.yaml: `python -m stages.params_docs`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from gpt2.common.mappings import flat
from gpt2.config.params import Params
from stages.params import declares, read_yaml

PAGE = Path("docs/params.md")
INTRODUCTION = """# Every param

The keys of `params.yaml`. `python -m stages.params_docs` writes this page from `gpt2/config/params.py` and
`gpt2/config/data.py`, which validate the file. The default is the value in the profile `sample`. If you change a value,
`dvc repro` runs the stages in the last column again, and every stage that depends on them. The stage `report` shows all
params, so any change runs it again. `blank` means that nothing follows the colon. Strings and lists may not be empty
unless the description allows it.
"""
LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def page() -> str:
    """Builds the page from the classes, profiles/sample.yaml and dvc.yaml."""
    schema, defaults = Params.model_json_schema(), flat(read_yaml(Path("profiles/sample.yaml")))
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    declared = {name: stage["params"] for name, stage in stages.items() if name != "report"}
    parts = [INTRODUCTION]
    for section, node in schema["properties"].items():
        about = _resolved(schema, node).get("description", "") if "$ref" in node else ""
        rows = [
            f"| `{key}` | {_default(defaults[key])} | {kind(leaf)} | {_cell(leaf['description'])} | {readers} |"
            for key, leaf in _leaves(schema, node, section)
            for readers in [", ".join(name for name, keys in declared.items() if declares(keys, key))]
        ]
        head = ["| key | default | type | meaning | stages |", "| --- | --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {section}", "", *([about, ""] if about else []), *head, *rows, ""]))
    return "\n".join(parts)


def kind(leaf: dict) -> str:
    """Describes in words what values a JSON schema allows."""
    if "anyOf" in leaf:
        return ", or ".join("blank" if part == {"type": "null"} else kind(part) for part in leaf["anyOf"])
    if "enum" in leaf:
        return ", ".join(f"`{value}`" for value in leaf["enum"])
    if leaf["type"] == "array":
        return f"list of {kind(leaf['items'])}"
    if leaf["type"] == "string":
        return f"string that matches `{_cell(leaf['pattern'])}`" if "pattern" in leaf else "string"
    return f"{leaf['type']} " + ", ".join(f"{sign} {leaf[limit]}" for limit, sign in LIMITS.items() if limit in leaf)


def _leaves(schema: dict, node: dict, name: str) -> Iterator[tuple[str, dict]]:
    """The leaves below a section by dotted name."""
    if "$ref" not in node:
        yield name, node
        return
    for key, below in _resolved(schema, node)["properties"].items():
        yield from _leaves(schema, below, f"{name}.{key}")


def _resolved(schema: dict, node: dict) -> dict:
    return schema["$defs"][node["$ref"].rpartition("/")[2]]


def _default(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_default, value))
    return "blank" if value is None else f"`{_cell(str(value))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    try:
        write_text(PAGE, page())
    except InputError as error:
        sys.exit(str(error))
