"""Instructions: the response alone is scored, examples that do not fit are counted, tuning helps."""

import numpy as np
import pytest
import torch

from gpt2.config import InstructionParams
from gpt2.errors import InputError
from gpt2.instruction import Responses, finetune, prompt, rouge_l
from gpt2.model import IGNORE, summed_cross_entropy
from tests.small import ALONE, OPTIM, byte_tokenizer, small_model

TOKENIZER = byte_tokenizer()
BLOCK = 256
ROWS = [
    {"instruction": "Repeat.", "input": "abc", "output": "abc"},
    {"instruction": "Greet.", "input": "", "output": "Good morning to you all."},
]
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["attn.c_attn", "mlp.c_fc"]}


def params(**changes) -> InstructionParams:
    own = {"init": "pretrain", "method": "full", "lora": LORA, "responses": 2, "response_tokens": 30}
    return InstructionParams(**{**OPTIM, **own, **changes})


def test_only_the_response_and_its_end_are_targets():
    data = Responses(ROWS, TOKENIZER, BLOCK, "train.jsonl")
    inputs, targets = data.batch(np.arange(2))
    assert inputs.shape == targets.shape
    for row, i, t in zip(ROWS, inputs, targets, strict=True):
        assert TOKENIZER.decode(t[t != IGNORE].tolist()) == row["output"] + "<|endoftext|>"
        first = int((t != IGNORE).nonzero()[0])
        assert TOKENIZER.decode(i[: first + 1].tolist()) == prompt(row["instruction"], row["input"])
    assert data.targets(np.arange(2)) == int((targets != IGNORE).sum()) == sum(len(row["output"]) + 1 for row in ROWS)


def test_prompt_and_padding_have_no_gradient():
    data = Responses(ROWS, TOKENIZER, BLOCK, "train.jsonl")
    inputs, targets = data.batch(np.arange(2))
    model = small_model(vocab_size=257, block_size=BLOCK, dropout=0.0)
    logits = model(inputs).detach().requires_grad_()
    summed_cross_entropy(logits, targets).backward()
    scored = logits.grad.abs().sum(dim=2) > 0
    assert torch.equal(scored, targets != IGNORE)


def test_examples_longer_than_the_context_are_left_out_and_counted():
    long = {"instruction": "Tell.", "input": "", "output": "x" * 300}
    data = Responses([ROWS[0], long], TOKENIZER, BLOCK, "train.jsonl")
    assert (len(data), data.skipped, data.rows) == (1, 1, [ROWS[0]])
    with pytest.raises(InputError, match="train.jsonl: holds no example that fits"):
        Responses([long], TOKENIZER, BLOCK, "train.jsonl")


@pytest.mark.parametrize(("key", "value"), [("instruction", None), ("output", ""), ("input", 3)])
def test_a_bad_row_is_named(key, value):
    with pytest.raises(InputError, match=f"train.jsonl, line 2: {key} = {value!r}: expected a text"):
        Responses([ROWS[0], {**ROWS[1], key: value}], TOKENIZER, BLOCK, "train.jsonl")


def test_rouge_l_by_hand():
    assert rouge_l(["the cat sat"], ["the cat sat"]) == 1.0
    assert rouge_l(["the cat sat", "a"], ["the dog sat", "b"]) == pytest.approx((2 / 3) / 2)


@pytest.mark.parametrize(("method", "precision"), [("full", "float32"), ("lora", "auto")])
def test_tuning_lowers_the_loss_of_responses(tmp_path, method, precision):
    torch.manual_seed(0)
    done = finetune(
        small_model(vocab_size=257, block_size=BLOCK, dropout=0.0),
        TOKENIZER,
        {"train": ROWS * 8, "val": ROWS, "test": ROWS},
        params(method=method, steps=40, lr=0.02, precision=precision),
        source=tmp_path,
        seed=0,
        scratch=tmp_path,
        world=ALONE,
    )
    assert done.metrics["val_loss"] < 0.85 * done.metrics["val_loss_before"]
    assert done.metrics["n"] == 2 and len(done.responses) == 2
    if method == "full":
        assert done.metrics["exact_match"] == 1.0 and done.metrics["rouge_l"] == 1.0
        assert [row["tuned"] for row in done.responses] == [row["output"] for row in ROWS]
