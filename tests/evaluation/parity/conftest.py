"""A small checkpoint, and the same weights in both models."""

from pathlib import Path

import pytest

from gpt2.common.files import read_json, write_json
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


def other_tokenizer(directory: Path) -> None:
    """Makes transformers put a space before each text. Ours reads only the vocabulary and the merges."""
    path = directory / "tokenizer_config.json"
    write_json(path, read_json(path) | {"add_prefix_space": True})


@pytest.fixture
def pair(directory) -> Pair:
    return from_checkpoint("small", directory)
