"""Capabilities of a device: precision, compiler, peak speed, memory."""

import os
import resource
import shutil
import sys
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from gpt2.common.errors import InputError
from gpt2.common.machine import processor

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


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype to pass to torch.autocast, or None for plain float32.

    Under autocast use no_grad rather than inference_mode, in which autocast does not cache weights and converts them
    again for every product. Raises InputError if `precision` is bfloat16 and the hardware lacks it.
    """
    if device.type == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
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
    """Whether to use torch.compile. Raises InputError if it is required and cannot work without a C++ compiler."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    available = compiler is not None and headers  # a GPU needs them too, for the code that launches its kernels
    if setting == "always" and not available:
        raise InputError("torch.compile needs a C++ compiler and Python's headers: at least one is missing")
    return available and setting != "never"


def device_name(device: torch.device) -> str:
    """The model name of the GPU or the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bfloat16 peak in operations per second, or None if it is unknown."""
    return PEAK_FLOPS.get(device_name(device))


def peak_memory(device: torch.device) -> int:
    """The peak memory of this process in bytes: GPU memory of tensors, or resident memory on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a batch to the device, through pinned memory so that the host does not wait for a GPU."""
    if device.type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor
