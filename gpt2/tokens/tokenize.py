"""Turns the corpus into token shards, on one machine or many, with datatrove (github.com/huggingface/datatrove).

A task is one file of the corpus, or several small files in a row, and writes shards into its own folder. When all tasks
are done, their shards are numbered in the order of the tasks. So the bytes depend neither on the number of workers nor
on where they run, and an interrupted run resumes with the tasks that are not completed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from loguru import logger

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json
from gpt2.common.machine import cpu_count
from gpt2.common.processes import worker_pool
from gpt2.common.progress import bar
from gpt2.config.data import TokensParams
from gpt2.config.params import MachineParams
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.shards import MANIFEST
from gpt2.tokens.writer import join_shards, write_documents

TASK_BYTES = 8_000_000  # minimum total size of a task's files
ERROR = "error.json"  # in the folder of a task that failed

load_tokenizer = cache(Tokenizer.load)  # a worker runs many tasks

logger.disable("datatrove")  # it would print every step of every task


@dataclass(frozen=True)
class Task:
    """The one step of the pipeline: datatrove calls it with the number of the task, which it calls rank."""

    corpus: Corpus
    files: Sequence[Sequence[Path]]  # one group of files per task
    tokenizer: Path
    shard_tokens: int
    scratch: Path

    def __call__(self, data: None, rank: int, world_size: int) -> None:
        """Writes the shards of one task. Slurm and Ray lose exceptions, so the folder keeps them as JSON."""
        folder = self.folder(rank)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        documents = (document for path in self.files[rank] for document in self.corpus.documents(path))
        try:
            write_documents(documents, folder, load_tokenizer(self.tokenizer), self.shard_tokens)
        except Exception as error:
            message = str(error) if isinstance(error, InputError) else None
            write_json(folder / ERROR, {"input_error": message, "traceback": traceback.format_exc()})
            raise

    def folder(self, rank: int) -> Path:
        """The folder that a task writes to."""
        return self.scratch / "tasks" / f"{rank:05d}"

    def error(self, rank: int, logs: str) -> Exception:
        """The error of a task that Slurm or Ray did not complete."""
        if not (self.folder(rank) / ERROR).exists():
            return InputError(f"{self.files[rank][0]}: its task did not finish; see {logs}; run again to resume")
        error = read_json(self.folder(rank) / ERROR)
        return InputError(error["input_error"]) if error["input_error"] else RuntimeError(error["traceback"])


def tokenize(
    corpus: Corpus,
    tokenizer: Path,
    params: TokensParams,
    machine: MachineParams,
    scratch: Path,
    directory: Path,
    task_bytes: int = TASK_BYTES,
) -> None:
    """Encodes the corpus with the tokenizer in the directory `tokenizer`, and writes shards to `directory`.

    Resumes from `scratch` if a run on the same inputs was interrupted; the caller deletes it. Raises InputError if the
    corpus or the tokenizer is malformed, a split has no text, or the executor cannot run.
    """
    scratch, files = scratch.resolve(), corpus.groups(task_bytes)
    task = Task(corpus, files, tokenizer.resolve(), params.shard_tokens, scratch)
    folders = [task.folder(rank) for rank in range(len(files))]
    for folder in folders:
        (folder / ERROR).unlink(missing_ok=True)
    common = {"pipeline": [task], "tasks": len(files), "logging_dir": str(scratch / "datatrove")}
    run = {"local": run_local, "slurm": run_slurm, "ray": run_ray}[machine.executor]
    incomplete = run(machine.workers, common)
    if incomplete:
        raise task.error(incomplete[0], common["logging_dir"])
    manifest = join_shards(folders, directory)
    corpus.check_splits(manifest.splits)
    write_json(directory / MANIFEST, manifest.model_dump())


# --- executors: each runs the incomplete tasks, and returns those that it could not complete ------------------------


def run_local(workers: int | None, common: dict) -> list[int]:
    """Runs tasks in processes on this machine; raises the exception of a task that fails.

    Does not use datatrove's pool, which waits forever if a worker is killed.
    """
    executor = LocalPipelineExecutor(**common)
    workers = min(workers or cpu_count(), executor.tasks)
    ranks = executor.get_incomplete_ranks()
    if workers == 1:
        for rank in bar(ranks, desc="tokenize", unit="task"):
            executor._run_for_rank(rank)
    elif ranks:
        try:
            with worker_pool(workers) as pool:
                running = [pool.submit(executor._run_for_rank, rank) for rank in ranks]
                for done in bar(as_completed(running), total=len(ranks), desc="tokenize", unit="task"):
                    done.result()
        except BrokenProcessPool:
            raise InputError(
                f"machine.workers: one of {workers} workers was killed, probably because memory ran out; try fewer; "
                "completed tasks are kept"
            ) from None
    return []


class SlurmExecutor(SlurmPipelineExecutor):
    """An array of jobs."""

    def launch_merge_stats(self) -> None:
        """Does nothing: datatrove's statistics are not used."""


def run_slurm(workers: int | None, common: dict) -> list[int]:
    """Submits an array of jobs and waits for it. Jobs of an earlier run that was killed are canceled first."""
    if shutil.which("sbatch") is None:
        raise InputError("machine.executor = 'slurm': no command sbatch here; run this where jobs are submitted")
    missing = [name for name in ("SBATCH_PARTITION", "SBATCH_TIMELIMIT") if not os.environ.get(name)]
    if missing:
        raise InputError(f"machine.executor = 'slurm': set {' and '.join(missing)}, e.g. SBATCH_TIMELIMIT=02:00:00")
    path, modules = shlex.quote(str(Path(sys.executable).parent)), shlex.quote(str(Path(__file__).parents[2]))
    name = f"tokenize-{Path(common['logging_dir']).parent.name}"
    executor = SlurmExecutor(
        **common,
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
    return executor.get_incomplete_ranks()


def run_ray(workers: int | None, common: dict) -> list[int]:
    """Runs tasks on the cluster that RAY_ADDRESS names, or starts a local Ray cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("machine.executor = 'ray': Ray is not installed: pip install ray") from None
    executor = RayPipelineExecutor(**common, workers=workers or -1)
    try:
        connection = ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, ValueError) as error:  # no cluster at RAY_ADDRESS, or an address that Ray cannot read
        raise InputError(f"machine.executor = 'ray': {error}") from None
    with connection:
        executor.run()
    return executor.get_incomplete_ranks()
