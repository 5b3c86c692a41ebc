"""Instructions: the response alone is scored, examples that do not fit are counted, tuning helps."""

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.adapters import lora
from gpt2.common.errors import InputError
from gpt2.config.params import InstructionParams
from gpt2.instruction.alpaca import prompt
from gpt2.instruction.finetune import Instructed, ResponseModel, Responses, answer, finetune, rouge_l
from gpt2.model import checkpoint
from gpt2.model.gpt import IGNORE
from gpt2.training.resume import Checkpoints
from gpt2.training.trainer import mean_loss
from tests.loopback_judge import judging
from tests.small import ALONE, OPTIM, byte_tokenizer, small_model

TOKENIZER = byte_tokenizer()
BLOCK = 256
ROWS = [
    {"instruction": "Repeat.", "input": "abc", "output": "abc"},
    {"instruction": "Greet.", "input": "", "output": "Good morning to you all."},
]
SPACED = [{**row, "output": f" {row['output']}\n"} for row in ROWS]  # answers are stripped
LONG = {"instruction": "Tell.", "input": "", "output": "x" * 300}
LORA = {"rank": 4, "alpha": 8.0, "targets": ["attn.c_attn", "mlp.c_fc"]}


def params(**changes) -> InstructionParams:
    own = {"init": "pretrain", "method": "full", "lora": LORA, "responses": 2, "response_tokens": 30}
    own |= {"patience": None, "judge": {"url": None, "model": None}}
    optim = {key: value for key, value in OPTIM.items() if key in InstructionParams.model_fields}
    return InstructionParams(**{**optim, **own, **changes})


def test_only_the_response_and_its_end_are_targets():
    data = Responses(ROWS, TOKENIZER, BLOCK, "train.jsonl")
    inputs, targets = data.batch(np.arange(2))
    assert inputs.shape == targets.shape
    for row, tokens, labels in zip(ROWS, inputs, targets, strict=True):
        scored = (labels != IGNORE).nonzero().flatten()
        assert TOKENIZER.decode(labels[scored].tolist()) == row["output"] + "<|endoftext|>"
        assert TOKENIZER.decode(tokens[: scored[0] + 1].tolist()) == prompt(row["instruction"], row["input"])
        assert torch.equal(tokens[scored[1:]], labels[scored[:-1]])  # a target is the next input
        assert (tokens[scored[-1] + 1 :] == TOKENIZER.eot).all()
    assert data.targets(np.arange(2)) == (targets != IGNORE).sum()


