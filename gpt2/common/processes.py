"""Processes that do not outlive the one that started them."""

import ctypes
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

PR_SET_PDEATHSIG = 1
PIPE = "GPT2_JOB_PIPE"  # the variable that names the pipe on which a job's processes reach the one that started it
QUIET = {"LOGLEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # torchrun's and torch's advice, which is not for users
GRACE = 10  # seconds that a job has to end when it is asked to


def die_with_parent(parent: int) -> None:
    """Has the kernel end this process with SIGKILL when its parent ends: Linux; elsewhere there is no such call.

    `parent` is the id of the process that started this one; if that one is gone already, this one ends here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def run_job(command: str) -> tuple[int, str]:
    """Runs one command of the shell, such as torchrun's, to its end: its exit status, and "" or what `end_job` told.

    Whatever ends this process ends the job: Ctrl-C (which reaches this process alone, for the job is a process group of
    its own), SIGTERM and exceptions have it stopped, and on Linux it does not outlive this process's sudden death.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    environment = {**QUIET, **os.environ}
    if sys.platform == "linux":  # torchrun may die of SIGTERM without a report: its workers die with it
        environment["PET_SIGNALS_TO_HANDLE"] = "SIGHUP"
    with tempfile.TemporaryDirectory() as place:
        environment[PIPE] = str(Path(place, "pipe"))
        os.mkfifo(environment[PIPE])  # needs no room on a full disk, and keeps lines whole
        pipe = os.open(environment[PIPE], os.O_RDWR | os.O_NONBLOCK)
        job = subprocess.Popen(
            ["/bin/sh", "-c", f"exec env {command}"],  # no shell between; `env` takes NAME=value before the command
            env=environment,
            process_group=0,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        try:
            told = _wait(job, pipe)
        finally:
            _stop(job)
            os.close(pipe)
    return job.returncode, told


def _wait(job: subprocess.Popen, pipe: int) -> str:
    """Waits until the job ends, or one of its processes tells why it should: returns that line, or nothing."""
    while True:
        ended = job.poll() is not None
        if select.select([pipe], [], [], 0 if ended else 0.1)[0]:
            return os.read(pipe, select.PIPE_BUF).decode().partition("\n")[0]
        if ended:
            return ""


def _stop(job: subprocess.Popen) -> None:
    if job.poll() is None:
        job.terminate()
        try:
            job.wait(GRACE)
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()


def end_job(line: str) -> None:
    """Called by a process of a job: tells the line to `run_job`, which ends the job, and waits for that end.

    So no other process of the job fails and complains in its turn. Returns where there is no `run_job` to tell, or it
    is on another machine.
    """
    with suppress(KeyError, OSError):
        pipe = os.open(os.environ[PIPE], os.O_WRONLY | os.O_NONBLOCK)  # fails where nobody reads
        os.write(pipe, f"{line}\n".encode())
        time.sleep(2 * GRACE)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes. An error in the body, or Ctrl-C, ends them at once, whatever they are doing."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin(parent: int) -> None:
    """In a worker: Ctrl-C, which the terminal sends to all, is for the parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
