"""Models made ready to generate compute what they did, to the precision asked for."""

import pytest
import torch

from gpt2.generation.quantize import prepare, product, quantized
from gpt2.model.gpt import GPT
from gpt2.runtime.device import can_compile
from tests.small import CONFIG, small_model

RANDOM = torch.Generator().manual_seed(0)
IDX = torch.randint(CONFIG.vocab_size, (2, 12), generator=RANDOM)


def prepared(precision: str, compiled: bool = False) -> GPT:
    model = small_model()
    prepare(model, precision, compiled=compiled)
    return model


@pytest.mark.parametrize("compiled", [True, False])
def test_float32_changes_nothing(compiled):
    torch.testing.assert_close(prepared("float32", compiled)(IDX), small_model()(IDX), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_fewer_bits_are_close(precision):
    """int8: as close as the same model in float64 with its weights rounded to what int8 can hold."""
    exact, rounded = small_model().double(), small_model().double()
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            if precision == "int8" and parameter.dim() == 2 and "wpe" not in name:
                weight, scale = quantized(parameter.to(torch.bfloat16))
                parameter.copy_(weight.double() * scale.double()[:, None])
    expected, spread = rounded(IDX), exact(IDX).std()
    with torch.inference_mode():
        error = (prepared(precision)(IDX) - expected).abs().mean() / spread
    assert error < 0.02
    if precision == "int8":
        assert 0 < (expected - exact(IDX)).abs().mean() / spread < 0.05


def test_quantized_rows_are_within_half_a_step():
    weight = torch.randn(40, 64, generator=RANDOM) * torch.rand(40, 1, generator=RANDOM)
    weight[3] = 0
    whole, scale = quantized(weight)
    assert whole.dtype == torch.int8 and whole.abs().amax(dim=1).tolist() == [127] * 3 + [0] + [127] * 36
    assert ((whole * scale[:, None] - weight).abs() <= 0.5001 * scale[:, None]).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "compiled"), [(1, False), (16, False), (17, False), (1, True)])
def test_products_with_int8_weights(rows, compiled, bias):
    if compiled and not can_compile("auto"):
        pytest.skip("there is no C++ compiler")
    x = torch.randn(1, rows, 64, generator=RANDOM).bfloat16()
    weight, scale = quantized(torch.randn(32, 64, generator=RANDOM).bfloat16())
    added = torch.randn(32, generator=RANDOM).bfloat16() if bias else None
    expected = x.double() @ (weight.double() * scale.double()[:, None]).T + (added.double() if bias else 0)
    found = (torch.compile(product) if compiled else product)(x, weight, scale, added)
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.1)
