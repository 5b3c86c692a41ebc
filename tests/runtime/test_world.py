"""Processes that train together on the CPU."""

import json
import os
import re
import subprocess
import sys

from tests.conftest import ROOT
from tests.small import free_port
from tests.training.test_trainer import interrupted, trainer

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from gpt2.common.errors import InputError
from gpt2.runtime.world import world
from tests.training.test_trainer import before_step, trainer

with world() as here:
    run = trainer(Path(sys.argv[1], str(here.rank)), world=here)  # as on two machines: each sees its own folder
    run._resume()
    said = {"step": run.history.step, "gathered": here.gather(torch.tensor(here.rank + 0.5)).tolist()}
    said["weights"] = run.model.wte.weight.tolist()
    said["moments"] = [state["exp_avg_sq"].sum().item() for state in run.optimizer.state.values()]
    if here.rank == 1:
        before_step(run, 6, lambda: torch.nn.init.constant_(run.model.wte.weight, float("inf")))
    try:
        run.fit()
    except InputError as error:
        said["error"] = str(error)
print(json.dumps(said))
"""


RESUMED = """
import json, sys
from pathlib import Path
from gpt2.runtime.world import world
from tests.training.test_trainer import interrupted, trainer

sizes = {"batch_size": 6, "micro_batch_size": 2}  # one micro-batch per process
with world() as here:
    whole, part, rest = (trainer(Path(sys.argv[1], name), world=here, **sizes) for name in ("whole", "part", "part"))
    whole.fit()
    interrupted(part, at=7)
    rest.fit()
    ends = whole.model.state_dict(), rest.model.state_dict()
    names = [name for name in ends[0] if not ends[0][name].equal(ends[1][name])]
    print(json.dumps({"differ": names, "steps": [run.step for run in (whole, part, rest)]}))
"""


def together(script: str, *arguments: str, processes: int = 2) -> list[dict]:
    """The JSON that each of several processes printed, by rank."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(processes),
        "CUDA_VISIBLE_DEVICES": "",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in started]


def test_all_resume_from_the_checkpoint_of_the_first_and_all_name_the_one_that_fails(tmp_path):
    begun = trainer(tmp_path / "0", steps=12)
    interrupted(begun, at=7)
    kept = begun.checkpoints.load()
    first, second = together(SCRIPT, str(tmp_path))
    assert first["step"] == second["step"] == 5
    assert first["weights"] == second["weights"] == kept["model"]["wte.weight"].tolist()
    moments = [state["exp_avg_sq"].sum().item() for state in kept["optimizer"]["state"].values()]
    assert first["moments"] == second["moments"] == moments
    assert first["gathered"] == second["gathered"] == [0.5, 1.5]
    line = r"training diverged at step 7: loss nan \(not finite on rank 1 of 2\), gradient norm nan, learning rate 0\.0"
    assert all(re.match(line, said["error"]) for said in (first, second))
    assert "0/step_00000005.pt" in first["error"]


def test_three_processes_resume_with_the_same_bits(tmp_path):
    """Of three numbers the sum depends on their order, and so on how DDP groups the gradients."""
    for said in together(RESUMED, str(tmp_path), processes=3):
        assert said == {"differ": [], "steps": [12, 7, 12]}
