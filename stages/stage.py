"""What every stage needs: declared inputs only, outs written whole, one clear line for a user's mistake.

DVC records params and deps in `dvc.lock` as they are when a command ends. It would record an edit during the run as
what produced the result. So a stage compares its inputs at the end with those at the start, and fails if they differ.
"""

import argparse
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import reduce
from itertools import count
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

from gpt2.common.errors import InputError, is_out_of_memory
from gpt2.common.files import NO_ROOM, read_json, sha256, write_json
from gpt2.common.mappings import flat
from gpt2.common.processes import die_with_parent, end_job, run_job
from gpt2.common.stopwatch import PARTS, stopwatch
from gpt2.config.params import MachineParams, Params
from stages import BEGAN, PARENT
from stages.params import declares, read_params, read_yaml

# Errors of the file system that the user can fix.
REFUSED = (*NO_ROOM, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)

IGNORED = {"__pycache__", ".gitignore"}  # .dvcignore has the same names
SECONDS = ".scratch/seconds"  # how long each stage took, for stages/times.py and stages/plan.py
LAUNCHED_AT = "GPT2_LAUNCHED_AT"  # environment variable: when the process that runs the launcher began
CODE = ("gpt2/", "stages/", "requirements.txt")  # deps that are not data: unfinished work survives a change


class Stage:
    """A stage of `dvc.yaml` while it runs: a context manager that puts the outs in place when its body succeeds.

    The constructor validates all params and requires all deps: InputError names the first that is wrong or missing.
    Under a launcher each process has a Stage; only rank 0 hashes the deps, locks, writes and finishes, and the others
    get the following from `share`. While the stage runs, `values` holds the declared params by dotted name, `data` and
    `code` hold the hash of each file of its deps, and `scratch` is the folder of its unfinished work.
    """

    def __init__(self, name: str):
        stopwatch.restart(float(os.environ.get(LAUNCHED_AT, BEGAN)))
        self.name = name
        self._params = read_params()
        spec = read_yaml(Path("dvc.yaml"))["stages"][name]
        self.declared_params = spec.get("params", [])
        self.declared_deps = [Path(interpolated(dep, self._params)) for dep in spec.get("deps", [])]
        outs = [out for kind in ("outs", "metrics", "plots") for out in spec.get(kind, [])]
        self.declared_outs = [Path(out if isinstance(out, str) else next(iter(out))) for out in outs]
        self.main = os.environ.get("RANK", "0") == "0"
        self._live: list[Path] = []
        for dep in self.declared_deps:
            self.dep(str(dep))

    def __enter__(self) -> "Stage":
        if not self.main:
            return self
        self._stats, self._inputs = self._read_stats(), self._read_inputs()
        self.values, self.data, self.code = self._inputs
        self.scratch = root() / ".scratch" / self.name / key_of(self.values, self.data)
        self._lock()
        self._staging = self.scratch / "outs"
        shutil.rmtree(self._staging, ignore_errors=True)
        for out in self.declared_outs:
            staged = self._staging / out
            (staged.parent if out.suffix else staged).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if not self.main:
            return
        try:
            if kind is None:
                self._finish()
                discard(self.scratch, self._scratch_lock)
                stopwatch.start("other")
                seconds = {part: round(stopwatch.seconds[part], 1) for part in PARTS if part in stopwatch.seconds}
                write_json(root() / SECONDS / f"{self.name}.json", seconds)
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._scratch_lock.release()

    def share(self, from_main: Callable) -> None:
        """Gives every process what only rank 0 has read. `from_main`: see World."""
        own = (self.values, self.data, self.code, self.scratch) if self.main else None
        self.values, self.data, self.code, self.scratch = from_main(own)

    def key(self) -> str:
        """The name of the folder of unfinished work that a run of this stage would resume now."""
        values, data, _ = self._read_inputs()
        return key_of(values, data)

    @property
    def machine(self) -> MachineParams:
        """How the work is done. It needs no declaration, because it does not decide the result."""
        return self._params.machine

    def param(self, name: str):
        """Returns the typed section or value with a dotted name. The stage must declare it, or a section around it."""
        assert declares(self.declared_params, name), f"stage {self.name} does not declare the param {name} in dvc.yaml"
        return reduce(getattr, name.split("."), self._params)

    def dep(self, path: str) -> Path:
        """Returns the path of a declared dep, or of a file below one. Raises InputError if it does not exist."""
        declared = any(Path(path).is_relative_to(dep) for dep in self.declared_deps)
        assert declared, f"stage {self.name} does not declare the dep {path} in dvc.yaml"
        if not Path(path).exists():
            raise InputError(f"{path}: missing; `dvc repro {self.name}` makes it, or `dvc pull` fetches it")
        return Path(path)

    def out(self, path: str) -> Path:
        """Returns where to write a declared out until the stage succeeds. The directory exists."""
        declared = any(Path(path).is_relative_to(out) for out in self.declared_outs)
        assert declared, f"stage {self.name} does not declare the out {path} in dvc.yaml"
        return self._staging / path

    def live(self, path: str) -> Path:
        """Returns a declared out in its final place, for a file that grows while the stage runs.

        It stays as far as it got if the stage fails.
        """
        assert Path(path) in self.declared_outs, f"stage {self.name} does not declare the out {path} in dvc.yaml"
        self._live.append(Path(path))
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return Path(path)

    def _lock(self) -> None:
        """Locks the scratch directory. Raises InputError if another process runs this stage in this repository.

        Experiments in copies of the repository may run the same stage at once. Each then gets its own directory.
        """
        first = self.scratch
        for number in count(1):
            if number > 1:
                self.scratch = first.with_name(f"{first.name}-{number}")
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._scratch_lock = FileLock(self.scratch / "lock")
            try:
                return self._scratch_lock.acquire(blocking=False)
            except Timeout:
                if root().resolve() == Path.cwd():
                    raise InputError(f"another process is running this stage on the same inputs ({first})") from None

    def _finish(self) -> None:
        """Moves the outs into place, unless an input changed during the run."""
        if self._read_stats() != self._stats and self._read_inputs() != self._inputs:
            raise InputError(
                "params.yaml or a dep changed while the stage ran, so its outs were not put in place; run it again: it "
                "resumes if its params and data are the same"
            )
        staged = [out for out in self.declared_outs if out not in self._live]
        for out in staged:
            assert (self._staging / out).exists(), f"stage {self.name} did not write {out}"
        new = {out: out.with_name(f".{out.name}.new") for out in staged}
        try:
            for out, beside in new.items():
                out.parent.mkdir(parents=True, exist_ok=True)
                _remove(beside)
                shutil.move(self._staging / out, beside)  # copies if data/ is on another disk, which may be full
            for out, beside in new.items():
                _remove(out)
                os.replace(beside, out)
        finally:
            for beside in new.values():
                _remove(beside)

    def _files(self) -> list[Path]:
        files = [file for dep in self.declared_deps for file in ([dep] if dep.is_file() else dep.rglob("*"))]
        return sorted(file for file in files if file.is_file() and not IGNORED & set(file.parts))

    def _read_stats(self) -> list[tuple]:
        """Size and modification time of every input: if they are the same, the inputs need not be hashed again."""
        return [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in [*self._files(), Path("params.yaml")]]

    def _read_inputs(self) -> tuple[dict, dict, dict]:
        """The declared params by dotted name, as `params.yaml` has them now, and the hash of every file of the deps:
        first those of data, then those of code."""
        params = flat(read_params().model_dump())
        values = {name: params[name] for name in params if declares(self.declared_params, name)}
        hashes = {file.as_posix(): sha256(file) for file in self._files()}
        code = {file: hash for file, hash in hashes.items() if file.startswith(CODE)}
        return values, {file: hash for file, hash in hashes.items() if file not in code}, code


