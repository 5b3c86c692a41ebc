"""Turns the corpus into token shards, on one machine or many.

A task is one file of the corpus, or several small files in a row, and writes shards into its own folder. When all tasks
are done, their shards are numbered in the order of the tasks. So the bytes depend neither on the number of workers nor
on where they run, and an interrupted run resumes with the tasks that are not completed.
"""

import shutil
import traceback
from collections.abc import Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import read_json, write_json
from gpt2.common.machine import cpu_count
from gpt2.common.processes import worker_pool
from gpt2.common.progress import bar
from gpt2.config.data import TokensParams
from gpt2.config.params import MachineParams
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.shards import MANIFEST, Origin
from gpt2.tokens.writer import join_shards, write_documents

TASK_BYTES = 8_000_000  # minimum total size of a task's files
ERROR = "error.json"  # in the folder of a task that failed on a cluster
NEEDED = {"slurm": ["datatrove"], "ray": ["datatrove", "ray"]}  # packages that requirements.txt does not install

load_tokenizer = cache(Tokenizer.load)  # a worker runs many tasks


@dataclass(frozen=True)
class Task:
    """All tasks; each is called by its number, the rank. One is completed once its folder has a manifest."""

    corpus: Corpus
    files: Sequence[Sequence[Path]]  # one group of files per task
    tokenizer: Path
    shard_tokens: int
    scratch: Path

    def run(self, rank: int) -> None:
        """Writes the shards of one task, unless it is completed."""
        folder = self.folder(rank)
        if (folder / MANIFEST).exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        documents = (document for path in self.files[rank] for document in self.corpus.documents(path))
        write_documents(documents, folder, load_tokenizer(self.tokenizer), self.shard_tokens)

    def __call__(self, data: None, rank: int, world_size: int) -> None:
        """What datatrove calls. Slurm and Ray lose exceptions, so the folder keeps them as JSON."""
        try:
            self.run(rank)
        except Exception as error:
            message = str(error) if isinstance(error, InputError) else None
            write_json(self.folder(rank) / ERROR, {"input_error": message, "traceback": traceback.format_exc()})
            raise

    def incomplete(self) -> list[int]:
        """The ranks of the tasks that are not completed."""
        return [rank for rank in range(len(self.files)) if not (self.folder(rank) / MANIFEST).exists()]

    def folder(self, rank: int) -> Path:
        """The folder that a task writes to."""
        return self.scratch / "tasks" / f"{rank:05d}"

    def error(self, rank: int, logs: Path) -> Exception:
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
    origin: Origin | None = None,
) -> None:
    """Encodes the corpus with the tokenizer in the directory `tokenizer`, and writes shards to `directory`.

    The manifest of the shards records the `origin` of the corpus.

    Resumes from `scratch` if a run on the same inputs was interrupted; the caller deletes it. Raises InputError if the
    corpus or the tokenizer is malformed, a split has no text, or the executor cannot run.
    """
    scratch, files = scratch.resolve(), corpus.groups(task_bytes)
    task = Task(corpus, files, tokenizer.resolve(), params.shard_tokens, scratch)
    if machine.executor == "local":
        run_local(task, machine.workers)
    else:
        run_on_cluster(task, machine)
    folders = [task.folder(rank) for rank in range(len(files))]
    manifest = join_shards(folders, directory)
    corpus.check_splits(manifest.splits)
    described = {"corpus": origin, "heldout": "blocks" if corpus.blocks else None}
    write_json(directory / MANIFEST, manifest.model_copy(update=described).model_dump())


def run_local(task: Task, workers: int | None) -> None:
    """Runs the incomplete tasks in processes on this machine; raises the exception of a task that fails."""
    ranks = task.incomplete()
    workers = min(workers or cpu_count(), len(task.files))
    if workers == 1:
        for rank in bar(ranks, desc="tokenize", unit="task"):
            task.run(rank)
    elif ranks:
        try:
            with worker_pool(workers) as pool:
                running = [pool.submit(task.run, rank) for rank in ranks]
                for done in bar(as_completed(running), total=len(ranks), desc="tokenize", unit="task"):
                    done.result()
        except BrokenProcessPool:
            raise InputError(
                f"machine.workers: one of {workers} workers was killed, probably because memory ran out; try fewer; "
                "completed tasks are kept"
            ) from None


def run_on_cluster(task: Task, machine: MachineParams) -> None:
    """Runs the incomplete tasks on Slurm or Ray; raises the exception of the first task that is not completed."""
    if missing := [name for name in NEEDED[machine.executor] if find_spec(name) is None]:
        raise InputError(f"machine.executor = {machine.executor!r}: not installed: pip install {' '.join(missing)}")
    from gpt2.tokens.clusters import RUN

    for rank in task.incomplete():
        (task.folder(rank) / ERROR).unlink(missing_ok=True)
    logs = task.scratch / "datatrove"
    RUN[machine.executor](task, len(task.files), machine.workers, logs)
    if incomplete := task.incomplete():
        raise task.error(incomplete[0], logs)
