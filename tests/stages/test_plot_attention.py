"""The stage plot_attention on small models: one of ours, and one in place of OpenAI's with another vocabulary."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_csv, read_json, read_jsonl, write_json
from gpt2.model import checkpoint
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from stages import plot_attention
from stages.stage import Stage
from tests.small import byte_tokenizer, small_model
from tests.stages.pretrained import write_repository

HOSTILE = "</script>😀 שלום\x1b $x$ <|endoftext|>"
PROMPTS = ["the cats and the dogs", HOSTILE]


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A directory with the inputs that the stage declares."""
    write_repository(tmp_path, {9: small_model(vocab_size=257, block_size=64)}, attention={"prompts": PROMPTS})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run() -> Path:
    with Stage("plot_attention") as stage:
        plot_attention.main(stage)
    return Path("reports/attention")


def add_openai(directory: Path) -> Tokenizer:
    tokenizer = Tokenizer(train_bpe(["the cats and the dogs and the cats " * 9], 270))
    tokenizer.save(directory)
    checkpoint.save(small_model(n_layer=3, n_head=2, block_size=128, vocab_size=tokenizer.vocab_size), directory)
    write_json(directory / "manifest.json", {"source": "hub", "repo": "openai-community/gpt2"})
    return tokenizer


def test_two_models_and_openai_s_are_compared(repository):
    tokenizer = add_openai(repository / "data/models/gpt2")
    reports = run()
    models = read_json(reports / "attention.json")["models"]
    assert [model["name"] for model in models] == ["trained", "initial", "openai"]
    assert models[2]["title"] == "OpenAI's weights (openai-community/gpt2)"
    for model in models:
        assert [prompt["text"] for prompt in model["prompts"]] == PROMPTS
    assert models[0]["prompts"][0]["ids"] == models[1]["prompts"][0]["ids"] == byte_tokenizer().encode(PROMPTS[0])
    assert models[2]["prompts"][0]["ids"] == tokenizer.encode(PROMPTS[0])
    heads = read_csv(reports / "heads.csv")
    assert next(iter(heads[0])) == "model"
    assert [row["model"] for row in heads] == ["trained"] * 8 + ["initial"] * 8 + ["openai"] * 6
    ablated = [[row[name] for name in row if name.startswith("ablation")] for row in heads]
    assert all(map(all, ablated[:8])) and not any(map(any, ablated[8:]))  # only this run's model
    mapping = read_jsonl(reports / "mapping.jsonl")
    kinds = [best for best in read_json(reports / "metrics.json").values() if isinstance(best, dict)]
    strongest = {(best["layer"], best["head"]) for best in kinds}
    assert {(row["model"], row["layer"], row["head"]) for row in mapping} == {("trained", *head) for head in strongest}
    assert len(mapping) == len(strongest) * sum(len(prompt["ids"]) for prompt in models[0]["prompts"])
    assert {row["model"] for row in read_jsonl(reports / "neighbors.jsonl")} == {"openai"}  # single bytes are not words
    assert {row["model"] for row in read_jsonl(reports / "norms.jsonl")} == {"trained", "openai"}
    figures = {path.stem: path.read_text("utf-8") for path in (reports / "figures").iterdir()}
    for name in ("grid_trained_1", "grid_openai_0", "rollout_openai", "scores_initial", "wpe_cosines"):
        assert name in figures
    for svg in figures.values():
        ElementTree.fromstring(svg)


@pytest.mark.parametrize("block_size", [3, 16])
def test_a_prompt_that_does_not_fit_a_model_is_cut_with_one_line(tmp_path, monkeypatch, capsys, block_size):
    monkeypatch.chdir(tmp_path)
    models = {step: small_model(vocab_size=257, block_size=block_size) for step in (0, 5, 9)}
    write_repository(tmp_path, models, attention={"prompts": ["abc", "the cats and the dogs"]})
    models = read_json(run() / "attention.json")["models"]
    assert [[len(prompt["ids"]) for prompt in model["prompts"]] for model in models] == [[3, block_size]] * 2
    line = f"attention.prompts[1] = 'the cats and the dogs': 21 tokens, cut to the first {block_size}\n"
    assert capsys.readouterr().err == line


def test_a_context_without_scores_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path, {9: small_model(vocab_size=257, block_size=2)}, attention={"prompts": PROMPTS})
    with pytest.raises(InputError, match="block_size = 2: expected 3 or more"):
        run()
    assert not (tmp_path / "reports").exists()
