"""The memory of a training step: the estimate from the shapes against what torch allocates."""

import json

import pytest
import torch

from gpt2.config.params import GPTConfig, OptimParams
from gpt2.model.gpt import GPT
from gpt2.runtime.precision import autocast
from gpt2.training.memory import largest_micro_batch, training_memory
from gpt2.training.optim import make_optimizer
from tests.small import OPTIM

CPU = torch.device("cpu")
CONFIG = GPTConfig(block_size=128, n_layer=6, n_embd=96, n_head=3, vocab_size=1024)
HOW = {"optimizer": "adamw", "precision": "bfloat16", "recompute": False, "compiled": False, "processes": 1}
LARGE = GPTConfig(block_size=1024, n_layer=12, n_embd=768, n_head=12, vocab_size=50257)


def allocated_by_a_step(model: GPT, micro_batch_size: int, precision: str, place) -> int:
    """Bytes at the peak of a forward and backward pass, beyond what was there before."""
    idx = torch.randint(model.config.vocab_size, (micro_batch_size, model.config.block_size))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        with autocast(precision, CPU):
            loss = model(idx, idx)
        loss.backward()
    profiler.export_chrome_trace(str(place))
    events = [event for event in json.loads(place.read_text())["traceEvents"] if event["name"] == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("vocab_size", [256, 4096])  # blocks that need more than the logits, or less
def test_the_estimate_is_what_a_step_allocates(tmp_path, precision, recompute, vocab_size):
    config = CONFIG.model_copy(update={"vocab_size": vocab_size})
    model = GPT(config)
    model.recompute = recompute
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    found = allocated_by_a_step(model, 8, precision, tmp_path / "trace.json")
    needed = training_memory(config, 8, **{**HOW, "precision": precision, "recompute": recompute})
    assert needed.copies + needed.activations + needed.working == pytest.approx(found, rel=0.12)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weights_and_the_state_of_the_optimizer_are_counted_exactly(optimizer):
    model = GPT(CONFIG)
    steps = make_optimizer(model, OptimParams(**{**OPTIM, "optimizer": optimizer}))
    model(*torch.randint(256, (2, 1, 8))).backward()
    steps.step()
    adamw, momenta = (steps.adamw, steps.muon.momenta) if optimizer == "muon" else (steps, [])
    states = [value for state in adamw.state.values() for value in state.values()] + momenta
    needed = training_memory(CONFIG, 1, **{**HOW, "optimizer": optimizer})
    assert needed.optimizer == sum(value.nbytes for value in states if torch.is_tensor(value) and value.dim())
    assert needed.weights == needed.gradients == sum(weight.nbytes for weight in model.parameters())


def test_the_largest_micro_batch_fits_and_twice_as_large_does_not():
    for gigabytes in (4, 15, 23, 75):
        size = largest_micro_batch(LARGE, 512, gigabytes * 1e9, **HOW)
        assert training_memory(LARGE, size, **HOW).total <= gigabytes * 1e9
        assert training_memory(LARGE, 2 * size, **HOW).total > gigabytes * 1e9
    assert largest_micro_batch(LARGE, 5, 75e9, **HOW) == 8
    assert largest_micro_batch(LARGE, 512, 2e9, **HOW) is None
    recomputing = {**HOW, "recompute": True}
    assert largest_micro_batch(LARGE, 512, 15e9, **recomputing) > largest_micro_batch(LARGE, 512, 15e9, **HOW)
