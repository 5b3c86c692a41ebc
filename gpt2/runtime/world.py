"""The processes that train together: a single one, or those that torchrun starts."""

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
from gpt2.runtime.device import choose_device

TIMEOUT = timedelta(minutes=10)  # how long processes wait for each other; none hashes, writes or compiles for longer


@dataclass(frozen=True)
class World:
    """One of the processes that train together."""

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
        """Collects each process's scalar, by rank: (size,) on the device. Does not wait for the device."""
        if self.size == 1:
            return value.view(1)
        values = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        values[self.rank] = value
        dist.all_reduce(values)
        return values

    def gather_objects(self, value: object) -> list:
        """Collects a value from every process, by rank; the value can be anything that pickle supports."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def from_main(self, state):
        """Sends the main process's `state` to every process: nested containers, whose tensors are sent one by one."""
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
def world(device: str = "auto") -> Iterator[World]:
    """Joins the processes that torchrun started (RANK and WORLD_SIZE are set), or is a single process.

    `device`: see choose_device. Several processes cannot share mps: auto then means the CPU, and mps raises InputError.
    On the CPU results are deterministic, and a launched process uses one thread, so that sums have the same order, and
    losses are the same, for any number of processes and cores; to use more cores, start more processes. A single
    process without a launcher uses all cores. torch's settings are restored at the end.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    chosen = _device(device, size, local_rank)
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    elif chosen.type == "cpu":
        # Otherwise threads add to an embedding's gradient in any order. torch.use_deterministic_algorithms would do the
        # same, but imports the compiler, for a second.
        torch.set_deterministic_debug_mode("error")
        torch.utils.deterministic.fill_uninitialized_memory = False
        if "RANK" in os.environ:
            torch.set_num_threads(1)
    if size > 1:
        backend, bound = ("nccl", chosen) if chosen.type == "cuda" else ("gloo", None)
        dist.init_process_group(backend, device_id=bound, timeout=TIMEOUT)
    try:
        yield World(rank, size, chosen)
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill
    if size > 1:  # not after an error: it would wait for processes that wait for this one
        dist.destroy_process_group()


def _device(setting: str, size: int, local_rank: int) -> torch.device:
    """The device of one process of `size`. Raises InputError if the machine has too few of them."""
    device = choose_device(setting)
    if device.type == "mps" and size > 1:
        if setting == "mps":
            raise InputError(f"device = 'mps': {size} processes cannot share it: give the launcher one")
        return torch.device("cpu")
    if device.type == "cuda":
        if local_rank >= (gpus := torch.cuda.device_count()):
            raise InputError(f"more processes on a machine than its {gpus} GPUs: give the launcher fewer")
        return torch.device("cuda", local_rank)
    return device
