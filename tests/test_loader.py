"""Batches: each sample once an epoch, the same for every way of cutting them."""

import numpy as np
import pytest

from gpt2.loader import BatchOrder


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (7, 7), (4, 9), (64, 8)])
def test_every_sample_comes_once_an_epoch(n, batch_size):
    order = BatchOrder(n, batch_size, seed=0)
    seen = np.concatenate([order.ids(step) for step in range(2 * n)])[: 2 * n]
    assert sorted(seen[:n]) == list(range(n)) == sorted(seen[n:])


def test_a_batch_depends_on_seed_and_step_alone():
    forwards, backwards = BatchOrder(50, 8, seed=3), BatchOrder(50, 8, seed=3)
    expected = [forwards.ids(step) for step in range(20)]
    for step in reversed(range(20)):
        np.testing.assert_array_equal(backwards.ids(step), expected[step])
    other = BatchOrder(50, 8, seed=4)
    assert any((other.ids(step) != expected[step]).any() for step in range(20))
