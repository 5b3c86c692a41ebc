"""Scores and rollout have known values for constructed heads."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2.interpret import scores

T, PERIOD = 12, 6


def looking_at(offset: int, size: int = T) -> torch.Tensor:
    """A head (1, 1, T, T) in which each position attends to the one `offset` before it, or to the first."""
    rows = torch.arange(size)
    head = torch.zeros(size, size)
    head[rows, (rows - offset).clamp(min=0)] = 1
    return head[None, None]


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
    assert scores.label(token) == label
    assert label.isprintable()


@pytest.mark.parametrize(
    ("head", "perfect"),
    [
        (looking_at(1), "previous_token"),
        (looking_at(T), "first_token"),
        (looking_at(PERIOD), "duplicate_token"),
        (looking_at(PERIOD - 1), "induction"),
        (scores.uniform(T), "entropy"),
    ],
)
def test_a_pure_head_scores_one_for_its_kind_and_little_for_others(head, perfect):
    values = scores.text_scores(head) | scores.repetition_scores(head)
    assert values.pop(perfect).item() == pytest.approx(1)
    for name, score in values.items():
        assert 0 <= score.item() < 0.6, name


def test_scores_of_uniform_attention_are_means_of_equal_shares():
    head = scores.uniform(T)
    values = scores.text_scores(head) | scores.repetition_scores(head)
    assert values["previous_token"].item() == pytest.approx(np.mean([1 / (t + 1) for t in range(1, T)]))
    assert values["first_token"].item() == pytest.approx(np.mean([1 / (t + 1) for t in range(2, T)]))
    assert values["induction"].item() == pytest.approx(np.mean([1 / (t + 1) for t in range(PERIOD, T)]))


def test_entropy_of_two_equal_shares_is_one_bit():
    head = torch.zeros(1, 1, 4, 4)
    head[..., 0, 0] = 1
    head[..., 1:, :2] = 0.5
    expected = np.mean([math.log(2) / math.log(seen) for seen in (2, 3, 4)])
    assert scores.entropy(head).item() == pytest.approx(expected)


@pytest.mark.parametrize(("eot", "block_size", "period"), [(4095, 256, 50), (4095, 16, 8), (5, 256, 5)])
def test_random_tokens_repeat_once_and_differ_within_a_period(eot, block_size, period):
    idx = scores.repeated_tokens(eot, block_size, seed=3)
    assert idx.shape == (scores.RANDOM_SEQUENCES, 2 * period)
    assert (idx[:, :period] == idx[:, period:]).all()
    assert all(len(set(row.tolist())) == period for row in idx)
    assert idx.max() < eot  # <|endoftext|> is left out
    assert (idx == scores.repeated_tokens(eot, block_size, seed=3)).all()


# --- rollout -------------------------------------------------------------------------------------------------------


@given(
    shape=st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 9)), sharpness=st.floats(0, 20), seed=st.integers(0, 99)
)
def test_a_rollout_s_rows_are_distributions_over_the_past(shape, sharpness, seed):
    n_layer, n_head, size = shape
    logits = sharpness * torch.randn(n_layer, n_head, size, size, generator=torch.Generator().manual_seed(seed))
    A = logits.masked_fill(~torch.ones(size, size, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    rolled = scores.rollout(A)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(size))
    assert (rolled.triu(1) == 0).all() and (rolled >= 0).all()


def test_the_rollout_of_heads_that_attend_to_themselves_is_the_identity():
    torch.testing.assert_close(scores.rollout(torch.eye(5).expand(3, 2, 5, 5)), torch.eye(5))


def test_a_rollout_of_two_layers_by_hand():
    heads = [[[1, 0], [1, 0]], [[1, 0], [0, 1]]]  # the mean of the two: 0.5 from the first token, 0.5 from itself
    first, second = torch.tensor(heads), torch.tensor([[[1, 0], [1, 0]]] * 2)
    # Half the residual: layer 0 gives the second token 0.25 of the first; layer 1 takes 0.5, and keeps 0.5 of that.
    expected = torch.tensor([[1, 0], [0.5 + 0.5 * 0.25, 0.5 * 0.75]])
    torch.testing.assert_close(scores.rollout(torch.stack([first, second]).float()), expected)
