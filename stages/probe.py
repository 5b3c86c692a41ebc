"""Ten steps of pretraining on random tokens, timed, in the processes that `machine.launcher` starts.

`python -m stages.plan` starts this. The steps are those of the stage pretrain, of one micro-batch per process.
"""

import os
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json
from gpt2.common.processes import die_with_parent, end_job, run_job
from gpt2.config.params import GPTConfig, Params
from gpt2.model.gpt import initial_model
from gpt2.runtime.device import micro_batch_by_shape, peak_memory
from gpt2.runtime.world import world
from gpt2.training.trainer import Trainer
from stages import PARENT

STEPS = 10
ON_GPU = 64  # samples per process and step on a GPU, which is busy with fewer


class Probe(NamedTuple):
    """What the steps took."""

    tokens_per_second: float  # over all processes
    peak_memory: int | None  # bytes of the main process; on a CPU with all libraries
    resolved: dict  # micro_batch_size, precision, compiled, recompute


class RandomTokens:
    """The same random sequences in each step."""

    lengths = None  # all have the same length

    def __init__(self, config: GPTConfig, samples: int):
        ids = np.random.default_rng(0).integers(config.vocab_size, size=(samples, config.block_size + 1))
        self.tokens = torch.from_numpy(ids)  # (samples, T + 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets (B, T)."""
        tokens = self.tokens[ids]
        return tokens[:, :-1], tokens[:, 1:]

    def targets(self, ids: np.ndarray) -> int:
        """Every position is scored."""
        return len(ids) * (self.tokens.size(1) - 1)


def probe(params: Params, config: GPTConfig) -> Probe:
    """Runs the launcher. Raises InputError with the line of a worker that failed, or the status of the launcher."""
    with tempfile.TemporaryDirectory() as directory:
        inputs, result = Path(directory, "inputs.json"), Path(directory, "result.json")
        write_json(inputs, {"params": params.model_dump(mode="json"), "config": config.model_dump(mode="json")})
        status, line = run_job(f"{params.machine.launcher} -m stages.probe {directory}")
        if line or status:
            raise InputError(line or f"machine.launcher = {params.machine.launcher!r} ended with status {status}")
        return Probe(**read_json(result))


def work(directory: Path) -> None:
    """Trains in one of the processes and writes the figures."""
    inputs = read_json(directory / "inputs.json")
    params, config = Params(**inputs["params"]), GPTConfig(**inputs["config"])
    with world(params.machine.device) as here:
        by_shape = micro_batch_by_shape(params.machine.micro_batch_size, config.block_size, here.device)
        samples = here.size * (ON_GPU if here.device.type == "cuda" else by_shape)
        changes = {"steps": STEPS, "batch_size": min(samples, params.train.batch_size), "eval_every": STEPS}
        run = params.train.model_copy(update=changes)
        trainer = Trainer(
            initial_model(config, params.seed),
            RandomTokens(config, run.batch_size),
            run,
            machine=params.machine,
            world=here,
            seed=params.seed,
            scratch=directory,
            code={},
            evaluate=lambda model, batch_size: {"loss": 0.0},
            log=lambda split, row: None,
            compile=True,
        )
        trainer.checkpoints.write = lambda path, state: None  # a large model's would take minutes and fill the disk
        history = trainer.fit()
        if here.main:
            found = Probe(history.timed_targets / history.seconds, peak_memory(here.device), trainer.resolved)
            write_json(directory / "result.json", found._asdict())


if __name__ == "__main__":
    die_with_parent(PARENT)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # progress, and losses of random tokens
            work(Path(sys.argv[1]))
    except InputError as error:
        end_job(str(error))
        sys.exit(str(error))
