"""Embeddings: smoothness and cosines of known arrays, neighbors and norms of tokens."""

import numpy as np
import pytest

from gpt2.interpret import embeddings
from gpt2.interpret.embeddings import Embeddings
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import Tokenizer
from tests.small import small_model

NOISE = np.random.default_rng(0).normal(size=(1024, 64))


def test_noise_is_near_two():
    assert embeddings.smoothness(NOISE) == pytest.approx(2, abs=0.03)
    assert embeddings.smoothness(NOISE, axis=0) == pytest.approx(np.full(64, 2), abs=0.4)


def test_a_slow_curve_is_near_zero_and_a_zigzag_near_four():
    t = np.arange(1024)
    curves = np.stack([np.sin(2 * np.pi * t / 1024), (-1.0) ** t], axis=1)
    slow, zigzag = embeddings.smoothness(curves, axis=0)
    assert slow < 1e-3
    assert zigzag == pytest.approx(4, abs=0.01)


def test_the_widest_channels_come_first():
    w = NOISE[:, :4] * [1, 5, 2, 5]
    w[:, 3] = w[:, 1]  # the first of equals
    assert embeddings.widest(w, 3) == [1, 3, 2]


def test_metrics_separate_noise_from_a_curve():
    curve = np.linspace(0, 1, 1024)[:, None] + 0.01 * NOISE
    metrics = embeddings.metrics(Embeddings(curve, np.array([1.0, 2.0])), Embeddings(NOISE, np.array([0.5])))
    assert metrics["wpe_smoothness"] < 0.01 < 1.9 < metrics["wpe_smoothness_initial"]
    assert (metrics["wte_norm"], metrics["wte_norm_initial"]) == (1.5, 0.5)


def test_cosines_of_known_angles():
    rows = np.array([[1, 0], [0, 3], [-2, 0], [1, 1]])
    r = 2**-0.5
    expected = [[1, 0, -1, r], [0, 1, 0, r], [-1, 0, 1, -r], [r, r, -r, 1]]
    np.testing.assert_allclose(embeddings.cosines(rows), expected, atol=1e-12)


# --- tokens --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_bpe(["cats and dogs and rows and columns 123 ---- of it cats " * 9], 288))


def test_words_are_letters_and_each_comes_once(tokenizer):
    text = " cats and rows of cats and dogs, ---- 123 it and columns"
    spelt = [tokenizer.token_bytes(id).decode() for id in embeddings.words(tokenizer, tokenizer.encode(text))]
    assert spelt == [" cats", " and", " rows", " dogs", " columns"]
    assert embeddings.words(tokenizer, tokenizer.encode("né a, <|endoftext|> 12")) == []
    many = embeddings.words(tokenizer, range(256, tokenizer.vocab_size))
    assert len(many) == 8 == len(set(many))


def test_neighbors_are_the_nearest_by_cosine(tokenizer):
    model = small_model(vocab_size=tokenizer.vocab_size)
    ids = [280, 70]
    rows = embeddings.neighbor_rows("m", model, tokenizer, ids)
    cosines = embeddings.cosines(model.wte.weight.detach().double().numpy())
    np.fill_diagonal(cosines, -np.inf)
    for number, id in enumerate(ids):
        group = rows[5 * number : 5 * number + 5]
        assert [(row["model"], row["id"], row["rank"]) for row in group] == [("m", id, rank) for rank in range(1, 6)]
        assert [row["neighbor_id"] for row in group] == np.argsort(-cosines[id])[:5].tolist()
        assert [row["cosine"] for row in group] == pytest.approx(np.sort(cosines[id])[::-1][:5], abs=1e-5)


def test_norms_at_both_ends(tokenizer):
    norms = np.linspace(1, 2, tokenizer.vocab_size)
    norms[[40, 280]] = 0.5, 3
    rows = embeddings.norm_rows("m", norms, tokenizer)
    assert [row["id"] for row in rows[:2]] == [40, 0]
    assert [row["id"] for row in rows[5:7]] == [280, tokenizer.vocab_size - 1]
    assert rows[6]["token"] == "<|endoftext|>" and rows[0]["norm"] == 0.5
