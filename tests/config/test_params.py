"""Params: what is refused, and in which words."""

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.config.params import OPENAI_SHAPES, Params, openai_config
from gpt2.config.schema import Section, parse
from tests.conftest import ROOT


@pytest.fixture
def raw() -> dict:
    return YAML(typ="safe").load(ROOT / "params.yaml")


def test_shipped_params_are_valid_and_frozen(raw):
    params = parse(Params, raw, "params.yaml")
    with pytest.raises(ValueError):
        params.train.lr = 1.0


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "n_head", 5, ["model.n_head = 5", "divide n_embd"]),
        ("model", "n_heads", 4, ["model.n_heads = 4", "unknown key", "n_head, "]),
        ("model", "dropout", 1.0, ["model.dropout = 1.0", "less than 1"]),
        ("train", "lr", "fast", ["train.lr = 'fast'", "number"]),
        ("train", "lr", 0.0, ["train.lr = 0.0", "greater than 0"]),
        ("train", "steps", 1.5, ["train.steps = 1.5", "integer"]),
        ("train", "steps", True, ["train.steps = True", "integer"]),
        ("train", "micro_batch_size", 7, ["train.micro_batch_size = 7", "divide batch_size"]),
        ("train", "min_lr_rate", 1.5, ["train.min_lr_rate = 1.5", "less than or equal to 1"]),
        ("train", "optimizer", "sgd", ["train.optimizer = 'sgd'", "adamw", "muon"]),
        ("train", "schedule", "linear", ["train.schedule = 'linear'", "cosine", "wsd"]),
        ("train", "decay_rate", -0.1, ["train.decay_rate = -0.1", "greater than or equal to 0"]),
        ("train", "precision", "half", ["train.precision = 'half'", "float32", "bfloat16"]),
        ("train", "hellaswag_every", 7, ["train.hellaswag_every = 7", "multiple of eval_every"]),
        ("hellaswag", "precision", "int8", ["hellaswag.precision = 'int8'", "auto", "bfloat16"]),
        ("parity", "tokens", 3, ["parity.tokens = 3", "greater than or equal to 4"]),
        ("classification", "trainable", "some", ["classification.trainable = 'some'", "last_blocks", "lora"]),
        ("classification", "class_weights", None, ["classification.class_weights = None", "balanced"]),
        ("classification", "patience", 0, ["classification.patience = 0", "greater than 0"]),
        ("docstrings", "packages", [], ["docstrings.packages = []", "at least 1"]),
        ("instruction", "lora", None, ["instruction.lora = None"]),
        ("instruction", "patience", 0, ["instruction.patience = 0", "greater than 0"]),
        ("instruction", "judge", {"url": "localhost", "model": "m"}, ["instruction.judge.url = 'localhost'", "https"]),
        ("instruction", "judge", {"url": "http://a/v1", "model": None}, ["judge.model = None", "url = 'http://a/v1'"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line(raw, section, key, value, words):
    raw[section][key] = value
    with pytest.raises(InputError) as error:
        parse(Params, raw, "params.yaml")
    message = str(error.value)
    assert "\n" not in message and message.startswith("params.yaml: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("section", ["train", "classification", "instruction"])
@pytest.mark.parametrize("lr", [1e-9, 0.0003, 10.0])
def test_any_learning_rate_can_be_tried_alone(raw, section, lr):
    raw[section]["lr"] = lr
    assert getattr(parse(Params, raw, "params.yaml"), section).lr == lr


def test_a_missing_key_is_named(raw):
    del raw["train"]["lr"]
    with pytest.raises(InputError, match=r"train\.lr is missing"):
        parse(Params, raw, "params.yaml")


def test_further_mistakes_are_counted(raw):
    raw["train"]["lr"], raw["model"]["n_layer"] = "fast", 0
    with pytest.raises(InputError, match=r"and 1 more"):
        parse(Params, raw, "params.yaml")


def test_a_file_that_is_no_mapping_is_refused():
    with pytest.raises(InputError, match="params.yaml: the file"):
        parse(Params, None, "params.yaml")


@pytest.mark.parametrize("name", OPENAI_SHAPES)
def test_openai_shapes_have_heads_of_64(name):
    config = openai_config(name)
    assert config.n_embd // config.n_head == 64


def test_an_unknown_key_inside_a_mapping_of_sections_is_named():
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
