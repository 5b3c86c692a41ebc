"""Communication between GPUs, by NCCL, in a group of one process.

`World` believes that there are two, because alone it calls nothing collective.
"""

import copy

import pytest
import torch
import torch.distributed as dist

from gpt2.runtime.world import World
from gpt2.training.work import as_trained
from tests.cuda.conftest import TOLERANCE, WIDE, distance, skip_compiling_on_cpu
from tests.small import free_port, small_model

pytestmark = pytest.mark.cuda


@pytest.fixture
def first(device):
    """The first of the two."""
    backend, bound = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    address = f"tcp://127.0.0.1:{free_port()}"
    dist.init_process_group(backend, init_method=address, rank=0, world_size=1, device_id=bound)
    yield World(rank=0, size=2, device=device)
    dist.destroy_process_group()


def test_numbers_objects_and_states_are_exchanged(first):
    assert first.sum([1.5, 1e-12]) == [1.5, 1e-12]
    assert first.gather(torch.tensor(2.5, device=first.device)).tolist() == [2.5, 0.0]
    assert first.gather_objects({"a": 1}) == [{"a": 1}, {"a": 1}]
    weights = torch.randn(3, 2).t()
    state = first.from_main({"model": {"w": weights}, "step": 3, "rows": [torch.tensor(7)]})
    assert state["step"] == 3 and state["rows"][0] == 7 and state["model"]["w"].device == first.device
    assert torch.equal(state["model"]["w"].cpu(), weights)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_add_up_over_micro_batches(first, compiled):
    skip_compiling_on_cpu(compiled, first.device)
    alone = small_model(**WIDE).train().to(first.device)
    forward = as_trained(copy.deepcopy(alone), first, compiled=compiled, recompute=False)
    idx = torch.randint(1000, (4, 129), generator=torch.Generator().manual_seed(0)).to(first.device)
    inputs, targets = idx[:, :-1], idx[:, 1:]
    with forward.no_sync():
        forward(inputs[:2], targets[:2]).backward()
    forward(inputs[2:], targets[2:]).backward()
    alone(inputs, targets).backward()
    found, expected = (
        torch.cat([parameter.grad.flatten() for parameter in model.parameters()]) for model in (forward, alone)
    )
    assert distance(found, expected) < TOLERANCE["float32"]
