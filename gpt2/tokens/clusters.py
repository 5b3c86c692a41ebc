"""Runs tokenization on Slurm or Ray with datatrove (github.com/huggingface/datatrove)."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from datatrove.executor import RayPipelineExecutor, SlurmPipelineExecutor
from loguru import logger

from gpt2.common.errors import InputError

Step = Callable[[None, int, int], None]  # called with no data, the number of a task, and the number of tasks

logger.disable("datatrove")  # it would print every step of every task


class SlurmExecutor(SlurmPipelineExecutor):
    """An array of jobs."""

    def launch_merge_stats(self) -> None:
        """Does nothing: datatrove's statistics are not used."""


def run_slurm(step: Step, tasks: int, workers: int | None, logs: Path) -> None:
    """Submits an array of jobs and waits for it. Jobs of an earlier run that was killed are canceled first."""
    if shutil.which("sbatch") is None:
        raise InputError("machine.executor = 'slurm': no command sbatch here; run this where jobs are submitted")
    missing = [name for name in ("SBATCH_PARTITION", "SBATCH_TIMELIMIT") if not os.environ.get(name)]
    if missing:
        raise InputError(f"machine.executor = 'slurm': set {' and '.join(missing)}, e.g. SBATCH_TIMELIMIT=02:00:00")
    path, modules = shlex.quote(str(Path(sys.executable).parent)), shlex.quote(str(Path(__file__).parents[2]))
    name = f"tokenize-{logs.parent.name}"
    executor = SlurmExecutor(
        pipeline=[step],
        tasks=tasks,
        logging_dir=str(logs),
        workers=workers or -1,
        time=os.environ["SBATCH_TIMELIMIT"],
        partition=os.environ["SBATCH_PARTITION"],
        job_name=name,
        qos="",
        env_command=f"export PATH={path}:$PATH PYTHONPATH={modules}",
        sbatch_args={"wait": ""},
    )
    subprocess.run(["scancel", f"--name={name}"])
    try:
        with suppress(subprocess.CalledProcessError):  # sbatch has printed why, or a task failed
            executor.run()
    finally:
        subprocess.run(["scancel", f"--name={name}"])


def run_ray(step: Step, tasks: int, workers: int | None, logs: Path) -> None:
    """Runs tasks on the cluster that RAY_ADDRESS names, or starts a local Ray cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    executor = RayPipelineExecutor(pipeline=[step], tasks=tasks, logging_dir=str(logs), workers=workers or -1)
    try:
        connection = ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, ValueError) as error:  # no cluster at RAY_ADDRESS, or an address that Ray cannot read
        raise InputError(f"machine.executor = 'ray': {error}") from None
    with connection:
        executor.run()


RUN = {"slurm": run_slurm, "ray": run_ray}
