"""What a device can do: precision, compiler, attention kernels, peak speed, memory."""

import os
import resource
import shutil
import sys
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt2.common.errors import InputError
from gpt2.common.machine import processor

PEAK_FLOPS = {  # dense bfloat16 operations a second, from the makers' data sheets
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
}


def attention_kernels(device: torch.device) -> AbstractContextManager:
    """The context in which SDPA takes the fastest kernel of the device: cuDNN's on Hopper and after, where it can."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0):
        order = [
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        ]
        return sdpa_kernel(order, set_priority=True)
    return nullcontext()


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of matrix products under `precision`, or None for plain float32.

    It is for torch.autocast, which converts each weight once; but in inference_mode anew for every product, so that
    no_grad is the better choice there. Raises InputError where bfloat16 is asked for and the hardware lacks it.
    """
    if device.type == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        available = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    if precision == "bfloat16" and not available:
        raise InputError(f"precision = 'bfloat16': expected float32, for this {device.type} has no bfloat16 arithmetic")
    return torch.bfloat16 if available and precision != "float32" else None


def can_compile(setting: str) -> bool:
    """Whether to use torch.compile. Raises InputError where it is asked for and has no C++ compiler to work with."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    available = compiler is not None and headers  # on a GPU too, for what calls the kernels
    if setting == "always" and not available:
        raise InputError(
            "torch.compile, which is asked for, needs a C++ compiler and Python's headers, and does not find both"
        )
    return available and setting != "never"


def device_name(device: torch.device) -> str:
    """The model of the GPU or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def peak_flops(device: torch.device) -> float | None:
    """The device's dense bfloat16 peak in operations a second, or None where it is not known."""
    return PEAK_FLOPS.get(device_name(device))


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has had at a time: of the GPU's memory for tensors, else of resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a batch to the device, without waiting where memory can be pinned."""
    if device.type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor
