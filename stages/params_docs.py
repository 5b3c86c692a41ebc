"""Writes docs/params.md: every key of params.yaml, from what checks it. `python -m stages.params_docs`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import write_text
from gpt2.config.params import Params
from gpt2.report.lineage import flat
from stages.params import read_yaml

PAGE = Path("docs/params.md")
INTRODUCTION = """# Every param

What may stand in `params.yaml`; made by `python -m stages.params_docs` from `gpt2/config/params.py` and
`gpt2/config/data.py`, which check the file. The default is the value of the profile `sample`. Each key lists the stages
that declare it: a change of its value runs those again, and what depends on them. `report`, which shows all params,
declares all. `blank` is a key with nothing after its colon; texts and lists are not empty unless the key says so.
"""
LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def page() -> str:
    """The page, from the classes, profiles/sample.yaml and dvc.yaml."""
    schema, defaults = Params.model_json_schema(), dict(flat(read_yaml(Path("profiles/sample.yaml"))))
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    declared = {name: stage["params"] for name, stage in stages.items() if name != "report"}
    parts = [INTRODUCTION]
    for section, node in schema["properties"].items():
        about = _resolved(schema, node).get("description", "") if "$ref" in node else ""
        rows = [
            f"| `{key}` | {_default(defaults[key])} | {kind(leaf)} | {_cell(leaf['description'])} | {readers} |"
            for key, leaf in _leaves(schema, node, section)
            for readers in [", ".join(name for name, keys in declared.items() if _declares(keys, key))]
        ]
        head = ["| key | default | type | meaning | stages |", "| --- | --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {section}", "", *([about, ""] if about else []), *head, *rows, ""]))
    return "\n".join(parts)


def kind(leaf: dict) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "anyOf" in leaf:
        return ", or ".join("blank" if part == {"type": "null"} else kind(part) for part in leaf["anyOf"])
    if "enum" in leaf:
        return ", ".join(f"`{value}`" for value in leaf["enum"])
    if leaf["type"] == "array":
        return f"list of {kind(leaf['items'])}"
    if leaf["type"] == "string":
        return f"text that matches `{_cell(leaf['pattern'])}`" if "pattern" in leaf else "text"
    return f"{leaf['type']} " + ", ".join(f"{sign} {leaf[limit]}" for limit, sign in LIMITS.items() if limit in leaf)


def _leaves(schema: dict, node: dict, name: str) -> Iterator[tuple[str, dict]]:
    """The values below a section, by dotted name."""
    if "$ref" not in node:
        yield name, node
        return
    for key, below in _resolved(schema, node)["properties"].items():
        yield from _leaves(schema, below, f"{name}.{key}")


def _resolved(schema: dict, node: dict) -> dict:
    return schema["$defs"][node["$ref"].rpartition("/")[2]]


def _declares(names: list[str], key: str) -> bool:
    """Whether a stage with these params has declared a key, or a section that holds it."""
    return any(f"{key}.".startswith(f"{name}.") for name in names)


def _default(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_default, value))
    return "blank" if value is None else f"`{_cell(str(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    try:
        write_text(PAGE, page())
    except InputError as error:
        sys.exit(str(error))
