"""What every stage goes through: declared inputs only, outs written whole, one clear line when something is wrong.

`dvc.lock` records params and deps as they are after a command has run. An edit while it runs would be recorded as what
made the result; so a stage takes a fingerprint of its inputs at the start and fails at the end if they changed.
"""

import argparse
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import chain, count
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

from gpt2.common.errors import InputError
from gpt2.common.files import sha256
from gpt2.common.processes import die_with_parent, end_job, run_job
from gpt2.config.schema import Section
from stages import PARENT
from stages.params import read_params, read_yaml

# Params that say how work is done, or what is done with it: what was begun goes on when they change.
HOW = ("tokens.executor", "tokens.workers", "train.launcher", "instruction.judge")

# What a file system may answer for reasons that are the user's to put right, besides that it is full.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR, errno.EEXIST)


class Stage:
    """A stage of `dvc.yaml` at work: a context manager that puts the outs in place when its body succeeds.

    Making one validates all params and looks for all deps: InputError names the first that is wrong or missing.
    Under a launcher that starts several processes each makes its own Stage; only rank 0 locks, writes and finishes.
    """

    def __init__(self, name: str):
        self.name = name
        self._params = read_params()
        spec = read_yaml(Path("dvc.yaml"))["stages"][name]
        self.declared_params = spec.get("params", [])
        self.declared_deps = [Path(self._interpolated(dep)) for dep in spec.get("deps", [])]
        outs = [out for kind in ("outs", "metrics", "plots") for out in spec.get(kind, [])]
        self.declared_outs = [Path(out if isinstance(out, str) else next(iter(out))) for out in outs]
        self.main = os.environ.get("RANK", "0") == "0"
        for dep in self.declared_deps:
            self.dep(str(dep))

    def __enter__(self) -> "Stage":
        self._inputs, self._stats = self._take_inputs(), self._take_stats()
        values, files = self._inputs
        what = {name: value for name, value in values.items() if not name.startswith(HOW)}
        fingerprint = hashlib.sha256(repr((what, files)).encode()).hexdigest()
        self.scratch = _root() / ".scratch" / self.name / fingerprint[:16]
        if self.main:
            self._lock()
            self._staging = self.scratch / "outs"
            shutil.rmtree(self._staging, ignore_errors=True)
            for out in self.declared_outs:
                place = self._staging / out
                (place.parent if out.suffix else place).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if not self.main:
            return
        try:
            if kind is None:
                self._finish()
                shutil.rmtree(self.scratch)
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._scratch_lock.release()

    def param(self, name: str):
        """The typed section or value under a dotted name. The stage must declare it, or a section that holds it."""
        declared = any(name == key or name.startswith(f"{key}.") for key in self.declared_params)
        assert declared, f"stage {self.name} does not declare the param {name} in dvc.yaml"
        return self._value(name)

    def dep(self, path: str) -> Path:
        """A declared dep, or a file below one. Raises InputError if it is not there."""
        declared = any(Path(path).is_relative_to(dep) for dep in self.declared_deps)
        assert declared, f"stage {self.name} does not declare the dep {path} in dvc.yaml"
        if not Path(path).exists():
            raise InputError(f"{path}: missing; `dvc repro {self.name}` makes it, or `dvc pull` fetches it")
        return Path(path)

    def out(self, path: str) -> Path:
        """Where to write a declared out until the stage succeeds; a directory is there already."""
        declared = any(Path(path).is_relative_to(out) for out in self.declared_outs)
        assert declared, f"stage {self.name} does not declare the out {path} in dvc.yaml"
        return self._staging / path

    def _lock(self) -> None:
        """Takes a scratch directory for this process alone.

        Two processes in one place would also write the same outs. Experiments in copies of the repository may be at the
        same work at once: the second takes another directory.
        """
        first, places = self.scratch, [self.scratch]
        if _in_copy():
            begun = sorted(first.parent.glob(f"{first.name}*"))  # by one that was killed: goes on
            places = chain(begun, places, (first.with_name(f"{first.name}-{number}") for number in count(2)))
        if not any(self._try_lock(place) for place in places):
            raise InputError(f"another process is running this stage on the same inputs ({first})")

    def _try_lock(self, scratch: Path) -> bool:
        scratch.mkdir(parents=True, exist_ok=True)
        self.scratch, self._scratch_lock = scratch, FileLock(scratch / "lock")
        try:
            self._scratch_lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def _finish(self) -> None:
        """Moves the outs into place, unless an input changed meanwhile."""
        if self._take_stats() != self._stats and self._take_inputs() != self._inputs:
            raise InputError("params.yaml or a dep changed while the stage ran; nothing was kept, run it again")
        new = {out: out.with_name(f".{out.name}.new") for out in self.declared_outs}
        try:
            for out, beside in new.items():
                assert (self._staging / out).exists(), f"stage {self.name} did not write {out}"
                out.parent.mkdir(parents=True, exist_ok=True)
                _remove(beside)
                shutil.move(self._staging / out, beside)  # across disks a copy, for which there may be no room
            for out, beside in new.items():
                _remove(out)
                os.replace(beside, out)
        finally:
            for beside in new.values():
                _remove(beside)

    def _files(self) -> list[Path]:
        files = [file for dep in self.declared_deps for file in ([dep] if dep.is_file() else dep.rglob("*"))]
        return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)

    def _take_stats(self) -> list[tuple]:
        """Size and time of change of every input: cheap, and enough to see that nothing happened."""
        return [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in [*self._files(), Path("params.yaml")]]

    def _take_inputs(self) -> tuple[dict, dict]:
        """The declared params by dotted name, as the file now has them, and the digest of every dep."""
        params = read_params()
        sections = ((name, reduce(getattr, name.split("."), params)) for name in self.declared_params)
        values = dict(leaf for name, value in sections for leaf in _leaves(name, value))
        return values, {str(file): sha256(file) for file in self._files()}

    def _value(self, name: str):
        return reduce(getattr, name.split("."), self._params)

    def _interpolated(self, path: str) -> str:
        """The path with each ${param} in it replaced, as DVC does."""
        return re.sub(r"\$\{([\w.]+)\}", lambda match: str(self._value(match[1])), path)


