"""The processes that train together: one that stands alone, or those that torchrun starts."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

from gpt2.common.errors import InputError

TIMEOUT = timedelta(minutes=10)  # that processes wait for one another: longer than any of them writes or compiles alone
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # options of glibc's mallopt


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
