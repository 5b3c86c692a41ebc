"""Responses as samples: they alone are scored, examples that do not fit are counted, the loss is transformers'."""

import math

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.common.errors import InputError
from gpt2.instruction.alpaca import exchanges, prompt
from gpt2.instruction.responses import ResponseModel, Responses, losses
from gpt2.model import checkpoint
from gpt2.model.loss import IGNORE
from tests.instruction.rows import BLOCK, LONG, ROWS, TOKENIZER
from tests.small import ALONE, small_model


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
    mean = theirs(inputs, labels=inputs, shift_labels=targets).loss.item()
    for loss in (model(inputs, targets), ResponseModel(model)(inputs, targets)):
        assert loss.item() / data.targets(np.arange(2)) == pytest.approx(mean, rel=1e-5)
    found = losses(ResponseModel(model), data, 1, ALONE)
    assert found["loss"] == pytest.approx(mean, rel=1e-5)
    size = len("abc" + "Good morning to you all.")
    assert found["bits_per_byte"] == pytest.approx(mean * (size + 2) / size / math.log(2), rel=1e-5)  # two ends


def test_bytes_are_those_of_the_text():
    rows = [{"instruction": "Greet.", "input": "", "output": "Grüß dich 🙂"}]
    assert Responses(rows, TOKENIZER, BLOCK, "train.jsonl").bytes == len("Grüß dich 🙂".encode())


def test_examples_longer_than_the_context_are_left_out_and_counted():
    data = Responses([ROWS[0], LONG], TOKENIZER, BLOCK, "train.jsonl")
    assert (len(data), data.skipped, data.rows) == (1, 1, [ROWS[0]]) and data.bytes == 3
    with pytest.raises(InputError, match="train.jsonl: contains no example that fits"):
        Responses([LONG], TOKENIZER, BLOCK, "train.jsonl")


CHAT = {
    "messages": [
        {"role": "user", "content": "Name a color."},
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "Another."},
        {"role": "assistant", "content": "Blue<|endoftext|>"},
    ]
}
HEADER = prompt("").partition("###")[0]
SECOND = "\n\n### Instruction:\nAnother.\n\n### Response:\n"


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
@pytest.mark.parametrize("answers", ["last", "all"])
def test_a_conversation_is_one_sample_and_its_last_answer_is_scored_or_all_are(answers, system):
    """The tokens that end an answer are not those of a text that spells <|endoftext|>."""
    row = {"messages": system + CHAT["messages"]}
    data = Responses([row, ROWS[0]], TOKENIZER, 2 * BLOCK, "train.jsonl", answers)
    inputs, targets = data.batch(np.arange(1))
    first = prompt("Name a color.").replace(HEADER, "Be brief.\n\n" if system else HEADER)
    encode, end = TOKENIZER.encode, [TOKENIZER.eot]
    answer, last = encode("Red.") + end, encode("Blue<|endoftext|>") + end
    ids = encode(first) + answer + encode(SECOND) + last
    scored = [IGNORE] * len(encode(first)) + (answer if answers == "all" else [IGNORE] * len(answer))
    scored += [IGNORE] * len(encode(SECOND)) + last
    assert inputs[0].tolist() == ids[:-1] and targets[0].tolist() == scored[1:]
    assert data.bytes == len("Blue<|endoftext|>abc") + (len("Red.") if answers == "all" else 0)
    assert data.targets(np.arange(1)) == (targets != IGNORE).sum()


def test_a_conversation_of_one_question_is_an_instruction():
    alone = {"messages": CHAT["messages"][:2]}
    assert exchanges(alone) == exchanges({"instruction": "Name a color.", "input": "", "output": "Red."})
