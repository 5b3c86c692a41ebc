"""Attention: the weights against transformers, the scores on heads made by hand."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2 import attention, weights
from gpt2.errors import InputError
from tests.small import byte_tokenizer, small_model

T, PERIOD = 12, 6
PROMPTS = ("a cat sat", "né\n")


def looking_at(offset: int, size: int = T) -> torch.Tensor:
    """A head (1, 1, T, T) in which each position looks at the one `offset` before it, or at the first."""
    rows = torch.arange(size)
    head = torch.zeros(size, size)
    head[rows, (rows - offset).clamp(min=0)] = 1
    return head[None, None]


@pytest.fixture(scope="module")
def readings() -> list[attention.Reading]:
    return attention.read(small_model(vocab_size=257), byte_tokenizer(), PROMPTS)


def test_weights_are_those_of_transformers(tmp_path):
    model = small_model()
    weights.save(model, tmp_path)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    idx = torch.randint(300, (3, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = torch.stack(theirs(idx, output_attentions=True).attentions)
    torch.testing.assert_close(attention.capture(model, idx), expected, rtol=0, atol=1e-5)


def test_a_reading_has_a_distribution_over_the_past_in_every_row(readings):
    for reading, text in zip(readings, PROMPTS, strict=True):
        size = len(text.encode())
        assert reading.weights.shape == (2, 4, size, size) and len(reading.tokens) == size
        torch.testing.assert_close(reading.weights.sum(-1), torch.ones(2, 4, size))
        assert (reading.weights.triu(1) == 0).all()


@pytest.mark.parametrize("text", ["ab", "", "seventeen letters"])
def test_a_prompt_that_is_too_short_or_too_long_is_named(text):
    with pytest.raises(InputError, match=rf"attention.prompts\[1\].*{len(text)} tokens: expected 3 to 16"):
        attention.read(small_model(vocab_size=257), byte_tokenizer(), ["fine", text])


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (b" the", "·the"),
        (b"\n\n", "↵↵"),
        (b"\t", "\\t"),
        ("né日😀".encode(), "né日😀"),
        (b"\xe2\x80", "\\xe2\\x80"),  # the beginning of a character
        (b"\x00", "\\x00"),
        ("\u202e".encode(), "\\u202e"),  # would turn the text around
        (b"</script>$", "</script>$"),
        (b"<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_labels_are_printable(token, label):
    assert attention.label(token) == label
    assert label.isprintable()


@pytest.mark.parametrize(
    ("head", "perfect"),
    [
        (looking_at(1), "previous_token"),
        (looking_at(T), "first_token"),
        (looking_at(PERIOD), "duplicate_token"),
        (looking_at(PERIOD - 1), "induction"),
        (attention.uniform(T), "entropy"),
    ],
)
def test_a_pure_head_scores_one_for_what_it_does_and_little_for_the_rest(head, perfect):
    scores = attention.head_scores([head], head[:, None])
    assert scores.pop(perfect).item() == pytest.approx(1)
    for name, score in scores.items():
        assert 0 <= score.item() < 0.6, name


def test_scores_of_uniform_attention_are_means_of_equal_shares():
    head = attention.uniform(T)
    scores = attention.head_scores([head], head[:, None])
    assert scores["previous_token"].item() == pytest.approx(np.mean([1 / (t + 1) for t in range(1, T)]))
    assert scores["first_token"].item() == pytest.approx(np.mean([1 / (t + 1) for t in range(2, T)]))
    assert scores["induction"].item() == pytest.approx(np.mean([1 / (t + 1) for t in range(PERIOD, T)]))


def test_entropy_of_two_equal_shares_is_one_bit():
    head = torch.zeros(1, 1, 4, 4)
    head[..., 0, 0] = 1
    head[..., 1:, :2] = 0.5
    expected = np.mean([math.log(2) / math.log(seen) for seen in (2, 3, 4)])
    assert attention.entropy(head).item() == pytest.approx(expected)


@pytest.mark.parametrize(("vocab_size", "block_size", "period"), [(4096, 256, 50), (4096, 16, 8), (6, 256, 5)])
def test_random_tokens_stand_twice_and_differ_within_a_period(vocab_size, block_size, period):
    idx = attention.repeated_tokens(vocab_size, block_size, seed=3)
    assert idx.shape == (attention.RANDOM_SEQUENCES, 2 * period)
    assert (idx[:, :period] == idx[:, period:]).all()
    assert all(len(set(row.tolist())) == period for row in idx)
    assert idx.max() < vocab_size - 1  # <|endoftext|> is left out
    assert (idx == attention.repeated_tokens(vocab_size, block_size, seed=3)).all()


def test_scores_and_metrics_of_a_model(readings):
    scores, uniform = attention.score_heads(small_model(vocab_size=257), readings, seed=0)
    rows = attention.rows(scores)
    assert [(row["layer"], row["head"]) for row in rows] == [(layer, head) for layer in range(2) for head in range(4)]
    assert all(0 <= row[name] <= 1 for row in rows for name in scores)
    metrics = attention.metrics(scores, uniform)
    best = metrics["induction"]
    assert best["value"] == pytest.approx(max(row["induction"] for row in rows), abs=1e-6)
    assert best["value"] == pytest.approx(rows[4 * best["layer"] + best["head"]]["induction"], abs=1e-6)
    assert metrics["mean_entropy"] == pytest.approx(np.mean([row["entropy"] for row in rows]), abs=1e-6)
    json.dumps(metrics)


def test_the_viewer_s_bytes_are_the_weights(readings):
    data = json.loads(json.dumps(attention.viewer_data(readings)))
    assert (data["n_layer"], data["n_head"]) == (2, 4)
    for prompt, reading in zip(data["prompts"], readings, strict=True):
        assert prompt["tokens"] == reading.tokens
        for (layer, head), value in np.ndenumerate(np.empty((2, 4))):
            packed = base64.b64decode(prompt["weights"][layer][head])
            size = len(reading.tokens)
            assert len(packed) == size * (size + 1) // 2
            for t in range(size):
                for s in range(t + 1):
                    value = packed[t * (t + 1) // 2 + s] / 255
                    assert value == pytest.approx(reading.weights[layer, head, t, s].item(), abs=0.5 / 255 + 1e-6)
