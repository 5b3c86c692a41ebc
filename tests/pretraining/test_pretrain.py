"""Pretraining's samples and figures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.config.params import TrainParams
from gpt2.evaluation.hellaswag import Example, score
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.model.openai import openai_config
from gpt2.pretraining.pretrain import Pretrained, TokenWindows, flops_per_token, openai_model, pretrain, unigram_entropy
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream
from gpt2.training.trainer import mean_loss
from tests.small import ALONE, OPTIM, byte_tokenizer, small_model, write_shards

TOKENIZER = byte_tokenizer()


@pytest.fixture
def stream(tmp_path) -> TokenStream:
    batches = [("train", ["abcdefghij" * 20, "xyz" * 50]), ("val", ["aab"])]
    write_shards(tmp_path, batches, TOKENIZER, shard_tokens=100)
    return TokenStream(tmp_path, "train", TOKENIZER)


def test_windows_cover_the_stream_and_targets_are_one_token_later(stream):
    data = TokenWindows(stream, block_size=16)
    assert len(data) == (len(stream) - 1) // 16
    inputs, targets = data.batch(np.arange(len(data)))
    whole = torch.from_numpy(stream.read(0, len(data) * 16 + 1).astype(np.int64))
    assert torch.equal(inputs.flatten(), whole[:-1]) and torch.equal(targets.flatten(), whole[1:])
    assert data.targets(np.arange(3)) == 48
    assert len(TokenWindows(stream, block_size=16, max_tokens=40)) == 2


def test_a_stream_shorter_than_a_window_is_named(stream):
    with pytest.raises(InputError, match=r"the train split gives 352 tokens.*model\.block_size = 352"):
        TokenWindows(stream, block_size=352)


def test_unigram_entropy_against_a_count_by_hand(stream, tmp_path):
    val = TokenStream(tmp_path, "val", TOKENIZER)  # <|endoftext|> a a b
    assert unigram_entropy(val, TOKENIZER.vocab_size) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))


def test_flops_of_the_124m_model():
    """6 N + 12 L C T with N = 123,653,376: all parameters but the 1,024 positions."""
    config = openai_config("gpt2")
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert flops_per_token(config, parameters) == 6 * 123_653_376 + 12 * 12 * 768 * 1024


# --- where training begins -----------------------------------------------------------------------------------------

PARAMS = TrainParams(
    **OPTIM | {"steps": 0},
    init="gpt2",
    launcher="-",
    val_tokens=100,
    sample_prompt="a",
    hellaswag_every=None,
)
EXAMPLE = Example(ind=0, ctx="ab", endings=["c d", "x yz", "efg", "hij"], label=2, activity_label="letters")


@pytest.fixture
def saved(tmp_path):
    """A model directory with the vocabulary of the stream."""
    directory = tmp_path / "gpt2"
    checkpoint.save(small_model(vocab_size=TOKENIZER.vocab_size), directory)
    TOKENIZER.save(directory)
    return directory


def accuracy(model: GPT) -> dict[str, float]:
    metrics, _ = score(model, TOKENIZER, [EXAMPLE] * 3, "completion", ALONE)
    return {"acc_norm": metrics["acc_norm"]}


def run(model: GPT, data: TokenWindows, params: TrainParams, place: Path) -> Pretrained:
    scratch = place / "scratch"
    return pretrain(model, data, data, TOKENIZER, params, seed=1, scratch=scratch, world=ALONE, score=accuracy)


def test_completions_are_scored_every_few_steps(stream, tmp_path):
    model = small_model(vocab_size=TOKENIZER.vocab_size)
    params = PARAMS.model_copy(update={"steps": 18, "hellaswag_every": 8})
    done = run(model, TokenWindows(stream, block_size=16), params, tmp_path)
    assert [row["step"] for row in done.history.val] == [0, 4, 8, 12, 16, 18]
    assert [row["step"] for row in done.history.val if "acc_norm" in row] == [0, 8, 16]
    untrained = small_model(vocab_size=TOKENIZER.vocab_size)
    assert done.history.val[0]["acc_norm"] == accuracy(untrained)["acc_norm"]


def test_no_steps_leave_the_weights_and_measure_their_loss(stream, saved, tmp_path):
    model = openai_model(saved, TOKENIZER)
    data = TokenWindows(stream, block_size=16)
    done = run(model, data, PARAMS, tmp_path)
    loaded = checkpoint.load(saved)
    assert all(torch.equal(a, b) for a, b in zip(done.model.parameters(), loaded.parameters(), strict=True))
    assert done.metrics["initial_loss"] == done.metrics["val_loss"] == mean_loss(loaded.eval(), data, 4, ALONE)
    assert (done.metrics["steps"], done.metrics["tokens"], done.metrics["train_loss"]) == (0, 0, None)
    assert done.history.train == [] and len(done.history.samples) == 1


def test_a_checkpoint_that_was_left_out_or_is_of_another_vocabulary_is_named(saved, tmp_path):
    write_json(tmp_path / "none" / "manifest.json", {"source": "none"})
    with pytest.raises(
        InputError, match=r"none: OpenAI's weights were left out; set data\.gpt2\.source to hub or local"
    ):
        openai_model(tmp_path / "none", TOKENIZER)
    other = Tokenizer([(b"a", b"b")])
    with pytest.raises(InputError, match=r"not of its vocabulary of 257; set tokenizer\.source to checkpoint"):
        openai_model(saved, other)
