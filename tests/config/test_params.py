"""Params: refused values and their messages."""

import copy
from collections.abc import Iterator
from functools import reduce
from operator import getitem

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.common.mappings import flat
from gpt2.config.params import OptimParams, Params
from gpt2.config.schema import Section, parse
from tests.conftest import ROOT


@pytest.fixture
def raw() -> dict:
    return YAML(typ="safe").load(ROOT / "profiles/sample.yaml")


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "n_head", 5, ["model.n_head = 5", "divide n_embd"]),
        ("model", "n_heads", 4, ["model.n_heads = 4", "unknown key", "n_head, "]),
        ("train", "lr", "fast", ["train.lr = 'fast'", "number"]),
        ("train", "snapshots", [-1], ["train.snapshots", "[-1]"]),
        ("machine", "micro_batch_size", 0, ["machine.micro_batch_size = 0: ", "greater than 0, or ", "'auto'"]),
        ("machine", "foo-bar", 1, ["machine.foo-bar = 1", "unknown key"]),
        ("classification", "schedule", "wsd", ["classification.schedule = 'wsd'", "unknown key"]),
        ("responses", "judge", {"url": "localhost", "model": "m"}, ["responses.judge.url = 'localhost'", "https"]),
        ("responses", "judge", {"url": "http://a/v1"}, ["judge.model = None", "url = 'http://a/v1'"]),
    ],
)
def test_an_error_is_one_line_that_names_key_and_value(raw, section, key, value, words):
    raw[section][key] = value
    with pytest.raises(InputError) as error:
        parse(Params, raw, "params.yaml")
    message = str(error.value)
    assert "\n" not in message and message.startswith("params.yaml: ")
    for word in words:
        assert word in message


def test_a_section_needs_few_arguments_in_code():
    assert OptimParams(steps=10, batch_size=4, lr=0.01).optimizer == "adamw"


def test_other_mistakes_are_counted_and_a_file_without_sections_refused(raw):
    raw["train"]["lr"], raw["model"]["n_layer"] = "fast", 0
    with pytest.raises(InputError, match=r"and 1 more"):
        parse(Params, raw, "params.yaml")
    with pytest.raises(InputError, match="params.yaml: the file"):
        parse(Params, None, "params.yaml")


def test_an_error_names_an_unknown_key_inside_a_mapping_of_sections():
    class Row(Section):
        n: int

    class Table(Section):
        rows: dict[str, Row]

    with pytest.raises(InputError, match=r"table\.json: rows\.a\.m = 2: an unknown key"):
        parse(Table, {"rows": {"a": {"n": 1, "m": 2}}}, "table.json")


def test_a_lora_target_named_twice_is_refused(raw):
    raw["instruction"]["lora"]["targets"] *= 2
    with pytest.raises(InputError, match=r"instruction\.lora\.targets = .*names a layer twice"):
        parse(Params, raw, "params.yaml")


# --- any single value ----------------------------------------------------------------------------------------------

LARGE = 10**9  # where a range has no upper end
BOUNDS = {"minimum": 0, "exclusiveMinimum": 1, "maximum": 0, "exclusiveMaximum": -1}  # and the step into the range
CONFLICTS = {"model.n_embd", "model.n_head"}  # docs/params.md explains them


def ends(leaf: dict) -> list[float]:
    """The lowest and the highest number that the JSON schema of a param allows, or none if it is not a number."""
    leaf = next((part for part in leaf.get("anyOf", []) if part.get("type") in ("integer", "number")), leaf)
    if leaf.get("type") not in ("integer", "number"):
        return []
    step = 1 if leaf["type"] == "integer" else 1e-9
    found = {name: leaf[name] + sign * step for name, sign in BOUNDS.items() if name in leaf}
    low = next(value for name, value in found.items() if "inimum" in name)  # every number has a lower bound
    high = next((value for name, value in found.items() if "aximum" in name), LARGE)
    return [low, high]


def numbers(schema: dict, node: dict, name: str = "") -> Iterator[tuple[str, float]]:
    """Dotted names of the numeric params with both ends of their ranges."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    if "properties" in node:
        for key, child in node["properties"].items():
            yield from numbers(schema, child, f"{name}.{key}" if name else key)
    else:
        yield from ((name, value) for value in ends(node))


def test_every_number_can_go_to_both_ends_of_its_own_range_alone(raw):
    schema = Params.model_json_schema()
    tried, refused = set(), set()
    for name, value in numbers(schema, schema):
        *sections, key = name.split(".")
        changed = copy.deepcopy(raw)
        reduce(getitem, sections, changed)[key] = value
        try:
            parse(Params, changed, "params.yaml")
        except InputError as error:
            refused.add(name)
            assert f"`{name}`" in (ROOT / "docs/params.md").read_text().rpartition("## Values that conflict")[2]
            assert "must divide n_embd" in str(error)
        tried.add(name)
    written = {
        name for name, value in flat(raw).items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    assert tried >= written and refused == CONFLICTS
