"""The device, and its capabilities: precision, compiler, peak speed, memory."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from gpt2.common.errors import InputError
from gpt2.common.machine import peak_resident_memory, processor

PEAK_FLOPS = {  # dense bfloat16 operations per second, from manufacturers' data sheets
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


def choose_device(setting: str = "auto") -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `mps` (the GPU of a Mac) names; auto: cuda, else mps, else cpu.

    Raises InputError if this machine lacks it.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [kind for kind in present if present[kind]]
    if setting not in ("auto", *found):
        raise InputError(f"device = {setting!r}: torch finds none here; expected auto or {' or '.join(found)}")
    return torch.device(found[0] if setting == "auto" else setting)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype to pass to torch.autocast, or None for plain float32.

    Under autocast use no_grad rather than inference_mode, in which autocast does not cache weights and converts them
    again for every product. On mps auto means float32, because bfloat16 has not been tried there. Raises InputError if
    `precision` is bfloat16 and the hardware lacks it.
    """
    if device.type == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "mps":
        available = precision == "bfloat16" and torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        available = not cpu_features().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    if precision == "bfloat16" and not available:
        raise InputError(f"precision = 'bfloat16': expected float32: this {device.type} does not support bfloat16")
    return torch.bfloat16 if available and precision != "float32" else None


def cpu_features() -> set[str]:
    """The processor's instruction sets, named as torch and Linux name them."""
    if hasattr(torch.cpu, "get_capabilities"):  # missing from some versions of torch before 2.13
        return {name for name, available in torch.cpu.get_capabilities().items() if available is True}
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


def can_compile(setting: str) -> bool:
    """Whether to use torch.compile; `auto` uses it on Linux alone.

    Raises InputError if it is required and cannot work without a C++ compiler.
    """
    if setting == "auto" and sys.platform != "linux":
        return False
    usual = "cl" if sys.platform == "win32" else "g++"
    compiler = shutil.which(os.environ.get("CXX", usual)) or shutil.which("clang++")
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    available = compiler is not None and headers  # a GPU needs them too, for the code that launches its kernels
    if setting == "always" and not available:
        raise InputError("torch.compile needs a C++ compiler and Python's headers: at least one is missing")
    return available and setting != "never"


def device_name(device: torch.device) -> str:
    """The model name of the GPU or the processor; both have the same on a Mac, so `(mps)` follows that of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()} (mps)" if device.type == "mps" else processor()


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bfloat16 peak in operations per second, or None if it is unknown."""
    return PEAK_FLOPS.get(device_name(device))


def peak_memory(device: torch.device) -> int | None:
    """The peak memory of this process in bytes: GPU memory of tensors, or resident memory on the CPU.

    On mps it is the memory that the driver holds now, which rarely shrinks. None where the system does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else peak_resident_memory()


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a batch to the device, through pinned memory so that the host does not wait for a GPU."""
    if device.type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor
