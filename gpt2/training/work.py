"""How the work of a run is done: precision, compiler, processes, size of micro-batches."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpt2.common.errors import InputError
from gpt2.config.params import MachineParams, OptimParams
from gpt2.model.gpt import GPT
from gpt2.runtime.device import can_compile, cudnn_attention, micro_batch_by_shape, move
from gpt2.runtime.gpus import USABLE
from gpt2.runtime.precision import autocast, resolve
from gpt2.runtime.world import World
from gpt2.training.batches import BatchOrder, Dataset, by_length

OPTIMIZER_BYTES = 8  # per trainable parameter: the two moments of AdamW


def resolved(params: OptimParams, machine: MachineParams, data: Dataset, compile: bool, device: torch.device) -> dict:
    """What the settings mean here. On a GPU `largest_that_fits` replaces a micro-batch size that was not set."""
    length = data.batch(longest(data, 1))[0].size(1)
    return {
        "micro_batch_size": micro_batch_by_shape(machine.micro_batch_size, length, device),
        "precision": resolve(params.precision, device),
        "compiled": compile and can_compile(machine.compile),
        "recompute": machine.recompute,
    }


def continued(now: dict, before: dict, keep_size: bool) -> tuple[dict, list[str]]:
    """How a run continues that was begun as in `before`, and a line for each setting that is not as `now`.

    Everything stays except what saves memory: a smaller micro-batch, unless `keep_size`, and recomputation.
    """
    kept = now | {name: before[name] for name in now if name in before}
    if not keep_size:
        kept["micro_batch_size"] = min(kept["micro_batch_size"], now["micro_batch_size"])
    kept["recompute"] |= now["recompute"]
    differ = (name for name in now if now[name] != kept[name] and not (keep_size and name == "micro_batch_size"))
    return kept, [f"{name} stays {kept[name]}, as when this run began (now {now[name]})" for name in differ]


def as_trained(model: nn.Module, world: World, compiled: bool, recompute: bool) -> nn.Module:
    """The model as a training step calls it: compiled and wrapped in DDP, if required."""
    for module in model.modules():
        if isinstance(module, GPT):
            module.recompute = recompute
    on_cpu = world.device.type == "cpu"
    if compiled:
        if on_cpu:
            # DDP would cut the graph at its buckets, and rounding would differ from that of a single process.
            torch._dynamo.config.optimize_ddp = False
        model = torch.compile(model, dynamic=False)  # micro-batches have few shapes
    if world.size > 1:
        # All parameters are used. But without the search for unused ones DDP regroups the gradients after its first
        # step, and three or more processes would add them up in another order in a resumed run.
        model = DistributedDataParallel(model, gradient_as_bucket_view=True, find_unused_parameters=on_cpu)
    return model


def gradient_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Multiplies the loss in float16, whose smallest gradients would otherwise be zero. In other precisions it has no
    effect."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")


class MicroBatch(NamedTuple):
    """One process's share of a global batch that goes through the model together."""

    inputs: Tensor
    targets: Tensor
    n_targets: int  # scored targets of the global batch
    counts: bool  # False for a sample that only fills in where a batch has fewer samples than there are processes


def micro_batches(batch_size: int, processes: int, limit: int) -> int:
    """The number of micro-batches into which a batch is divided: the same number for each process, and as few as
    possible of at most `limit` samples. They have equal sizes, or sizes that differ by one."""
    per_process = math.ceil(batch_size / processes)
    return processes * math.ceil(per_process / limit)


def longest(data: Dataset, count: int) -> np.ndarray:
    """The `count` longest samples, (count,); where there are fewer, some of them again."""
    ids = np.arange(len(data))
    return np.resize(ids if data.lengths is None else by_length(ids, data.lengths)[::-1], count)


def share(
    data: Dataset, order: BatchOrder, steps: Iterable[int], n_micro_batches: int, world: World
) -> Iterator[MicroBatch]:
    """This process's micro-batches of the steps, on its device."""
    for step in steps:
        ids = order.ids(step)
        n_targets = data.targets(ids)
        for part in np.array_split(ids, n_micro_batches)[world.rank :: world.size]:
            inputs, targets = data.batch(part if len(part) else ids[:1])
            yield MicroBatch(move(inputs, world.device), move(targets, world.device), n_targets, len(part) > 0)


def largest_that_fits(
    forward: nn.Module,
    data: Dataset,
    params: OptimParams,
    how: dict,
    world: World,
    estimate: Callable[[int, dict], int] | None = None,
) -> int:
    """The largest power of two of the longest samples with which a forward and backward pass has enough memory in every
    process, with room for the state of the optimizer. None above the first that holds a process's part of a batch is
    tried.

    `forward`: see as_trained. `estimate`: the bytes that training needs with this many samples, so that sizes that are
    far too large are not tried. `how`: see `resolved`. Raises InputError if not even one sample fits.
    """
    trained = [parameter for parameter in forward.parameters() if parameter.requires_grad]
    per_process, gpu = math.ceil(params.batch_size / world.size), world.device.type == "cuda"
    memory = torch.cuda.get_device_properties(world.device).total_memory if gpu else 0
    left = OPTIMIZER_BYTES * sum(parameter.numel() for parameter in trained) + round((1 - USABLE) * memory)
    size = 1 << (per_process - 1).bit_length()
    while estimate and size > 1 and estimate(size, how) > USABLE * memory:
        size //= 2

    def attempt(size: int) -> None:
        reserved = torch.empty(left, dtype=torch.uint8, device=world.device)
        for parameter in trained:  # a second micro-batch adds to the gradients of the first
            parameter.grad = torch.zeros_like(parameter)
        samples = math.ceil(per_process / math.ceil(per_process / size))
        inputs, targets = (move(tensor, world.device) for tensor in data.batch(longest(data, samples)))
        with forward.no_sync() if world.size > 1 else nullcontext():
            with autocast(how["precision"], world.device), cudnn_attention(gpu and how["compiled"]):
                loss = forward(inputs, targets)
            loss.backward()
        del reserved

    forward.train()
    while size:
        try:
            attempt(size)
            full = False
        except torch.OutOfMemoryError:
            full = True
        for parameter in trained:
            parameter.grad = None
        if gpu:
            torch.cuda.empty_cache()  # NCCL has its memory outside of torch's cache
        if not world.sum([float(full)])[0]:
            return size
        size //= 2
    raise InputError(f"out of memory with a single sample: {advice(how | {'micro_batch_size': 1})}")


def advice(how: dict) -> str:
    """What to do if there is too little memory."""
    if how["micro_batch_size"] > 1:
        return f"set machine.micro_batch_size to {how['micro_batch_size'] // 2}"
    return "choose a smaller model" if how["recompute"] else "set machine.recompute to true"


def seed_dropout(seed: int, step: int, micro_batch: int) -> None:
    """Seeds torch's generators, so that the dropout masks of a micro-batch depend only on these three numbers."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, micro_batch]).generate_state(1, np.uint64)[0]))


def trainable_parameters(model: nn.Module) -> dict[str, float]:
    """The number of trainable parameters, and their share of all parameters, adapters included."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trainable = sum(size for size, trains in sizes if trains)
    return {"trainable_parameters": trainable, "trainable_share": trainable / sum(size for size, _ in sizes)}