@torch.no_grad()
def test_the_loss_is_that_of_transformers(tmp_path):
    data = Responses(ROWS, TOKENIZER, BLOCK, "train.jsonl")
    inputs, targets = data.batch(np.arange(2))
    model = small_model(vocab_size=257, block_size=BLOCK, dropout=0.0)
    checkpoint.save(model, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    mean = theirs(inputs, labels=inputs, shift_labels=targets).loss
    for loss in (model(inputs, targets), ResponseModel(model)(inputs, targets)):
        assert loss.item() / data.targets(np.arange(2)) == pytest.approx(mean.item(), rel=1e-5)


def test_examples_longer_than_the_context_are_left_out_and_counted():
    data = Responses([ROWS[0], LONG], TOKENIZER, BLOCK, "train.jsonl")
    assert (len(data), data.skipped, data.rows) == (1, 1, [ROWS[0]])
    with pytest.raises(InputError, match="train.jsonl: contains no example that fits"):
        Responses([LONG], TOKENIZER, BLOCK, "train.jsonl")


def test_rouge_l_by_hand():
    expected, given = ["the cat sat", "the cat sat", "a"], ["the cat sat", "the dog sat", "b"]
    assert rouge_l(expected, given).tolist() == pytest.approx([1, 2 / 3, 0])


def tuned(scratch, **changes) -> Instructed:
    """A small model, tuned on the rows."""
    return finetune(
        small_model(vocab_size=257, block_size=BLOCK, dropout=0.0),
        TOKENIZER,
        {"train": ROWS * 8, "val": ROWS, "test": [LONG, *SPACED]},
        params(**changes),
        source=scratch,
        seed=0,
        scratch=scratch,
        world=ALONE,
    )


@pytest.mark.parametrize(("method", "precision"), [("full", "float32"), ("lora", "auto")])
def test_tuning_lowers_the_loss_of_responses(tmp_path, method, precision):
    done = tuned(tmp_path, method=method, steps=40, lr=0.02, precision=precision)
    assert done.metrics["val_loss"] < 0.85 * done.metrics["val_loss_before"]
    assert done.metrics["test_loss"] < 0.85 * done.metrics["test_loss_before"] and done.metrics["test_examples"] == 2
    assert done.metrics["n"] == 2 and len(done.responses) == 2
    if method == "full":
        assert done.metrics["exact_match"] == 1.0 and done.metrics["rouge_l"] == 1.0
        assert [row["tuned"] for row in done.responses] == [row["output"] for row in ROWS]
    assert [done.metrics[f"skipped_{split}"] for split in ("train", "val", "test")] == [0, 0, 1]
    assert (done.metrics["trainable_share"] == 1.0) == (method == "full")
    assert all(row.keys() == {"instruction", "input", "expected", "base", "tuned"} for row in done.responses)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_weights_of_the_lowest_loss_are_kept_and_patience_ends_training(tmp_path, method):
    """A learning rate at which the loss soon rises."""
    done = tuned(tmp_path, method=method, steps=200, lr=0.5, eval_every=1, patience=2, responses=1)
    losses = {row["step"]: row["loss"] for row in done.history.val}
    assert done.metrics["best_step"] == min(losses, key=losses.get) == max(losses) - 2 < 198
    data = Responses(ROWS, TOKENIZER, BLOCK, "val.jsonl")
    kept = mean_loss(ResponseModel(done.model.eval()), data, 4, ALONE)
    assert kept == pytest.approx(min(losses.values()), rel=1e-5)
    assert done.metrics["val_loss"] == min(losses.values())


def test_with_lora_the_answers_are_those_of_the_merged_model(tmp_path):
    """Adapters as large as the weights, so that the model before and the one after merging would tell them apart."""
    done = tuned(tmp_path, method="lora", steps=8, lr=0.1)
    assert not list(lora.adapters(done.model))
    lora.unmerge(done.model, done.adapters)
    assert list(lora.adapters(done.model))
    lora.merge(done.model)
    assert answer(done.model, TOKENIZER, ROWS, params()) == [row["tuned"] for row in done.responses]


def test_a_judge_scores_the_answers_of_both_models(tmp_path):
    with judging("10", "20", "80", "no idea") as (judge, script):
        done = tuned(tmp_path, steps=2, judge=judge.model_dump())
    assert [(row["base_score"], row["tuned_score"]) for row in done.responses] == [(10, 80), (20, None)]
    assert (done.metrics["judge_score_before"], done.metrics["judge_score"]) == (10, 80)
    texts = [body["messages"][0]["content"] for body in script.asked]
    for row, base, after in zip(done.responses, texts[:2], texts[2:], strict=True):
        assert row["base"] in base and row["tuned"] in after and row["expected"] in base


def test_a_judge_that_fails_costs_no_more_than_the_steps_since_the_last_checkpoint(tmp_path):
    with judging(401) as (judge, _), pytest.raises(InputError, match="401"):
        tuned(tmp_path, judge=judge.model_dump())
    assert not list(tmp_path.iterdir())  # the error comes before training
    with judging("1", "2", 401) as (judge, _), pytest.raises(InputError, match="401"):
        tuned(tmp_path, judge=judge.model_dump())
    assert [path.name for path in Checkpoints(tmp_path).paths()] == ["step_00000008.pt", "step_00000004.pt"]
    with judging("1", "2", "3", "4") as (judge, _):
        again = tuned(tmp_path, judge=judge.model_dump())
    losses = ([row["loss"] for row in done.history.train] for done in (again, tuned(tmp_path / "whole")))
    np.testing.assert_allclose(*losses, rtol=1e-5)
