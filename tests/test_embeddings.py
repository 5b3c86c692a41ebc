"""The smoothness of position embeddings, on columns whose smoothness is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2 import embeddings
from gpt2.model import GPT
from tests.small import CONFIG

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


@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_neither_scale_nor_offset_matters(scale, shift):
    offsets = shift * np.arange(64)  # of each channel its own
    assert embeddings.smoothness(scale * NOISE + offsets) == pytest.approx(embeddings.smoothness(NOISE))


def test_the_initial_positions_are_those_that_training_with_the_seed_begins_with():
    torch.manual_seed(5)
    expected = GPT(CONFIG).wpe.weight.detach().numpy()
    torch.manual_seed(1)
    following = torch.rand(1)
    torch.manual_seed(1)
    np.testing.assert_array_equal(embeddings.initial_positions(CONFIG, seed=5), expected)
    assert torch.rand(1) == following  # the caller's random numbers go on undisturbed


def test_the_widest_channels_come_first():
    w = NOISE[:, :4] * [1, 5, 2, 5]
    w[:, 3] = w[:, 1]  # of equals the first
    assert embeddings.widest(w, 3) == [1, 3, 2]


def test_metrics_tell_noise_from_a_curve():
    curve = np.linspace(0, 1, 1024)[:, None] + 0.01 * NOISE
    metrics = embeddings.metrics(NOISE, curve)
    assert metrics["wpe_smoothness"] < 0.01 < 1.9 < metrics["wpe_smoothness_initial"]
