"""Training on a GPU: the curve of the CPU, no host that waits, resuming, and a memory that is too small."""

import gc

import numpy as np
import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.runtime.device import peak_memory
from gpt2.runtime.world import World
from gpt2.training.optim import learning_rate
from tests.cuda.conftest import skip_compiling_on_cpu, supported
from tests.small import ALONE
from tests.training.test_trainer import interrupted, trainer

pytestmark = pytest.mark.cuda

# Nats. The losses of 12 steps from the same weights: rounding grows from step to step, and Muon, which orthogonalizes
# in bfloat16, amplifies it. With dropout a GPU draws other masks than a CPU.
CURVE = {"float32": 2e-3, "bfloat16": 0.05, "float16": 0.02}
MUON, OTHER_MASKS = 0.05, 0.5


def losses(run) -> list[float]:
    """The losses of a run to its end."""
    return [row["loss"] for row in run.fit().train]


@pytest.mark.parametrize(
    ("precision", "compile", "dropout", "recompute"),
    [
        ("float32", "never", 0.0, False),
        ("bfloat16", "never", 0.1, True),
        ("bfloat16", "always", 0.0, False),
        ("float16", "never", 0.0, False),
    ],
)
def test_the_curve_is_that_of_the_cpu_and_no_micro_step_waits(
    tmp_path, monkeypatch, alone, precision, compile, dropout, recompute
):
    skip_compiling_on_cpu(compile == "always", alone.device)
    supported(precision, alone.device)
    how = {"precision": precision, "compile": compile, "dropout": dropout, "recompute": recompute}
    run = trainer(tmp_path / "gpu", world=alone, **how)
    on_gpu, zero_grad = alone.device.type == "cuda", run.optimizer.zero_grad

    def start_step(step, params):
        if on_gpu and step > 0:  # compilation, at step 0, may wait
            torch.cuda.set_sync_debug_mode("error")
        return learning_rate(step, params)

    def end_step():
        zero_grad()
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr("gpt2.training.trainer.learning_rate", start_step)
    monkeypatch.setattr(run.optimizer, "zero_grad", end_step)
    monkeypatch.setattr("gpt2.model.loss.CHUNK", 13 * 300)  # a micro-batch has 64 tokens, and the vocabulary 300
    found = losses(run)
    monkeypatch.undo()
    states = 16 * sum(parameter.numel() for parameter in run.model.parameters())  # weights, gradients, two moments
    assert states < peak_memory(alone.device)
    expected = losses(trainer(tmp_path / "cpu", dropout=dropout))
    np.testing.assert_allclose(found, expected, atol=OTHER_MASKS if dropout else CURVE[precision])


@pytest.mark.parametrize(("optimizer", "tolerance"), [("adamw", 5e-3), ("muon", MUON)])
def test_an_interrupted_run_continues_with_the_same_masks(tmp_path, alone, optimizer, tolerance):
    expected = losses(trainer(tmp_path / "whole", world=alone, optimizer=optimizer))
    interrupted(trainer(tmp_path / "parts", world=alone, optimizer=optimizer), at=7)
    found = losses(trainer(tmp_path / "parts", world=alone, optimizer=optimizer))
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize(("optimizer", "precision"), [("adamw", "float32"), ("muon", "float16")])
@pytest.mark.parametrize("direction", ["from the CPU", "to the CPU"])
def test_a_checkpoint_continues_elsewhere(tmp_path, alone, direction, optimizer, precision):
    options = {"optimizer": optimizer, "precision": precision, "dropout": 0.0}
    expected = losses(trainer(tmp_path / "whole", **options | {"precision": "float32"}))
    first, second = (ALONE, alone) if direction == "from the CPU" else (alone, ALONE)
    interrupted(trainer(tmp_path / "parts", world=first, **options), at=7)
    run = trainer(tmp_path / "parts", world=second, **options)
    np.testing.assert_allclose(losses(run), expected, atol=MUON if optimizer == "muon" else CURVE[precision])
    assert run.history.conditions_changed_at_step == ([5] if alone.device.type == "cuda" else [])
    assert run.history.skipped_steps == 0


@pytest.fixture
def little_memory(device):
    """Leaves this process 300 MB of the GPU's memory, of which 4,096 samples need about twice as much."""
    if device.type != "cuda":
        pytest.skip("torch limits only the memory of a GPU")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 3e8) / total, device)
    yield World(rank=0, size=1, device=device)
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


def test_a_micro_batch_is_found_that_fits(tmp_path, little_memory):
    options = {"batch_size": 4096, "steps": 3, "eval_every": 3, "dropout": 0.0}
    expected = losses(trainer(tmp_path / "cpu", micro_batch_size=1024, **options))
    run = trainer(tmp_path / "gpu", world=little_memory, micro_batch_size="auto", **options)
    np.testing.assert_allclose(losses(run), expected, atol=CURVE["float32"])
    assert 8 <= run.resolved["micro_batch_size"] < 4096


def test_a_full_memory_ends_in_a_line_and_a_smaller_micro_batch_continues(tmp_path, little_memory):
    options = {"batch_size": 4096, "steps": 3, "eval_every": 3}
    begun = trainer(tmp_path, world=little_memory, micro_batch_size=4096, **options)
    with pytest.raises(InputError, match="^out of memory at step 0 with micro-batches of 4096: set machine"):
        begun.fit()
    del begun
    gc.collect()
    run = trainer(tmp_path, world=little_memory, micro_batch_size=256, **options)
    assert run.fit().step == 3
