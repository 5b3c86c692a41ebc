"""The stages that read every model of a pretraining run: its snapshots in order, and then the final model."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2.common.files import read_csv, read_json, read_jsonl, write_jsonl
from gpt2.evaluation.hellaswag import evaluate, read
from gpt2.model.gpt import GPT
from gpt2.pretraining.samples import write_samples
from stages import evaluate_hellaswag, generate_samples, plot_attention
from stages.stage import Stage
from tests.small import ALONE, byte_tokenizer, small_model
from tests.stages.pretrained import TOKENS, write_repository

PROMPTS = ["a cat", "a prompt that is longer than the context of sixteen", "<|endoftext|>"]


def models(**shape) -> dict[int, GPT]:
    """Two models by step that differ in shape, and so in what they write."""
    return {5: small_model(vocab_size=257, n_layer=1, **shape), 9: small_model(vocab_size=257, **shape)}


def run(module) -> None:
    with Stage(module.__name__.split(".")[1]) as stage:
        module.main(stage)


@pytest.mark.parametrize("block_size", [1, 2, 16])
def test_each_model_continues_each_prompt(tmp_path, monkeypatch, block_size):
    monkeypatch.chdir(tmp_path)
    kept = models(block_size=block_size)
    write_repository(tmp_path, kept, samples={"prompts": PROMPTS, "max_new_tokens": 12})
    run(generate_samples)
    rows = read_jsonl(Path("reports/pretrain/samples.jsonl"))
    steps = [(step, TOKENS * step, prompt) for step in kept for prompt in PROMPTS]
    assert [(row["step"], row["tokens"], row["prompt"]) for row in rows] == steps
    texts = [text for model in kept.values() for text in write_samples(model, byte_tokenizer(), PROMPTS, 12, seed=1337)]
    assert [row["text"] for row in rows] == texts


@pytest.mark.parametrize("examples", [None, 6, 1000])
def test_each_model_is_scored_on_the_same_examples(tmp_path, monkeypatch, examples):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path, models(block_size=48), hellaswag={"snapshots": examples, "precision": "float32"})
    fixed = {"activity_label": "Roof", "ctx": "A roof. the man"}
    endings = ["a man sits", "on the roof", "and starts", "to pull up tiles", "while dogs"]
    rows = [{**fixed, "ind": n, "endings": [endings[(n + i) % 5] for i in range(4)], "label": n % 4} for n in range(9)]
    write_jsonl(Path("data/raw/hellaswag/val.jsonl"), rows)
    run(evaluate_hellaswag)
    metrics = read_json(Path("reports/hellaswag/metrics.json"))
    assert metrics["n"] == metrics["harness_n"] == 9
    settings = {"precision": "float32", "world": ALONE}
    first = read(Path("data/raw/hellaswag/val.jsonl"))[:examples]
    early, final = Path("data/models/snapshots/step_00000005"), Path("data/models/pretrain")
    expected = {
        "5": evaluate(early, first, ["completion"], **settings)[0],
        "9": evaluate(final, first, ["completion"], **settings)[0],
    }
    curve = read_csv(Path("reports/hellaswag/snapshots.csv"))
    assert [row["step"] for row in curve] == (["9"] if examples is None else ["5", "9"])
    for row in curve:
        scores = expected[row["step"]]
        assert int(row["tokens"]) == TOKENS * int(row["step"]) and int(row["n"]) == scores["n"]
        for name in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr"):
            assert float(row[name]) == pytest.approx(scores[name], rel=1e-5)


def test_the_heads_of_each_model_are_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_repository(tmp_path, models(), attention={"prompts": PROMPTS[:2]})
    run(plot_attention)
    rows = read_csv(Path("reports/attention/snapshots.csv"))
    expected = [("5", "0", head) for head in "0123"] + [("9", layer, head) for layer in "01" for head in "0123"]
    assert [(row["step"], row["layer"], row["head"]) for row in rows] == expected
    final = [row for row in read_csv(Path("reports/attention/heads.csv")) if row.pop("model") == "trained"]
    scores = list(rows[0])[4:]
    assert [[row[name] for name in scores] for row in rows[4:]] == [[row[name] for name in scores] for row in final]
    assert rows[0]["entropy"] != rows[4]["entropy"]
    assert {int(row["tokens"]) for row in rows} == {5 * TOKENS, 9 * TOKENS}
    early, last = read_json(Path("reports/attention/attention.json"))["models"][0]["snapshots"]
    assert (early["step"], early["tokens"], last) == (5, 5 * TOKENS, {"step": 9, "tokens": 9 * TOKENS})
    for name in scores:
        assert early["scores"][name] == [[pytest.approx(float(row[name]), abs=1e-4) for row in rows[:4]]]
    weights = np.frombuffer(base64.b64decode(early["weights"][0][2]), "<u2") / 65535
    A = models()[5].attentions(torch.tensor([byte_tokenizer().encode(PROMPTS[0])]))[0][0, 2].detach().numpy()
    np.testing.assert_allclose(weights, A[np.tril_indices(len(A))], atol=1 / 65535)
