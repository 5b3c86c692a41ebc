"""The device, and its capabilities: instruction sets, compiler, peak speed, memory."""

import os
import shutil
import sys
import sysconfig
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpt2.common.errors import InputError
from gpt2.common.machine import peak_resident_memory, processor
from gpt2.runtime.gpus import GPUS

TOKENS = {"cpu": 4096, "mps": 4096, "cuda": 65536}  # of a micro-batch; on a CPU larger ones are no faster


def choose_device(setting: str = "auto") -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `mps` (the GPU of a Mac) names; auto: cuda, else mps, else cpu.

    Raises InputError if this machine lacks it.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [kind for kind in present if present[kind]]
    if setting not in ("auto", *found):
        raise InputError(f"device = {setting!r}: torch finds none here; expected auto or {' or '.join(found)}")
    device = torch.device(found[0] if setting == "auto" else setting)
    if device.type == "cuda":  # cuDNN's attention fails for some masks and lengths, such as one token with a cache
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device


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
    """The device's dense 16-bit peak in operations per second, or None if it is unknown."""
    return {gpu.name: gpu.peak_flops for gpu in GPUS.values()}.get(device_name(device))


def peak_memory(device: torch.device) -> int | None:
    """The peak memory of this process in bytes: GPU memory of tensors, or resident memory on the CPU.

    On mps it is the memory that the driver holds now, which rarely shrinks. None where the system does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else peak_resident_memory()


def micro_batch_by_shape(setting: int | str, length: int, device: torch.device) -> int:
    """The samples that go through a model together, each of at most `length` tokens: `setting`, or, if it is auto, the
    largest power of two with at most so many tokens as TOKENS says, whatever the memory."""
    return 1 << max(0, (TOKENS[device.type] // length).bit_length() - 1) if setting == "auto" else setting


class Pending:
    """Numbers on their way from the device to the host, which does not wait for them before `read`."""

    def __init__(self, values: Tensor):
        self.values, self.copied, self.done = values, None, time.perf_counter()
        if values.is_cuda:
            self.values = values.to("cpu", non_blocking=True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def read(self) -> tuple[list[float], float]:
        """Waits for the numbers. Returns them, and the time at which they were there, by `time.perf_counter`."""
        if self.copied:
            self.copied.synchronize()
            self.done = time.perf_counter()
        return self.values.tolist(), self.done


def cudnn_attention(allowed: bool) -> AbstractContextManager:
    """Prefers cuDNN's attention, if it is `allowed`: the fastest on recent GPUs, but it prepares each shape anew, and
    fails for some; see `choose_device`."""
    backend = SDPBackend
    order = [backend.CUDNN_ATTENTION, backend.FLASH_ATTENTION, backend.EFFICIENT_ATTENTION, backend.MATH]
    return sdpa_kernel(order, set_priority=True) if allowed else nullcontext()


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a batch to the device, through pinned memory so that the host does not wait for a GPU."""
    if device.type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
