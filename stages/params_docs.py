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
`dvc repro` runs the stages in the last column again, and the stages that depend on what these write. The stage `report`
shows all params except for the section `machine`, so it runs too. No stage declares `machine`: a change there runs
nothing. `blank` means that nothing follows the colon. Strings and lists may not be empty unless the description allows
it.
"""
CONFLICTS = [  # what conflicts, how it is refused, what to set
    (
        "`model.n_head` does not divide `model.n_embd`",
        "`model.n_head = 5: must divide n_embd = 128`",
        "both",
    ),
    (
        "`init` is gpt2, or `tokenizer.source` is checkpoint, while `data.gpt2.source` is none",
        "`data/models/gpt2: OpenAI's weights were left out; set data.gpt2.source to hub or local`",
        "`data.gpt2.source` too",
    ),
    (
        "the `source` of a data set is local, and its folder in `data/local` is empty",
        "`data/local/...: expected a file in it that ends in one of ...`",
        "files in the folder",
    ),
    (
        "`responses.judge.url` without `responses.judge.model`",
        "`responses.judge.model = None: must name a model of url = ...`",
        "both",
    ),
    (
        "`model.block_size` is longer than a split of the corpus",
        "`the val split gives ... tokens, fewer than one window of model.block_size = ...`",
        "a shorter context, or more text",
    ),
    (
        "`model.block_size` is too short for every instruction with its answer",
        "`contains no example that fits the model's context of ... tokens`",
        "a longer context",
    ),
    (
        "`docstrings.packages` names one package, while `data.classification.source` is docstrings",
        "`docstrings.packages = ['tqdm']: expected two or more, because the label is the package`",
        "two packages or more",
    ),
    (
        "`docstrings.heldout` is so small that a split is empty",
        "`docstrings.heldout = 1e-09: leaves no document in val`",
        "a larger share",
    ),
    (
        "`data.classification.max_train` is so small that one label is left",
        "`data.classification.max_train = 1: leaves one label to learn; raise it`",
        "a larger number",
    ),
    (
        "`tokenizer.vocab_size` is larger than the text supports",
        "`tokenizer.vocab_size = 65536: the text supports at most ... tokens; lower vocab_size or add text`",
        "a smaller vocabulary, or more text",
    ),
    (
        "`model.block_size` is below 8",
        "`block_size = 4: expected 8 or more, the fewest tokens that parity is measured on`",
        "a longer context",
    ),
    (
        "a learning rate, weight decay or `lora.alpha` so large that training diverges",
        "`training diverged at step 1: loss nan, ...`",
        "a smaller value",
    ),
]
RULES = """
Rules decide all other pairs:

- The warmup ends before the last step, and the decay of `wsd` takes at most the steps after the warmup.
- A batch is divided as evenly as possible among the processes, and into micro-batches of at most
  `machine.micro_batch_size` samples.
- `train.val_tokens` is at least one window. `train.snapshots` after the last step do not exist.
- `classification.last_blocks` is at most the number of blocks, and `parity.tokens` at most half of the context.
- Prompts of `attention` and `samples` that are longer than the context are cut to it.
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
    about = (
        "Any single value in its own range runs, with all other params as in the profile `sample`, except for these:"
    )
    table = [
        "| conflict | refused with | set |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in CONFLICTS),
    ]
    return "\n".join([*parts, "## Values that conflict", "", about, "", *table, RULES])


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
