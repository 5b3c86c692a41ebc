"""The model on a GPU computes what it computes in float32 on the CPU."""

import copy

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt2.model import loss as loss_module
from gpt2.model.gpt import GPT
from gpt2.model.loss import IGNORE
from gpt2.runtime.precision import autocast, float32_products
from gpt2.training.work import seed_dropout
from tests.cuda.conftest import TOLERANCE, WIDE, distance, supported
from tests.small import small_model

pytestmark = pytest.mark.cuda
GENERATOR = torch.Generator().manual_seed(0)
IDX = torch.randint(1000, (4, 128), generator=GENERATOR)
TARGETS = torch.randint(1000, (4, 128), generator=GENERATOR).index_fill(1, torch.tensor([5, 60]), IGNORE)


@pytest.fixture(scope="module")
def model() -> GPT:
    return small_model(**WIDE)


def loss_and_gradients(model: GPT, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss, and the gradients of all parameters as one vector."""
    device = model.wte.weight.device
    model.zero_grad()
    with float32_products(precision):
        with autocast(precision, device):
            value = model(IDX.to(device), TARGETS.to(device))
        value.backward()
    return value.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_logits_loss_and_gradients_are_those_of_float32_on_the_cpu(model, device, precision):
    tolerance, theirs = TOLERANCE[precision], copy.deepcopy(model).to(device)
    with torch.no_grad():
        expected = model(IDX)
        with float32_products(precision), autocast(precision, device):
            logits = theirs(IDX.to(device))
    assert distance(logits, expected) < tolerance
    assert precision == "float32" or distance(logits, expected) > TOLERANCE["float32"]  # it does round
    (loss, gradients), (exact_loss, exact) = loss_and_gradients(theirs, precision), loss_and_gradients(model, "float32")
    assert distance(loss, exact_loss) < tolerance / 10  # errors of many tokens cancel
    assert distance(gradients, exact) < tolerance


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_loss_in_chunks_is_the_loss_at_once(model, device, name, monkeypatch):
    model = copy.deepcopy(model).to(device)
    expected = loss_and_gradients(model, name)
    monkeypatch.setattr(loss_module, "CHUNK", 100 * 1000)  # 512 tokens in six chunks
    for found, at_once in zip(loss_and_gradients(model, name), expected, strict=True):
        assert distance(found, at_once) < TOLERANCE[name]


def test_recomputation_draws_the_same_masks_and_gives_the_same_gradients(device):
    model = small_model(**WIDE | {"dropout": 0.1}).train().to(device)
    results = []
    for model.recompute in (False, True):
        seed_dropout(1, 2, 3)
        results.append(loss_and_gradients(model, "float32"))
    for kept, recomputed in zip(*results, strict=True):
        assert distance(recomputed, kept) < TOLERANCE["float32"]  # a GPU adds up an embedding's gradient in any order


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_training_can_use_flash_attention(device, dropout):
    if device.type == "cpu" and dropout:
        pytest.skip("flash attention for the CPU has no dropout")
    supported("bfloat16", device)
    model = small_model(**WIDE | {"dropout": dropout}).train().to(device)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error if it cannot
        value, gradients = loss_and_gradients(model, "bfloat16")
    assert value.isfinite() and gradients.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_attention_drops_weights_and_scales_up_the_rest(device, name):
    attention = small_model(**WIDE | {"dropout": 0.4}).h[0].attn.to(device)
    x = torch.randn(1, 16, 256, generator=torch.Generator().manual_seed(1)).to(device)
    with autocast(name, device):
        expected = attention(x).float()
        attention.train()
        attention.resid_dropout.p = 0.0
        y = attention(x.expand(1000, -1, -1)).float()  # 1,000 masks of one sequence
    error = y.std(dim=0) / 1000**0.5
    rounding = 0 if name == "float32" else 2**-8 * expected.abs().max()
    assert ((y.mean(dim=0) - expected).abs() < 6 * error + rounding).all() and error.min() > 0


def test_dropout_depends_on_seed_step_and_micro_batch(device):
    model, idx = small_model(**WIDE | {"dropout": 0.1}).train().to(device), IDX.to(device)

    def logits(*numbers: int) -> torch.Tensor:
        seed_dropout(*numbers)
        with torch.no_grad(), autocast("bfloat16", device):
            return model(idx)

    first = logits(1, 2, 3)
    assert distance(logits(1, 2, 3), first) < TOLERANCE["bfloat16"] / 10
    for numbers in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert distance(logits(*numbers), first) > 10 * TOLERANCE["bfloat16"]
