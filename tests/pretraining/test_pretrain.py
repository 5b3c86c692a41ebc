"""Pretraining's samples and figures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.config.params import TrainParams
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.model.openai import openai_config
from gpt2.pretraining.pretrain import (
    Pretrained,
    TokenWindows,
    bits_per_byte,
    flops_per_token,
    openai_model,
    pretrain,
    unigram_entropy,
)
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.shards import TokenStream
from gpt2.training.loss import mean_loss
from tests.small import ALONE, OPTIM, RUN, byte_tokenizer, small_model, write_shards

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
    assert len(TokenWindows(stream, block_size=16, max_tokens=1)) == 1
    counts = np.bincount(targets.flatten(), minlength=TOKENIZER.vocab_size)
    np.testing.assert_array_equal(data.frequencies(TOKENIZER.vocab_size), counts)


def test_a_stream_shorter_than_a_window_is_named(stream):
    with pytest.raises(InputError, match=r"the train split gives 352 tokens.*model\.block_size = 352"):
        TokenWindows(stream, block_size=352)


def test_entropy_and_bits_per_byte_against_a_count_by_hand():
    tokenizer = Tokenizer([(b"a", b"b")])
    frequencies = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    frequencies[tokenizer.encode("ab")], frequencies[tokenizer.encode("c")], frequencies[tokenizer.eot] = 2, 1, 1
    assert unigram_entropy(frequencies) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    # four tokens of one bit each, over the five bytes of "ab", "ab" and "c"
    assert math.log(2) * bits_per_byte(frequencies, tokenizer) == pytest.approx(4 / 5)


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
    val_tokens=100,
)


@pytest.fixture
def saved(tmp_path):
    """A model directory with the vocabulary of the stream."""
    directory = tmp_path / "gpt2"
    checkpoint.save(small_model(vocab_size=TOKENIZER.vocab_size), directory)
    TOKENIZER.save(directory)
    return directory


def run(model: GPT, data: TokenWindows, params: TrainParams, place: Path) -> Pretrained:
    return pretrain(model, data, data, TOKENIZER, params, seed=1, scratch=place / "scratch", **RUN)


@pytest.mark.parametrize(
    ("snapshots", "steps"), [(None, []), (7, [7, 14]), (18, [18]), (19, []), ((18, 0, 5, 5, 30), [0, 5, 18]), ((), [])]
)
def test_snapshots_are_kept_at_the_steps_that_are_asked_for(stream, tmp_path, capsys, snapshots, steps):
    model, data = small_model(vocab_size=TOKENIZER.vocab_size), TokenWindows(stream, block_size=16)
    before = model.wte.weight.clone()
    params = PARAMS.model_copy(update={"steps": 18, "snapshots": snapshots})
    done = run(model, data, params, tmp_path)
    assert [snapshot.step for snapshot in done.snapshots] == steps
    tokens = {0: 0} | {row["step"] + 1: row["targets"] for row in done.history.train}
    models = {}
    for snapshot in done.snapshots:
        assert snapshot.tokens == tokens[snapshot.step]
        models[snapshot.step], tokenizer = checkpoint.load_with_tokenizer(snapshot.directory, "cpu")
        assert tokenizer.fingerprint == TOKENIZER.fingerprint
    if 0 in models:
        assert torch.equal(models[0].wte.weight, before)
    if 18 in models:
        assert all(torch.equal(a, b) for a, b in zip(models[18].parameters(), model.parameters(), strict=True))
    assert (f"snapshots: {len(steps)} of" in capsys.readouterr().err) == bool(steps)


def test_no_steps_leave_the_weights_and_measure_their_loss(stream, saved, tmp_path):
    model = openai_model(saved, TOKENIZER)
    data = TokenWindows(stream, block_size=16)
    done = run(model, data, PARAMS, tmp_path)
    loaded = checkpoint.load(saved)
    assert all(torch.equal(a, b) for a, b in zip(done.model.parameters(), loaded.parameters(), strict=True))
    assert done.metrics["initial_loss"] == done.metrics["val_loss"] == mean_loss(loaded.eval(), data, 4, ALONE)
    assert (done.metrics["steps"], done.metrics["tokens"], done.metrics["train_loss"]) == (0, 0, None)
    assert done.history.train == []


def test_a_checkpoint_that_was_left_out_or_is_of_another_vocabulary_is_named(saved, tmp_path):
    write_json(tmp_path / "none" / "manifest.json", {"source": "none"})
    with pytest.raises(
        InputError, match=r"none: OpenAI's weights were left out; set data\.gpt2\.source to hub or local"
    ):
        openai_model(tmp_path / "none", TOKENIZER)
    other = Tokenizer([(b"a", b"b")])
    with pytest.raises(InputError, match=r"not of its vocabulary of 257; set tokenizer\.source to checkpoint"):
        openai_model(saved, other)
