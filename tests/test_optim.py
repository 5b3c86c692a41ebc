"""Decay groups and the learning rate's course."""

from itertools import pairwise

import pytest
import torch

from gpt2.config import GPTConfig, OptimParams
from gpt2.model import GPT
from gpt2.optim import adamw, learning_rate
from tests.small import OPTIM

SCHEDULE = {"steps": 100, "warmup_steps": 10, "decay_steps": 20, "lr": 1.0, "min_lr": 0.1}


def rates(**changes) -> list[float]:
    params = OptimParams(**{**OPTIM, **SCHEDULE, **changes})
    return [learning_rate(step, params) for step in range(params.steps)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_learning_rate_warms_up_to_lr_and_ends_at_min_lr(schedule):
    course = rates(schedule=schedule)
    assert course[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert course[9] == max(course) == 1.0
    assert course[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(course[9:]))


def test_cosine_is_half_way_down_half_way_through_and_takes_no_notice_of_decay_steps():
    course = rates(schedule="cosine")
    assert course[10 + 44] == pytest.approx(0.55, abs=0.02)
    assert rates(schedule="cosine", decay_steps=0) == course


def test_wsd_is_constant_until_it_falls_linearly_in_the_last_steps():
    course = rates(schedule="wsd")
    assert set(course[9:80]) == {1.0}
    assert [a - b for a, b in pairwise(course[79:])] == pytest.approx([0.9 / 20] * 20)
    assert set(rates(schedule="wsd", decay_steps=0)[9:]) == {1.0}
    assert rates(schedule="wsd", decay_steps=90)[9:] == pytest.approx([1 - 0.9 * i / 90 for i in range(91)])


def test_only_matrices_decay_and_frozen_parameters_are_left_out():
    model = GPT(GPTConfig(block_size=8, n_layer=1, n_embd=8, n_head=2, dropout=0.0, vocab_size=11))
    model.wpe.requires_grad_(False)
    decayed, plain = adamw(model, OptimParams(**OPTIM)).param_groups
    assert decayed["weight_decay"] == OPTIM["weight_decay"] and plain["weight_decay"] == 0
    assert {p.dim() for p in decayed["params"]} == {2} and {p.dim() for p in plain["params"]} == {1}
    together = sum(p.numel() for p in decayed["params"] + plain["params"])
    assert together == sum(p.numel() for p in model.parameters()) - model.wpe.weight.numel()


def test_an_adamw_step_equals_the_formula():
    """Loshchilov and Hutter 2019, algorithm 2, first step, in float64."""
    layer = torch.nn.Linear(3, 2, bias=False)
    weight = layer.weight.detach().double().clone()
    params = OptimParams(**{**OPTIM, "lr": 0.1})
    optimizer = adamw(layer, params)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    expected = weight * (1 - 0.1 * params.weight_decay) - 0.1 * 1 / (1 + 1e-8)
    torch.testing.assert_close(layer.weight.double(), expected, atol=1e-6, rtol=0)
