"""The pipeline writes our text with our settings, and the experiment finds each setting that matters."""

import pytest
import torch
from transformers import TextGenerationPipeline

from gpt2.evaluation.parity import pipeline
from gpt2.evaluation.parity.pipeline import DEFAULTS, ERROR, GOALS, OTHER, SAME, experiment
from gpt2.model import checkpoint
from tests.evaluation.parity.conftest import other_tokenizer


def runs(directory) -> tuple[dict, pipeline.Case]:
    rows, case = experiment(directory, tokens=12, seed=2)
    return {(row["goal"], row["left"]): row for row in rows}, case


@pytest.fixture
def found(directory):
    """Scaled so that temperature and penalty change the text."""
    model = checkpoint.load(directory)
    with torch.no_grad():
        model.ln_f.weight *= 2
    checkpoint.save(model, directory)
    return runs(directory)


def test_with_all_our_settings_the_pipeline_writes_our_text(found):
    rows, case = found
    assert (case.value, case.compared) == (0.0, 9)
    assert all(rows[goal, None]["outcome"] == SAME for goal in GOALS)


def test_with_default_settings_it_samples_and_its_default_length_overflows_a_short_context(found):
    rows, _ = found
    row = rows["greedy", "all"]
    assert {name: row[name] for name in DEFAULTS} == DEFAULTS | {"max_new_tokens": 12}
    assert row["outcome"] == OTHER and row["text"]
    assert rows["greedy", "max_new_tokens"]["outcome"] == ERROR


def test_the_defaults_are_those_of_this_version_of_transformers():
    own = TextGenerationPipeline._default_generation_config
    assert {name: getattr(own, name) for name in ("do_sample", "temperature", "max_new_tokens")} == {
        name: DEFAULTS[name] for name in ("do_sample", "temperature", "max_new_tokens")
    }


def test_each_setting_is_left_at_its_default_by_itself(found):
    rows, _ = found
    matched = rows["drawn, other settings", None]
    for name in ("temperature", "top_k", "top_p", "repetition_penalty", "seed"):
        row = rows["drawn, other settings", name]
        assert {key for key in DEFAULTS if row[key] != matched[key]} == {name}
        assert row["text"][: row["same"]] == row["ours"][: row["same"]]
    responsible = {left for (_, left), row in rows.items() if row["outcome"] == OTHER}
    assert responsible == {"all", "do_sample", "temperature", "top_k", "top_p", "seed"}


def test_another_setting_of_transformers_tokenizer_fails(directory, monkeypatch):
    assert runs(directory)[1].passed
    other_tokenizer(monkeypatch)
    assert not runs(directory)[1].passed
