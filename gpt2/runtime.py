"""Where the work runs: processes, device, precision, compiler."""

import ctypes
import os
import resource
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from gpt2.errors import InputError
from gpt2.machine import processor

TIMEOUT = timedelta(minutes=10)  # that processes wait for one another: longer than any of them writes or compiles alone
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # options of glibc's mallopt
PEAK_FLOPS = {  # dense bfloat16 operations a second, from the makers' data sheets
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
}


@dataclass(frozen=True)
class World:
    """One process's place among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """True in the one process that writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Adds numbers over all processes, in float64 (float32 sums would depend on how work was split)."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: Tensor) -> Tensor:
        """Every process's number (), by rank: (size,) in float64, on the device, which nothing here waits for."""
        shares = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        shares[self.rank] = value
        if self.size > 1:
            dist.all_reduce(shares)
        return shares

    def gather_objects(self, value: object) -> list:
        """Every process's value, which may be anything that pickles, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def from_main(self, state):
        """What the main process passes, in every process: nested containers, whose tensors travel one by one."""
        if self.size == 1:
            return state
        shapes = [tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, state)]
        dist.broadcast_object_list(shapes, device=self.device)
        return tree_map(self._tensor_from_main, state if self.main else shapes[0])

    def _tensor_from_main(self, leaf):
        if isinstance(leaf, Tensor):
            empty = torch.empty(leaf.shape, dtype=leaf.dtype, device=self.device)
            leaf = empty if leaf.is_meta else leaf.to(self.device).contiguous()
            dist.broadcast(leaf, src=0)
        return leaf


@contextmanager
def world() -> Iterator[World]:
    """Joins the processes that a launcher started, as torchrun's RANK and WORLD_SIZE say, or stands alone.

    On the CPU a launched process uses one thread: sums are then taken in the same order however many processes and
    cores share the work, and so the losses come out the same; more cores are put to use by more processes. One that
    stands alone uses all cores.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if 0 < torch.cuda.device_count() <= local_rank:
        raise InputError(
            f"more processes on a machine than its {torch.cuda.device_count()} GPUs: give the launcher fewer"
        )
    device = torch.device(f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32
    else:
        _keep_freed_memory()
        torch.use_deterministic_algorithms(True)  # else several threads add to an embedding's gradient in any order
        torch.utils.deterministic.fill_uninitialized_memory = False
        if "RANK" in os.environ:
            torch.set_num_threads(1)
    if size > 1:
        backend, bound = ("nccl", device) if device.type == "cuda" else ("gloo", None)
        dist.init_process_group(backend, device_id=bound, timeout=TIMEOUT)
    yield World(rank, size, device)
    if size > 1:  # not after an error: it would wait for processes that are waiting for this one
        dist.destroy_process_group()


def _keep_freed_memory() -> None:
    """Has glibc serve large blocks from its heap, and keep them there when they are freed.

    By default it maps each anew, and a training step of 124M spends 8% of its time on the kernel's zeroing of pages.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 16 << 20)):
            libc.mallopt(option, value)


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
