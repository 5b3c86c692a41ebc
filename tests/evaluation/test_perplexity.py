"""Perplexity: each token is scored once with enough context, and the loop of transformers' guide agrees."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2LMHeadModel

from gpt2.common.progress import bar
from gpt2.evaluation import perplexity
from gpt2.evaluation.perplexity import Likelihood, Window, batches, score, windows
from gpt2.model import checkpoint, loss
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import small_model
from tests.tokenizer.test_bpe import ENGLISH

TEXTS = [*ENGLISH, "", "a", "日本語 👍 café"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A small vocabulary."""
    return Tokenizer(train_bpe(ENGLISH, 300))


def scored(tokenizer: Tokenizer, texts=TEXTS, stride=6, precision="float32", double=False) -> Likelihood:
    """Scores texts with a small model whose context is 16 tokens."""
    model = small_model(vocab_size=tokenizer.vocab_size)
    with bar(disable=True) as progress:
        return score(model.double() if double else model, tokenizer, texts, stride, precision, progress)


@given(st.lists(st.integers(), max_size=40), st.integers(2, 12), st.data())
def test_each_token_is_scored_once_with_enough_context(tokens, length, data):
    stride = data.draw(st.integers(1, length - 1))
    begun, ids = [], []
    for i, (window, new) in enumerate(windows(tokens, length, stride)):
        assert len(window) <= length and window == tokens[i * stride :][: len(window)]
        begun.append(len(window) - new)
        ids += window[-new:]
    assert ids == tokens[1:]
    assert begun[:1] in ([], [1]) and set(begun[1:]) <= {length - stride}


@given(st.lists(st.integers(2, 9), max_size=30), st.integers(1, 40))
def test_batches_hold_every_window_once_and_respect_the_limit(lengths, limit):
    made = list(batches(iter([Window([i] * length, 1) for i, length in enumerate(lengths)]), limit))
    assert sorted(window.tokens[0] for batch in made for window in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(len(window.tokens) for window in batch) <= limit
    assert [len(window.tokens) for batch in made for window in batch[::-1]] == sorted(lengths, reverse=True)


@pytest.mark.parametrize("stride", [1, 6, 8, 15])
def test_results_equal_the_loop_of_transformers_guide(tokenizer, tmp_path, stride):
    checkpoint.save(small_model(vocab_size=tokenizer.vocab_size), tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path).double().eval()
    nats, tokens = 0.0, 0
    texts = [text[: 40 * stride] for text in TEXTS]  # theirs takes a pass for every `stride` tokens
    for text in texts:
        ids, scored_to = torch.tensor([[tokenizer.eot, *tokenizer.encode(text)]]), 1
        for begin in range(0, ids.size(1), stride):
            end = min(begin + 16, ids.size(1))
            if end > scored_to:
                labels = ids[:, begin:end].clone()
                labels[:, : scored_to - begin] = -100
                with torch.no_grad():
                    nats += theirs(ids[:, begin:end], labels=labels).loss.item() * (end - scored_to)
                tokens, scored_to = tokens + end - scored_to, end
    found = scored(tokenizer, texts, stride, double=True)
    assert (found.tokens, found.bytes) == (tokens, sum(len(text.encode()) for text in texts))
    assert found.nats == pytest.approx(nats, rel=1e-6)
    assert scored(tokenizer, texts, stride).nats == pytest.approx(nats, rel=1e-5)


def test_chunks_and_batch_sizes_do_not_change_the_result(tokenizer, monkeypatch):
    expected = scored(tokenizer, double=True)
    monkeypatch.setattr(loss, "CHUNK", 900)
    monkeypatch.setattr(perplexity, "BATCH_TOKENS", 40)
    monkeypatch.setattr(perplexity, "SORTED_WINDOWS", 5)
    found = scored(tokenizer, double=True)
    assert found.nats == pytest.approx(expected.nats, rel=1e-7)
    assert (found.tokens, found.bytes) == (expected.tokens, expected.bytes)


def test_bfloat16_changes_the_likelihood_little(tokenizer):
    assert scored(tokenizer, precision="bfloat16").nats == pytest.approx(scored(tokenizer).nats, rel=2e-3)


def test_units():
    found = Likelihood(nats=8 * math.log(2) * 10, tokens=10, bytes=40, documents=1)  # 8 bits per token
    assert found.perplexity == pytest.approx(256)
    assert found.bits_per_byte == pytest.approx(2)
    assert found.nats_per_token == pytest.approx(math.log(256))
    assert Likelihood(nats=1e6, tokens=1, bytes=1, documents=1).perplexity == math.inf
