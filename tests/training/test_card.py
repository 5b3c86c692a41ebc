"""Model cards: huggingface_hub reads what we write, and a tuned model inherits the data of its base."""

import logging
import warnings

import pytest
from huggingface_hub import ModelCard

from gpt2.common.files import write_json
from gpt2.training.card import Card, Metric, lineage, record, write_card

DOCSTRINGS = {"source": "docstrings", "packages": {"a": "1"}, "license": ["BSD-3-Clause", "MIT"]}
FINEWEB = {"source": "hub", "repo": "owner/fineweb", "commit": "c" * 40, "license": "odc-by"}
LOCAL = {"source": "local", "license": None}
METRICS = [Metric("perplexity", "perplexity per token", 12.34567), Metric("bits_per_byte", "bits per byte", 1.7)]


def card(*made_from: dict) -> Card:
    text = {"title": "A model: GPT-2", "about": "Small.", "code": "print('{}')", "advice": "None."}
    return Card(**text, task="text-generation", made_from=list(made_from), metrics=METRICS)


def written(directory, *made_from: dict) -> ModelCard:
    """The card as huggingface_hub reads it, without a warning."""
    write_card(card(*made_from), directory)
    with warnings.catch_warnings(action="error"):
        return ModelCard.load(directory / "README.md")


def test_huggingface_hub_reads_it_without_a_warning_and_would_write_the_same(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    found = written(tmp_path, record("pretraining", DOCSTRINGS))
    assert not caplog.records
    data = found.data
    assert (data.language, data.library_name, data.pipeline_tag) == ("en", "transformers", "text-generation")
    assert data.metrics == ["perplexity"] and data.datasets is None and data.base_model is None
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("perplexity", 12.3457),
        ("bits_per_byte", 1.7),
    ]
    assert data.eval_results[0].dataset_type == "docstrings"
    assert str(found) == (tmp_path / "README.md").read_text()
    assert "| pretraining | docstrings of installed Python packages | BSD-3-Clause, MIT |" in found.text


def test_bytes_are_stable(tmp_path):
    first, second = tmp_path / "a/model", tmp_path / "b/model"
    for directory in (first, second):
        write_card(card(record("pretraining", DOCSTRINGS)), directory)
    assert (first / "README.md").read_bytes() == (second / "README.md").read_bytes()


@pytest.mark.parametrize(
    ("manifests", "license"),
    [
        ([FINEWEB], "odc-by"),
        ([FINEWEB, FINEWEB | {"repo": "owner/other"}], "odc-by"),
        ([FINEWEB, FINEWEB | {"license": "mit"}], "other"),
        ([FINEWEB, LOCAL], "other"),
        ([DOCSTRINGS], "other"),
        ([LOCAL], "unknown"),
        ([FINEWEB | {"license": None}], "unknown"),
    ],
)
def test_the_license_is_that_of_all_data_or_other_or_unknown(tmp_path, manifests, license):
    data = written(tmp_path, *(record("training", manifest) for manifest in manifests)).data
    assert data.license == license and (data.license_name is not None) == (license == "other")


def test_a_tuned_model_inherits_the_data_and_the_base_of_its_base(tmp_path):
    write_json(tmp_path / "gpt2/manifest.json", FINEWEB | {"repo": "owner/gpt2", "license": "mit", "files": []})
    written(tmp_path / "base", *lineage(tmp_path / "gpt2"), record("pretraining", FINEWEB))
    found = written(tmp_path / "tuned", *lineage(tmp_path / "base"), record("tuning", LOCAL))
    assert found.data.base_model == "owner/gpt2" and found.data.datasets == ["owner/fineweb"]
    assert [made["use"] for made in found.data["made_from"]] == ["initial weights", "pretraining", "tuning"]
    for row in (
        "| initial weights | [owner/gpt2](https://huggingface.co/owner/gpt2) | mit |",
        "| pretraining | [owner/fineweb](https://huggingface.co/datasets/owner/fineweb) | odc-by |",
        "| tuning | local files | unknown |",
    ):
        assert row in found.text
    assert found.data.eval_results[0].dataset_type == "local" and found.data.language is None
