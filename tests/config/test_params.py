"""Params: refused values and their messages."""

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.config.params import OptimParams, Params
from gpt2.config.schema import Section, parse
from tests.conftest import ROOT


@pytest.fixture
def raw() -> dict:
    return YAML(typ="safe").load(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "n_head", 5, ["model.n_head = 5", "divide n_embd"]),
        ("model", "n_heads", 4, ["model.n_heads = 4", "unknown key", "n_head, "]),
        ("train", "lr", "fast", ["train.lr = 'fast'", "number"]),
        ("train", "micro_batch_size", 7, ["train.micro_batch_size = 7", "divide batch_size"]),
        ("train", "hellaswag_every", 7, ["train.hellaswag_every = 7", "multiple of eval_every"]),
        ("classification", "schedule", "wsd", ["classification.schedule = 'wsd'", "unknown key"]),
        ("instruction", "judge", {"url": "localhost", "model": "m"}, ["instruction.judge.url = 'localhost'", "https"]),
        ("instruction", "judge", {"url": "http://a/v1"}, ["judge.model = None", "url = 'http://a/v1'"]),
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
    assert OptimParams(steps=10, batch_size=4, micro_batch_size=2, lr=0.01).optimizer == "adamw"


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
