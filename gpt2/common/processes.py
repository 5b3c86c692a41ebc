"""Processes that do not outlive the one that started them.

On Linux the kernel ends them; elsewhere a process that is killed may leave its children behind.
"""

import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from gpt2.common.errors import InputError

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
KERNEL_ENDS_CHILDREN = hasattr(LIBC, "prctl")
PR_SET_PDEATHSIG = 1
ERROR_FILE = "GPT2_ERROR_FILE"  # environment variable: the file to which a worker writes the line that ends the job
CREATE_NEW_PROCESS_GROUP = 0x200  # subprocess has this constant on Windows alone
QUIET = {"LOGLEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # silences advice of torchrun and torch
PATIENCE = 20  # seconds that a failed worker waits for run_job to end it


def die_with_parent(parent: int) -> None:
    """On Linux: asks the kernel to kill this process when its parent, the process `parent`, ends."""
    if KERNEL_ENDS_CHILDREN:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os.kill(os.getpid(), signal.SIGKILL)


def run_job(command: str) -> tuple[int, str]:
    """Runs a shell command that starts workers, such as torchrun, and waits until it ends.

    Returns its exit status and the line that a worker passed to `end_job`, or "". Ctrl-C, SIGTERM and exceptions in
    this process end the job; on Linux the death of this process does too. On Windows the command is a program with its
    arguments; raises InputError if there is no such program.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    environment = {**QUIET, **os.environ}
    if KERNEL_ENDS_CHILDREN:  # on SIGTERM torchrun dies without a report, and its workers die with it
        environment["PET_SIGNALS_TO_HANDLE"] = "SIGHUP"
    if sys.platform == "win32":  # torch is built without libuv there, but torchrun's rendezvous asks for it
        environment.setdefault("USE_LIBUV", "0")
    with tempfile.TemporaryDirectory() as directory:
        error = Path(directory, "error")
        environment[ERROR_FILE] = str(error)
        job = subprocess.Popen(**job_arguments(command, sys.platform), env=environment)
        try:
            while job.poll() is None and not error.exists():
                time.sleep(0.1)
        finally:
            if sys.platform == "win32":
                job.send_signal(signal.CTRL_BREAK_EVENT)  # reaches the workers too
            job.terminate()
            job.wait()
        return job.returncode, error.read_text("utf-8") if error.exists() else ""


def job_arguments(command: str, system: str) -> dict:
    """How Popen starts the job on a system, `sys.platform`: in its own process group, so that Ctrl-C in a terminal
    reaches only this process. Raises InputError if Windows finds no such program."""
    if system != "win32":
        # The child first runs this module, whose last lines replace it with the job, because a preexec_fn would be
        # unsafe once torch has started threads.
        return {"args": [sys.executable, "-m", __name__, str(os.getpid()), command], "process_group": 0}
    name = command.split()[0]
    if (program := shutil.which(name)) is None:  # Windows itself would look beside python.exe before it looks in PATH
        raise InputError(f"machine.launcher = {command!r}: found no program {name} in PATH")
    return {"args": command, "executable": program, "creationflags": CREATE_NEW_PROCESS_GROUP}


def end_job(line: str) -> None:
    """In a worker of `run_job`: passes it a line and waits for it to end the job, so that other workers print no error.

    Has no effect if no `run_job` waits, because the process was started by hand or on another machine.
    """
    with suppress(KeyError, OSError):
        error = Path(os.environ[ERROR_FILE])
        temporary = error.with_name(str(os.getpid()))
        temporary.write_text(line, "utf-8")
        os.replace(temporary, error)
        time.sleep(PATIENCE)


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
    """In a pool's worker: ignores Ctrl-C, which a terminal sends to every process; the parent handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


if __name__ == "__main__":  # started by run_job: becomes the job
    die_with_parent(int(sys.argv[1]))
    os.execvp("/bin/sh", ["sh", "-c", f"exec env {sys.argv[2]}"])  # `env` allows NAME=value before the command