def interpolated(path: str, params: Params) -> str:
    """Replaces each ${param} in a path, as DVC does."""
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(reduce(getattr, match[1].split("."), params)), path)


def seconds_of_stages() -> dict[str, dict[str, float]]:
    """How long each part of each stage took when the stage last succeeded here; for a training stage, in its main
    process. Of a run that resumed only the last process counts."""
    return {path.stem: read_json(path) for path in (root() / SECONDS).glob("*.json")}


def key_of(values: dict[str, object], data: dict[str, str]) -> str:
    """The name of the folder of unfinished work, which depends on params and data alone and not on code."""
    return hashlib.sha256(repr((values, data)).encode()).hexdigest()[:16]


def root() -> Path:
    """The repository. Experiments that DVC runs in a copy of it (--queue, --temp) use its .scratch too."""
    return Path(os.environ.get("DVC_ROOT", "."))


def discard(folder: Path, lock: FileLock) -> None:
    """Deletes a folder of unfinished work. It is renamed first, so that no run resumes from what a kill left of it.

    Windows renames no folder with an open file in it, so the lock is released before.
    """
    if sys.platform == "win32":
        lock.release()
    doomed = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _remove(path: Path) -> None:
    """Deletes a file, link or directory if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(name: str, main: Callable[[Stage], None], *, launched: bool = False) -> None:
    """Runs a stage as a command. A user's mistake ends in one line on standard error and exit status 1.

    `launched`: the stage runs the command `machine.launcher`, such as torchrun, which starts processes that run the
    stage with --worker. Those call `main`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=sys.modules["__main__"].__doc__)
    if launched:
        text = "run as one of the processes that machine.launcher starts"
        parser.add_argument("--worker", action="store_true", help=text)
    worker = getattr(parser.parse_args(), "worker", False)
    if worker or "DVC_ROOT" in os.environ:
        die_with_parent(PARENT)
    try:
        if not launched and os.environ.get("WORLD_SIZE", "1") != "1":
            raise InputError(f"expected one process, not {os.environ['WORLD_SIZE']}: start it without a launcher")
        stage = Stage(name)
        if launched and not worker:
            _launch(stage)
        else:
            with stage:
                if not launched:  # training tells when its first step begins
                    stopwatch.start("other")
                main(stage)
    except InputError as error:
        _end(f"{name}: {error}")
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        _end(f"{name}: the memory of the GPU is full: lower machine.micro_batch_size, or set machine.device to cpu")
    except OSError as error:
        if error.errno not in REFUSED and not isinstance(error, shutil.Error):  # shutil.Error: of shutil.move
            raise
        line = InputError(f"{error.filename or '.scratch or data'}: {error.strerror or error}")
        _end(f"{name}: {line}")
    except KeyboardInterrupt:
        sys.exit(130)


def _launch(stage: Stage) -> None:
    """Runs the stage's workers. Exits with the line of a worker that failed, or with the status of the launcher."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(f"torchrun was given -m stages.{stage.name} and not -m stages.{stage.name} --worker")
    command, os.environ[LAUNCHED_AT] = stage.machine.launcher, str(BEGAN)
    status, line = run_job(f"{command} -m stages.{stage.name} --worker")
    if line:
        sys.exit(line)
    if status:
        print(f"{stage.name}: machine.launcher = {command!r} ended with status {status}", file=sys.stderr)
        sys.exit(status if status > 0 else 128 - status)


def _end(line: str) -> NoReturn:
    """Exits with a line. A worker leaves printing it to the process that ran the launcher."""
    end_job(line)
    sys.exit(line)
