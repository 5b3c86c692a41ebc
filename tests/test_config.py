"""Params: what is refused, and in which words."""

import pytest
from ruamel.yaml import YAML

from gpt2.config import OPENAI_SHAPES, Params, openai_config
from gpt2.errors import InputError
from gpt2.section import Section, parse
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
        ("train", "min_lr", 1.0, ["train.min_lr = 1.0", "at most lr"]),
        ("train", "optimizer", "sgd", ["train.optimizer = 'sgd'", "adamw", "muon"]),
        ("train", "schedule", "linear", ["train.schedule = 'linear'", "cosine", "wsd"]),
        ("train", "decay_steps", -1, ["train.decay_steps = -1", "greater than or equal to 0"]),
        ("train", "precision", "half", ["train.precision = 'half'", "float32", "bfloat16"]),
        ("train", "hellaswag_every", 7, ["train.hellaswag_every = 7", "multiple of eval_every"]),
        ("hellaswag", "precision", "int8", ["hellaswag.precision = 'int8'", "auto", "bfloat16"]),
        ("hellaswag", "batch_tokens", 0, ["hellaswag.batch_tokens = 0", "greater than 0"]),
        ("parity", "prompt_tokens", 3, ["parity.prompt_tokens = 3", "greater than or equal to 4"]),
        ("parity", "samples", 1000, ["parity.samples = 1000", "at most prompts"]),
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
def test_warmup_and_decay_must_fit_into_the_steps_of_wsd(raw, section):
    raw[section] |= {"schedule": "wsd", "steps": 100, "warmup_steps": 10, "decay_steps": 90}
    parse(Params, raw, "params.yaml")
    raw[section]["decay_steps"] = 91
    words = rf"^params\.yaml: {section}\.decay_steps = 91: with warmup_steps = 10 must be at most steps = 100$"
    with pytest.raises(InputError, match=words):
        parse(Params, raw, "params.yaml")
    raw[section]["schedule"] = "cosine"  # takes no notice
    parse(Params, raw, "params.yaml")


def test_a_run_of_no_steps_has_no_schedule_to_fit(raw):
    raw["train"] |= {"schedule": "wsd", "steps": 0}
    assert parse(Params, raw, "params.yaml").train.decay_steps > 0


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
