"""Decay groups and the learning rate's course."""

from itertools import pairwise

import pytest
import torch

from gpt2.config import GPTConfig, OptimParams
from gpt2.model import GPT
from gpt2.optim import adamw, learning_rate
from tests.small import OPTIM


def test_learning_rate_warms_up_to_lr_and_ends_at_min_lr():
    params = OptimParams(**{**OPTIM, "steps": 100, "warmup_steps": 10, "lr": 1.0, "min_lr": 0.1})
    rates = [learning_rate(step, params) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert rates[10 + 44] == pytest.approx(0.55, abs=0.02)  # half-way down half a cosine


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
