"""Both fine-tunings in two processes, as `machine.launcher` starts them."""

from pathlib import Path

import pytest

from gpt2.runtime.world import World
from tests.classification.test_finetune import finetuned
from tests.instruction.test_finetune import tuned
from tests.runtime.test_world import together
from tests.small import ALONE

SCRIPT = """
import json, sys
from pathlib import Path
from gpt2.runtime.world import world
from tests.training.test_finetuning import results

with world() as here:
    print(json.dumps(results(Path(sys.argv[1]), here)))
"""


def results(scratch: Path, world: World) -> dict[str, dict]:
    """The curves of every kind of fine-tuning, and the sum of all weights at its end. Two processes divide a batch of
    seven samples, and a micro-batch is at most four."""
    runs = {}
    for kind in ("head", "last_blocks", "lora", "all"):
        runs[f"classification {kind}"] = finetuned(scratch / kind, world=world, trainable=kind, batch_size=7)
    for kind in ("full", "lora"):
        runs[f"instruction {kind}"] = tuned(scratch / f"instruction {kind}", world, method=kind, batch_size=7)
    return {
        kind: {
            **{name: [row[name] for row in run.history.train] for name in ("loss", "grad_norm")},
            **{f"val_{name}": [row[name] for row in run.history.val] for name in run.history.val[0]},
            "weights": sum(weight.double().abs().sum().item() for weight in run.model.state_dict().values()),
        }
        for kind, run in runs.items()
    }


def test_two_processes_give_the_curves_of_one(tmp_path):
    """A batch or an initialization of another kind would change them a thousand times as much as rounding does."""
    first, second = together(SCRIPT, str(tmp_path / "two"))
    assert first == second
    for kind, curves in results(tmp_path / "one", ALONE).items():
        assert first[kind] == {name: pytest.approx(values, rel=1e-4) for name, values in curves.items()}, kind
        assert min(curves["val_loss"]) < 0.95 * curves["val_loss"][0], kind
