"""From the corpus to token shards, on one machine or many: a datatrove pipeline (github.com/huggingface/datatrove).

A task is one file of the corpus. It writes its own shards, into a folder of its own below `scratch`; when all tasks are
done, their shards are numbered through in the order of the files. So the bytes depend neither on how many workers
there are, nor on where they run, nor on what was interrupted: the tasks that were completed are not run again.
"""

import logging
import math
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path

import multiprocess.util
import numpy as np
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from gpt2.corpus import Corpus, Text
from gpt2.data_config import TokensParams
from gpt2.errors import InputError
from gpt2.files import write_json
from gpt2.processes import die_with_parent
from gpt2.progress import bar
from gpt2.shard_writer import TokenWriter, digests_file, join_shards
from gpt2.shards import MANIFEST
from gpt2.tokenizer import Tokenizer

ERROR = "error"  # in a task's folder: why it failed
ROWS = "rows"  # in a task's folder: a file without contents, whose length is the number of rows read
REPORT_ROWS = 64  # read between two reports

# datatrove tells standard error about every step. Whoever works on our pipeline imports this module first.
logger.disable("datatrove")


# --- a task --------------------------------------------------------------------------------------------------------


class ReadTexts(PipelineStep):
    """Yields the rows of the task's file, empty texts among them."""

    name, type = "texts", "reader"

    def __init__(self, corpus: Corpus):
        super().__init__()
        self.corpus = corpus

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Raises InputError as `Corpus.documents` does."""
        path = self.corpus.files[rank]
        for row, document in enumerate(self.corpus.documents(path)):
            metadata = document._asdict()
            yield Document(metadata.pop("text"), f"{path.name}/{row}", metadata=metadata)


class WriteTokens(PipelineStep):
    """Writes the task's documents into its folder: shards, their manifest, and the digests of the texts."""

    name, type = "tokens", "writer"

    def __init__(self, tokenizer: Path, shard_tokens: int, scratch: Path):
        super().__init__()
        self.tokenizer, self.shard_tokens, self.scratch = tokenizer, shard_tokens, scratch
        self.directory = Path.cwd()  # where relative paths begin

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> None:
        """Leaves the error in the folder where there is one, because not every executor hands it on."""
        if worker := multiprocess.parent_process():
            die_with_parent(worker.pid)
        os.chdir(self.directory)
        folder = task_folder(self.scratch, rank)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            self._write(data, folder)
        except Exception as error:
            (folder / ERROR).write_bytes(pickle.dumps((error, traceback.format_exc())))
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
            np.save(folder / digests_file(split), digests)
        write_json(folder / MANIFEST, manifest.model_dump())


_load_tokenizer = cache(Tokenizer.load)  # a worker runs many tasks


def task_folder(scratch: Path, rank: int) -> Path:
    """Where a task writes."""
    return scratch / "tasks" / f"{rank:05d}"


# --- all tasks -----------------------------------------------------------------------------------------------------


def tokenize(corpus: Corpus, tokenizer: Path, params: TokensParams, scratch: Path, directory: Path) -> None:
    """Writes the corpus into `directory` as shards of ids of the tokenizer that lies in `tokenizer`.

    What is in `scratch` from an interrupted run on the same inputs is used; it is for the caller to delete it.
    Raises InputError for a corpus or a tokenizer that is malformed, a split that is left empty, and an executor that
    cannot work.
    """
    scratch = scratch.resolve()
    folders = [task_folder(scratch, rank) for rank in range(len(corpus.files))]
    steps = [ReadTexts(corpus), WriteTokens(tokenizer, params.shard_tokens, scratch)]
    for folder in folders:
        (folder / ERROR).unlink(missing_ok=True)
    with _progress(folders, corpus.rows), _cluster(params):
        executor = _executor(params, steps, scratch / "datatrove", len(folders))
        _run(executor, params, folders, corpus)
    manifest = join_shards(folders, directory)
    corpus.check_splits(manifest.splits)
    write_json(directory / MANIFEST, manifest.model_dump())


def _executor(params: TokensParams, steps: list[PipelineStep], logs: Path, tasks: int) -> PipelineExecutor:
    common = {"pipeline": steps, "tasks": tasks, "logging_dir": str(logs)}
    if params.executor == "local":
        workers = min(params.workers or len(os.sched_getaffinity(0)), tasks)
        executor = LocalPipelineExecutor(**common, workers=workers, start_method="spawn")
        # it forks a process of its own, for the workers' queue
        multiprocess.util.register_after_fork(executor, lambda _: die_with_parent())
        return executor
    memory = 0.5 + 4e-9 * params.shard_tokens  # GB: both splits' shards, and the text that is read at a time
    common["workers"] = params.workers or -1
    if params.executor == "ray":
        return RayPipelineExecutor(**common, mem_per_cpu_gb=memory)
    if shutil.which("sbatch") is None:
        raise InputError("tokens.executor = 'slurm': no command sbatch here; run this where jobs are submitted")
    path = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    modules = f"PYTHONPATH={shlex.quote(str(Path(__file__).parents[1]))}"
    return SlurmPipelineExecutor(
        **common,
        time=params.slurm.time,
        partition=params.slurm.partition,
        mem_per_cpu_gb=math.ceil(memory),
        job_name="tokenize",
        qos="",
        env_command=f"export {path} {modules}",
        sbatch_args={"wait": ""},
    )


@contextmanager
def _ray() -> Iterator[None]:
    """A connection to the cluster that RAY_ADDRESS names, or a cluster of this machine for the time being."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def _cluster(params: TokensParams) -> AbstractContextManager:
    return _ray() if params.executor == "ray" else nullcontext()


def _run(executor: PipelineExecutor, params: TokensParams, folders: list[Path], corpus: Corpus) -> None:
    """Runs the tasks that are not completed. Raises what the first of those that failed raised."""
    with suppress(subprocess.CalledProcessError):  # sbatch, which waits: a task failed, or the job was not accepted
        executor.run()
    for rank in executor.get_incomplete_ranks():
        try:
            error, where = pickle.loads((folders[rank] / ERROR).read_bytes())
        except FileNotFoundError:
            logs = executor.logging_dir.resolve_paths("")
            raise InputError(
                f"tokens.executor = {params.executor!r}: {corpus.files[rank]} was not tokenized to its end; what is "
                f"known is in {logs} or above; the next run goes on from here"
            ) from None
        raise error from RuntimeError(f"in a task:\n{where}")


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
