"""Loss spikes against losses made by hand."""

import numpy as np

from gpt2.training.spikes import DEVIATIONS, WINDOW, count_spikes, is_spike


def rows(losses) -> list[dict]:
    return [{"loss": float(loss)} for loss in losses]


def test_the_threshold_is_that_of_the_window_before():
    losses = np.random.default_rng(0).normal(3, 0.1, WINDOW)
    limit = losses.mean() + DEVIATIONS * losses.std()
    assert is_spike(rows([9, *losses, limit + 1e-9])) and not is_spike(rows([9, *losses, limit - 1e-9]))


def test_spikes_are_counted_and_a_falling_loss_has_none():
    steps = np.arange(400)
    losses = 3 + 7 * np.exp(-steps / 40) + np.random.default_rng(1).normal(0, 0.05, 400)
    assert count_spikes(rows(losses)) == 0
    losses[[60, 200, 300]] += 8  # within the fall it undoes all of it
    assert count_spikes(rows(losses)) == 3
    losses[WINDOW - 1] += 100  # too early to be judged
    assert not is_spike(rows(losses[:WINDOW]))
    assert count_spikes([]) == 0
