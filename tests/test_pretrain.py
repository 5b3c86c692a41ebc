"""Pretraining's samples and figures."""

import math

import numpy as np
import pytest
import torch

from gpt2.config import openai_config
from gpt2.errors import InputError
from gpt2.model import GPT
from gpt2.pretrain import TokenWindows, flops_per_token, unigram_entropy
from gpt2.shards import TokenStream, write_shards
from tests.small import byte_tokenizer

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
