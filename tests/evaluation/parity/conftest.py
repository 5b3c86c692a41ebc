"""A small checkpoint, and the same weights in both models."""

from functools import partial

import pytest
from transformers import AutoTokenizer

from gpt2.evaluation.parity.pairs import Pair, from_checkpoint
from gpt2.model import checkpoint
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import small_model

TEXT = "the cat sat on the mat, and the dog sat on the log"


@pytest.fixture
def directory(tmp_path):
    """Its own generation settings must not reach the comparisons."""
    tokenizer = Tokenizer(train_bpe([TEXT], 270))
    settings = {"do_sample": True, "temperature": 0.3, "top_k": 3, "top_p": 0.5, "max_new_tokens": 2}
    model = small_model(block_size=32, vocab_size=tokenizer.vocab_size)
    checkpoint.save_with_tokenizer(model, tokenizer, tmp_path, settings)
    return tmp_path


def other_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes transformers put a space before each text. In the files, ours would refuse that setting."""
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", partial(AutoTokenizer.from_pretrained, add_prefix_space=True))


@pytest.fixture
def pair(directory) -> Pair:
    return from_checkpoint("small", directory)
