"""Batches: each sample once per epoch, similar lengths together, the same order for the same seed and step."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.training.batches import BatchOrder

SHORT_TO_LONG = np.random.default_rng(0).lognormal(4.5, 0.8, 3000).clip(1, 1024).astype(int)  # as those of texts


def padding(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """The share of the places in padded batches of these samples that hold no token."""
    places = sum(len(ids) * lengths[ids].max() for ids in batches)
    return 1 - sum(lengths[ids].sum() for ids in batches) / places


@given(n=st.integers(1, 40), batch_size=st.integers(1, 12), varied=st.booleans(), seed=st.integers(0, 9))
def test_every_sample_comes_once_per_epoch(n, batch_size, varied, seed):
    """After any number of batches, the counts of any two samples differ by one at most."""
    order = BatchOrder(n, batch_size, seed, SHORT_TO_LONG[:n] if varied else None)
    counts = np.zeros(n, dtype=int)
    for step in range(3 * math.lcm(n, batch_size) // batch_size):
        np.add.at(counts, order.ids(step), 1)
        places = (step + 1) * batch_size
        assert counts.max() <= math.ceil(places / n) and counts.min() >= places // n
    assert (counts == counts[0]).all()


@given(n=st.integers(1, 300), batch_size=st.integers(1, 20))
def test_equal_lengths_give_the_batches_of_no_lengths(n, batch_size):
    """Sorting only ever moves samples between the batches of a chunk, and never across epochs."""
    plain, alike = BatchOrder(n, batch_size, 1), BatchOrder(n, batch_size, 1, np.full(n, 7))
    steps = range(math.lcm(n, batch_size) // batch_size)
    batches = [sorted(map(tuple, map(sorted, (order.ids(step) for step in steps)))) for order in (plain, alike)]
    assert batches[0] == batches[1]


def test_batches_of_similar_lengths_need_little_padding():
    order, plain = BatchOrder(3000, 32, 0, SHORT_TO_LONG), BatchOrder(3000, 32, 0)
    found, without = ([source.ids(step) for step in range(200)] for source in (order, plain))
    assert padding(SHORT_TO_LONG, found) < 0.25 * padding(SHORT_TO_LONG, without)
    for ids in found:
        assert (np.diff(SHORT_TO_LONG[ids]) >= 0).all()  # and so micro-batches need even less


def test_short_and_long_batches_take_turns():
    """If they were only sorted, the model would see long samples for many steps in a row."""
    order = BatchOrder(3000, 32, 0, SHORT_TO_LONG)
    means = np.array([SHORT_TO_LONG[order.ids(step)].mean() for step in range(90)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


@pytest.mark.parametrize("lengths", [None, SHORT_TO_LONG[:50]], ids=["alike", "varied"])
def test_a_batch_depends_on_seed_and_step_alone(lengths):
    forwards, backwards = BatchOrder(50, 8, 3, lengths), BatchOrder(50, 8, 3, lengths)
    expected = [forwards.ids(step) for step in range(20)]
    for step in reversed(range(20)):
        np.testing.assert_array_equal(backwards.ids(step), expected[step])
    other = BatchOrder(50, 8, 4, lengths)
    assert any((other.ids(step) != expected[step]).any() for step in range(20))
