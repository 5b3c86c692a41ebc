"""The parameters that each optimizer updates, its updates against the formulas, and the learning rate."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from gpt2.adapters import lora
from gpt2.adapters.classifier import GPTClassifier
from gpt2.classification.finetune import freeze
from gpt2.common.errors import InputError
from gpt2.config.params import ClassificationParams, GPTConfig, LoRAParams, OptimParams, RunParams
from gpt2.model.gpt import GPT
from gpt2.training.muon import COEFFICIENTS, ITERATIONS, orthogonalize
from gpt2.training.optim import constant_steps, fine_tuning, learning_rate, make_optimizer
from tests.small import CLASSIFICATION, CONFIG, OPTIM, small_model

# --- learning rate -------------------------------------------------------------------------------------------------

SCHEDULE = {"steps": 100, "warmup_steps": 10, "decay_rate": 0.2, "lr": 1.0, "min_lr_rate": 0.1}


def rates(**changes) -> list[float]:
    params = OptimParams(**{**OPTIM, **SCHEDULE, **changes})
    return [learning_rate(step, params) for step in range(params.steps)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_learning_rate_warms_up_to_lr_and_ends_at_the_lowest(schedule):
    course = rates(schedule=schedule)
    assert course[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert course[9] == max(course) == 1.0
    assert course[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(course[9:]))


def test_cosine_is_halfway_down_at_half_the_steps_and_ignores_decay_rate():
    course = rates(schedule="cosine")
    assert course[10 + 44] == pytest.approx(0.55, abs=0.02)
    assert rates(schedule="cosine", decay_rate=0.0) == course


def test_wsd_is_constant_until_it_falls_linearly_in_the_last_steps():
    course = rates(schedule="wsd")
    assert set(course[9:80]) == {1.0}
    assert [a - b for a, b in pairwise(course[79:])] == pytest.approx([0.9 / 20] * 20)
    assert set(rates(schedule="wsd", decay_rate=0.0)[9:]) == {1.0}
    assert rates(schedule="wsd", decay_rate=0.9)[9:] == pytest.approx([1 - 0.9 * i / 90 for i in range(91)])


def test_decay_takes_what_warmup_leaves():
    assert rates(schedule="wsd", decay_rate=1.0) == rates(schedule="wsd", decay_rate=0.9)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("warmup_steps", [99, 100, 1_000_000])
def test_warmup_ends_before_the_last_step_however_short_the_run_is(schedule, warmup_steps):
    course = rates(schedule=schedule, warmup_steps=warmup_steps)
    assert course == [*((step + 1) / 99 for step in range(99)), pytest.approx(0.1)]


@pytest.mark.parametrize("steps", [50, 60, 100, 1000])
def test_the_constant_phase_does_not_depend_on_how_long_the_run_is(steps):
    params = OptimParams(**{**OPTIM, **SCHEDULE, "schedule": "wsd", "min_lr_rate": 0.123456789})
    here = params.model_copy(update={"steps": steps, "min_lr_rate": 0.7})
    shared = min(constant_steps(params), constant_steps(here))
    assert constant_steps(here) == 0.8 * steps
    assert [learning_rate(step, here) for step in range(shared)] == [learning_rate(n, params) for n in range(shared)]
    assert learning_rate(constant_steps(here) - 1, here) == 1.0 > learning_rate(constant_steps(here), here)


def test_fine_tuning_keeps_its_own_params():
    params = ClassificationParams(**{**CLASSIFICATION, "lr": 0.03, "eval_every": 7})
    completed, shared = fine_tuning(params), set(RunParams.model_fields)
    assert completed.eval_every == 7 and completed.optimizer == "adamw"
    assert completed.model_dump(include=shared) == params.model_dump(include=shared)


# --- AdamW ---------------------------------------------------------------------------------------------------------


def test_only_matrices_decay_and_frozen_parameters_are_left_out():
    model = GPT(GPTConfig(block_size=8, n_layer=1, n_embd=8, n_head=2, dropout=0.0, vocab_size=11))
    model.wpe.requires_grad_(False)
    decayed, plain = make_optimizer(model, OptimParams(**OPTIM)).param_groups
    assert decayed["weight_decay"] == OPTIM["weight_decay"] and plain["weight_decay"] == 0
    assert {p.dim() for p in decayed["params"]} == {2} and {p.dim() for p in plain["params"]} == {1}
    together = sum(p.numel() for p in decayed["params"] + plain["params"])
    assert together == sum(p.numel() for p in model.parameters()) - model.wpe.weight.numel()


def test_an_adamw_step_equals_the_formula():
    """Loshchilov and Hutter 2019, algorithm 2, first step, in float64."""
    layer = nn.Linear(3, 2, bias=False)
    weight = layer.weight.detach().double().clone()
    params = OptimParams(**{**OPTIM, "lr": 0.1})
    optimizer = make_optimizer(layer, params)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    expected = weight * (1 - 0.1 * params.weight_decay) - 0.1 * 1 / (1 + 1e-8)
    torch.testing.assert_close(layer.weight.double(), expected, atol=1e-6, rtol=0)


# --- Muon ----------------------------------------------------------------------------------------------------------

MUON = OptimParams(**{**OPTIM, "optimizer": "muon"})
MATRICES = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
C = CONFIG.n_embd


def test_query_key_and_value_are_orthogonalized_apart():
    model = small_model()
    weight = model.h[1].attn.c_attn.weight  # (3C, C)
    grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    grad += 8 * torch.eye(C).repeat(3, 1)  # no singular value so small that five steps leave it small
    grad *= torch.tensor([1.0, 10.0, 100.0]).repeat_interleave(C)[:, None]
    apart = [nn.Parameter(part.clone()) for part in weight.detach().chunk(3)]
    before = weight.detach().clone()
    optimizer = make_optimizer(model, MUON)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight.grad = grad.clone()
    optimizer.step()

    settings = {"lr": MUON.lr, "weight_decay": MUON.weight_decay, "adjust_lr_fn": "match_rms_adamw"}
    for parameter, part in zip(apart, grad.chunk(3), strict=True):
        parameter.grad = part.clone()
    torch.optim.Muon(apart, **settings).step()
    theirs = torch.cat(apart).detach() - before  # computed in bfloat16
    assert (weight.detach() - before - theirs).norm() < 0.02 * theirs.norm()

    update = (before * (1 - MUON.lr * MUON.weight_decay) - weight) / (MUON.lr * 0.2 * C**0.5)
    for part in update.chunk(3):
        values = torch.linalg.svdvals(part)
        assert values.min() > 0.65 and values.max() < 1.25


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 12), (2, 12, 5)])
def test_orthogonalizing_maps_the_singular_values_and_keeps_the_directions(shape):
    """Against the singular values in float64."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    u, values, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    values = values / values.norm(dim=1, keepdim=True)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    torch.testing.assert_close(orthogonalize(matrices), (u * values[:, None] @ v).float(), atol=1e-4, rtol=0)


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = small_model()
    optimizer = make_optimizer(model, MUON)
    weights = list(optimizer.muon.weights)
    hidden = [parameter for name, parameter in model.named_parameters() if name.endswith(MATRICES)]
    assert len(weights) == 4 * CONFIG.n_layer and {*map(id, weights)} == {*map(id, hidden)}
    others = [parameter for group in optimizer.adamw.param_groups for parameter in group["params"]]
    assert {*map(id, weights), *map(id, others)} == {*map(id, model.parameters())}
    assert all(group["lr"] == MUON.lr for group in optimizer.param_groups) and len(optimizer.param_groups) == 3


def classifier(trainable: str) -> GPTClassifier:
    model = GPTClassifier(small_model(), 2, pad=0)
    freeze(model, ClassificationParams(**{**CLASSIFICATION, "trainable": trainable}))
    return model


def adapted() -> GPT:
    model = small_model()
    lora.add_lora(model, LoRAParams(rank=2, alpha=4.0, targets=["attn.c_attn", "mlp.c_fc"]))
    return model


@pytest.mark.parametrize("model", [adapted, lambda: classifier("head")], ids=["LoRA", "head"])
def test_muon_without_a_matrix_to_train_is_refused(model):
    with pytest.raises(InputError, match=r"^optimizer = 'muon': no matrix of a block is trained here; use adamw$"):
        make_optimizer(model(), MUON)
