"""Where these tests run, and what they allow for rounding."""

import os

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.runtime.precision import DTYPES, resolve
from gpt2.runtime.world import World

WIDE = {"block_size": 128, "n_layer": 2, "n_embd": 256, "n_head": 4, "vocab_size": 1000, "dropout": 0.0}  # heads of 64

# The relative distance from float32 on the CPU, as norms of vectors. In float32 only the order of sums differs: a CPU
# is within 3e-6 of float64. Other precisions round the inputs of a product by up to 2^-11 (float16), 2^-10 (tf32, which
# may cut digits off) or 2^-8 (bfloat16): a CPU is within 0.003 in float16 and 0.021 in bfloat16.
TOLERANCE = {"float32": 2e-5, "tf32": 1e-2, "bfloat16": 5e-2, "float16": 5e-3}


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU, or what GPT2_CUDA_TESTS_ON names: `cpu` proves the code of the tests where there is no GPU."""
    name = os.environ.get("GPT2_CUDA_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


@pytest.fixture
def alone(device) -> World:
    """A single process on the device."""
    return World(rank=0, size=1, device=device)


@pytest.fixture(params=list(DTYPES))
def precision(request, device) -> str:
    """Each precision that the device has."""
    return supported(request.param, device)


def supported(precision: str, device: torch.device) -> str:
    """A precision; skips the test if the device lacks it."""
    try:
        return resolve(precision, device)
    except InputError as error:
        pytest.skip(str(error))


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference as a fraction of the norm of what is expected."""
    expected = expected.double().cpu()
    return ((found.detach().double().cpu() - expected).norm() / expected.norm()).item()


def skip_compiling_on_cpu(compiled: bool, device: torch.device) -> None:
    """Skips a test of compiled code for the CPU, which others test."""
    if compiled and device.type == "cpu":
        pytest.skip("code compiled for the CPU is tested elsewhere")