def _root() -> Path:
    """The repository. Experiments that run in a copy of it have their scratch directories here too."""
    return Path(os.environ.get("DVC_ROOT", "."))


def _in_copy() -> bool:
    """Whether this is an experiment that DVC runs in a copy of the repository (--queue, --temp)."""
    return _root().resolve() != Path.cwd()


def _leaves(name: str, value) -> Iterator[tuple[str, object]]:
    """The values below a param, by dotted name."""
    if isinstance(value, Section):
        for field in type(value).model_fields:
            yield from _leaves(f"{name}.{field}", getattr(value, field))
    else:
        yield name, value


def _remove(path: Path) -> None:
    """Deletes a file, a link or a directory, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(
    name: str,
    main: Callable[[Stage], None],
    *,
    launcher: str | None = None,
    check: Callable[[Stage], object] | None = None,
) -> None:
    """Runs a stage as a command. A user's mistake ends in one line on standard error and exit status 1.

    `launcher` is a param that holds a command such as torchrun. Then the stage looks at its inputs with `check` and
    runs that command, which runs the stage again with --worker in as many processes as it will: those run `main`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=sys.modules["__main__"].__doc__)
    if launcher:
        parser.add_argument("--worker", action="store_true", help=f"be one of the processes that {launcher} starts")
    worker = getattr(parser.parse_args(), "worker", False)
    if worker or "DVC_ROOT" in os.environ:
        die_with_parent(PARENT)
    if not worker and _in_copy() and (_root() / ".git/shallow").exists():
        lost = "DVC loses the result of an experiment in a copy of a shallow clone"
        print(f"{name}: {_root()}: {lost}: `git fetch --unshallow`, then run it again", file=sys.stderr)
    try:
        if not launcher and os.environ.get("WORLD_SIZE", "1") != "1":
            raise InputError(f"expected one process, not {os.environ['WORLD_SIZE']}: start it without a launcher")
        stage = Stage(name)
        if launcher and not worker:
            check(stage)
            _launch(stage, launcher)
        else:
            with stage:
                main(stage)
    except InputError as error:
        _end(f"{name}: {error}")
    except OSError as error:
        full = os.strerror(errno.ENOSPC) in str(error)  # shutil.Error has no errno
        if not full and error.errno not in REFUSED:
            raise
        told = os.strerror(errno.ENOSPC) if full else error.strerror
        where = error.filename or ".scratch or data"
        _end(f"{name}: {InputError(f'{where}: {told}')}")
    except KeyboardInterrupt:
        sys.exit(130)


def _launch(stage: Stage, launcher: str) -> None:
    """Runs the stage's workers. Ends with the line that one of them told, or with the launcher's status."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(f"torchrun was given -m stages.{stage.name} and not -m stages.{stage.name} --worker")
    command = stage.param(launcher)
    status, told = run_job(f"{command} -m stages.{stage.name} --worker")
    if told:
        sys.exit(told)
    if status:
        print(f"{stage.name}: {launcher} = {command!r} ended with status {status}", file=sys.stderr)
        sys.exit(status if status > 0 else 128 - status)


def _end(line: str) -> NoReturn:
    """Ends this process with a line, which a worker leaves to the process that ran its launcher to print."""
    end_job(line)
    sys.exit(line)
