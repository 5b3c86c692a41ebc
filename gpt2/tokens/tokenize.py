"""From the corpus to token shards, on one machine or many: a datatrove pipeline (github.com/huggingface/datatrove).

A task is one file of the corpus, or several small ones that follow each other. It writes its own shards, into a folder
of its own below `scratch`; when all tasks are done, their shards are numbered through in the order of the tasks. So the
bytes depend neither on how many workers there are, nor on where they run, nor on what was interrupted: the tasks that
were completed are not run again.
"""

import hashlib
import logging
import math
import os
import pickle
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import multiprocess
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from gpt2.common.errors import InputError
from gpt2.common.files import replacing, write_json
from gpt2.common.machine import cpu_count
from gpt2.common.processes import die_with_parent, worker_pool
from gpt2.common.progress import bar
from gpt2.config.data import TokensParams
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Corpus, Text
from gpt2.tokens.shards import MANIFEST
from gpt2.tokens.writer import TokenWriter, digests_file, is_whole, join_shards, write_array

TASK_BYTES = 8_000_000  # of a task's files together, at least: small files share shards
ERROR = "error"  # in a task's folder: why it failed
ROWS = "rows"  # in a task's folder: a file without contents, whose length is the number of rows read
REPORT_ROWS = 64  # read between two reports

# datatrove tells standard error about every step. Whoever works on our pipeline imports this module first.
logger.disable("datatrove")


# --- a task --------------------------------------------------------------------------------------------------------


class ReadTexts(PipelineStep):
    """Yields the rows of the task's files, empty texts among them."""

    name, type = "texts", "reader"

    def __init__(self, corpus: Corpus, tasks: Sequence[Sequence[Path]]):
        """`tasks` are the files of each task."""
        super().__init__()
        self.corpus, self.tasks = corpus, tasks

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Raises InputError as `Corpus.documents` does."""
        for path in self.tasks[rank]:
            for row, document in enumerate(self.corpus.documents(path)):
                metadata = document._asdict()
                yield Document(metadata.pop("text"), f"{path.name}/{row}", metadata=metadata)


class WriteTokens(PipelineStep):
    """Writes the task's documents into its folder: shards, their manifest, and the digests of the texts."""

    name, type = "tokens", "writer"

    def __init__(self, tokenizer: Path, shard_tokens: int, scratch: Path):
        super().__init__()
        self.tokenizer, self.shard_tokens, self.scratch = tokenizer, shard_tokens, scratch

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> None:
        """Leaves the error in the folder where there is one, because not every executor hands it on."""
        if parent := multiprocess.parent_process():  # Ray's worker, where datatrove starts another for the task
            die_with_parent(parent.pid)
        folder = task_folder(self.scratch, rank)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            self._write(data, folder)
        except Exception as error:
            with suppress(Exception), replacing(folder / ERROR) as temporary:  # as on a full disk
                temporary.write_bytes(pickle.dumps((error, traceback.format_exc())))
            raise

    def _write(self, data: Iterator[Document], folder: Path) -> None:
        writer = TokenWriter(folder, _load_tokenizer(self.tokenizer), self.shard_tokens)
        with open(folder / ROWS, "wb") as rows:
            row = 0
            for row, document in enumerate(data, start=1):
                writer.add(Text(document.text, **document.metadata))
                if row % REPORT_ROWS == 0:
                    rows.truncate(row)
            rows.truncate(row)
        manifest = writer.finish()
        for split, digests in writer.digests().items():
            write_array(folder / digests_file(split), digests)
        write_json(folder / MANIFEST, manifest.model_dump())


_load_tokenizer = cache(Tokenizer.load)  # a worker runs many tasks


def task_folder(scratch: Path, rank: int) -> Path:
    """Where a task writes."""
    return scratch / "tasks" / f"{rank:05d}"


# --- all tasks -----------------------------------------------------------------------------------------------------


def tokenize(
    corpus: Corpus, tokenizer: Path, params: TokensParams, scratch: Path, directory: Path, task_bytes: int = TASK_BYTES
) -> None:
    """Writes the corpus into `directory` as shards of ids of the tokenizer that lies in `tokenizer`.

    What is in `scratch` from an interrupted run on the same inputs is used; it is for the caller to delete it.
    Raises InputError for a corpus or a tokenizer that is malformed, a split that is left empty, and an executor that
    cannot work.
    """
    scratch, tasks = scratch.resolve(), corpus.groups(task_bytes)
    folders = [task_folder(scratch, rank) for rank in range(len(tasks))]
    for folder in folders:
        (folder / ERROR).unlink(missing_ok=True)
        completed = scratch / "datatrove" / "completions" / folder.name
        if completed.exists() and not is_whole(folder):
            completed.unlink()
    steps = [ReadTexts(corpus, tasks), WriteTokens(tokenizer.resolve(), params.shard_tokens, scratch)]
    connect = {"local": _local, "slurm": _slurm, "ray": _ray}[params.executor]
    common = {"pipeline": steps, "tasks": len(tasks), "logging_dir": str(scratch / "datatrove")}
    with connect(params, common) as executor, _progress(folders, corpus.rows):
        executor.run()
    for rank in executor.get_incomplete_ranks():
        raise _error(folders[rank], tasks[rank], params.executor, common["logging_dir"])
    manifest = join_shards(folders, directory)
    corpus.check_splits(manifest.splits)
    write_json(directory / MANIFEST, manifest.model_dump())


