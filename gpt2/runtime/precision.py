"""The precision of matrix products: what the params ask for, what the hardware has, and the contexts that set it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from gpt2.common.errors import InputError
from gpt2.runtime.device import cpu_features

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,  # products round their inputs to 10 bits after the leading one
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def resolve(setting: str, device: torch.device) -> str:
    """The key of DTYPES that `setting` means here.

    auto: bfloat16 where the hardware supports it, otherwise float16 on a CUDA device and float32 elsewhere. On mps auto
    means float32, because nothing else has been tried there. Raises InputError if the device lacks the precision.
    """
    if setting == "auto" and device.type == "mps":
        return "float32"
    present = {"cuda": _of_cuda, "mps": _of_mps, "cpu": _of_cpu}[device.type]()
    if setting not in ("auto", *present):
        raise InputError(f"precision = {setting!r}: this {device.type} supports only {', '.join(present)}")
    if setting != "auto":
        return setting
    preferred = ("bfloat16", "float16", "float32") if device.type == "cuda" else ("bfloat16", "float32")
    return next(precision for precision in preferred if precision in present)


def _of_cuda() -> list[str]:
    at_least = torch.cuda.get_device_capability()
    tf32 = ["tf32"] if at_least >= (8, 0) else []
    bfloat16 = ["bfloat16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return ["float32", *tf32, *bfloat16, "float16"]


def _of_mps() -> list[str]:
    return ["float32", "bfloat16"] if torch.backends.mps.is_macos_or_newer(14, 0) else ["float32"]


def _of_cpu() -> list[str]:
    available = not cpu_features().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    return ["float32", "bfloat16", "float16"] if available else ["float32", "float16"]


def autocast(precision: str, device: torch.device):
    """The context of forward passes. It ends before the optimizer changes the weights, since it keeps copies of them.

    Inside, use no_grad rather than inference_mode, in which autocast does not keep the converted weights and converts
    them again for every product.
    """
    dtype = DTYPES[precision]
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Allows TF32 in float32 products, forward and backward, if `precision` is tf32, and otherwise excludes it.

    torch's setting is restored at the end.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """The context of computations that train nothing: `float32_products` and `autocast`."""
    with float32_products(precision), autocast(precision, device):
        yield
