"""A small checkpoint, and the same weights in both models."""

import pytest

from gpt2.evaluation.parity.pairs import Pair, from_checkpoint
from gpt2.model import checkpoint
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import small_model

TEXT = "the cat sat on the mat, and the dog sat on the log"


@pytest.fixture
def directory(tmp_path):
    tokenizer = Tokenizer(train_bpe([TEXT], 270))
    tokenizer.save(tmp_path)
    checkpoint.save(small_model(block_size=32, vocab_size=tokenizer.vocab_size), tmp_path)
    return tmp_path


@pytest.fixture
def pair(directory) -> Pair:
    return from_checkpoint("small", directory)