def _error(folder: Path, files: Sequence[Path], executor: str, logs: str) -> Exception:
    """What ended a task."""
    try:
        error, where = pickle.loads((folder / ERROR).read_bytes())
    except Exception:  # there is none, or a full disk cut it short
        return InputError(
            f"tokens.executor = {executor!r}: {files[0]} was not tokenized to its end; what is known is in {logs} or "
            "above; the next run goes on from here"
        )
    error.__cause__ = RuntimeError(f"in a task:\n{where}")
    return error


# --- where tasks run: context managers that give an executor --------------------------------------------------------


class _Local(LocalPipelineExecutor):
    """On this machine. datatrove's own pool waits for ever for the task of a worker that was killed."""

    def run(self) -> None:
        """Runs the tasks that are not completed. Raises what the first that fails raises, or BrokenProcessPool."""
        ranks = self.get_incomplete_ranks()
        if self.workers == 1:
            for rank in ranks:
                self._run_for_rank(rank)
        elif ranks:
            with worker_pool(self.workers) as pool:
                for done in as_completed([pool.submit(self._run_for_rank, rank) for rank in ranks]):
                    done.result()


@contextmanager
def _local(params: TokensParams, common: dict) -> Iterator[PipelineExecutor]:
    """Processes of this machine."""
    workers = min(params.workers or cpu_count(), common["tasks"])
    try:
        yield _Local(**common, workers=workers)
    except BrokenProcessPool:
        raise InputError(
            f"tokens.workers: one of {workers} workers was ended, probably for want of memory; try fewer; "
            "the tasks that are done are kept"
        ) from None


def _memory(params: TokensParams) -> float:
    """GB that a task asks for: both splits' shards, and the text that is read at a time."""
    return 0.5 + 4e-9 * params.shard_tokens


@contextmanager
def _ray(params: TokensParams, common: dict) -> Iterator[PipelineExecutor]:
    """A connection to the cluster that RAY_ADDRESS names, or a cluster of this machine for the time being."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if began := not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "")
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            if host:  # Ray itself would try for minutes
                socket.create_connection((host, port), timeout=10).close()
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except OSError:
            if not address:
                raise
            raise InputError(f"tokens.executor = 'ray': no cluster answers at RAY_ADDRESS = {address!r}") from None
    try:
        memory, most = _memory(params), max(node["Resources"].get("memory", 0) for node in ray.nodes()) / 2**30
        if memory > most:  # Ray would wait for a machine that has as much
            raise InputError(
                f"tokens.shard_tokens = {params.shard_tokens}: a task needs {memory:.1f} GB, "
                f"the cluster's largest node offers {most:.1f}"
            )
        yield RayPipelineExecutor(**common, workers=params.workers or -1, mem_per_cpu_gb=memory)
    finally:
        if began:
            ray.shutdown()


class _Slurm(SlurmPipelineExecutor):
    """An array of jobs, which `sbatch` waits for."""

    def launch_merge_stats(self) -> None:
        """Submits no further job: nobody reads datatrove's statistics."""


@contextmanager
def _slurm(params: TokensParams, common: dict) -> Iterator[PipelineExecutor]:
    """A job array, which ends with this process; what a killed one has left of it is ended before it starts."""
    logs, modules = common["logging_dir"], str(Path(__file__).parents[1])
    if shutil.which("sbatch") is None:
        raise InputError("tokens.executor = 'slurm': no command sbatch here; run this where jobs are submitted")
    if len(logs.split()) > 1:  # datatrove does not quote it
        raise InputError(f"tokens.executor = 'slurm': white space in the path {logs}")
    memory = math.ceil(_memory(params))
    asked = [f"--partition={params.slurm.partition}", f"--time={params.slurm.time}", f"--mem-per-cpu={memory}G"]
    test = subprocess.run(["sbatch", "--test-only", *asked, "--wrap=true"], capture_output=True, text=True)
    if test.returncode:
        raise InputError(f"tokens.slurm: sbatch does not accept {' '.join(asked)}: {' '.join(test.stderr.split())}")
    os.environ.pop("SLURM_ARRAY_TASK_ID", None)  # datatrove would take this process for a task
    name = f"tokenize-{hashlib.sha256(logs.encode()).hexdigest()[:8]}"
    cancel = ["scancel", f"--name={name}"]
    subprocess.run(cancel)
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    path = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    try:
        with suppress(subprocess.CalledProcessError):  # a task failed
            yield _Slurm(
                **common,
                workers=params.workers or -1,
                time=params.slurm.time,
                partition=params.slurm.partition,
                mem_per_cpu_gb=memory,
                job_name=name,
                qos="",
                env_command=f"export {path} PYTHONPATH={shlex.quote(modules)}",
                sbatch_args={"wait": ""},
            )
    finally:
        subprocess.run(cancel)
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _progress(folders: list[Path], rows: int) -> Iterator[None]:
    """Shows how many rows all tasks have read, wherever they run."""
    ended = threading.Event()

    def watch() -> None:
        with bar(total=rows, desc="tokenize", unit="text") as progress:
            running = True
            while running:
                running = not ended.wait(0.5)
                sizes = [folder / ROWS for folder in folders]
                progress.update(sum(path.stat().st_size for path in sizes if path.exists()) - progress.n)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
