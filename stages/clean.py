"""Lists what lies in `.scratch/` and removes what is abandoned: `python -m stages.clean`.

Unfinished work is abandoned if no stage would resume it under the present params and data. The ends of constant phases
are removed too; a longer run then starts at step 0. Work that is running, or that would resume, always stays.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gpt2.common.errors import InputError
from stages.params import read_params, read_yaml
from stages.stage import Stage, discard, root

LOGS = ("tensorboard", "wandb")
CONSTANT = "constant-"  # begins the name of a folder with the end of a constant phase
SECONDS = {"days": 86400, "hours": 3600, "minutes": 60}


@dataclass(frozen=True)
class Work:
    """A folder of `.scratch/`."""

    path: Path
    size: int  # bytes
    changed: float  # seconds since 1970, of the latest change in it
    status: str
    removable: bool = False

    def __str__(self) -> str:
        return f"{self.path}, {self.megabytes}, {_age(time.time() - self.changed)}: {self.status}"

    @property
    def megabytes(self) -> str:
        return f"{self.size / 1e6:,.1f} MB"


def find(scratch: Path) -> Iterator[Work]:
    """Everything in `.scratch/`, stage by stage."""
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    for folder in sorted(path for path in scratch.glob("*") if path.is_dir()):
        if folder.name in LOGS:
            yield Work(folder, *_measure(folder), "logs of training, which stay until you delete the folder")
            continue
        works = sorted(path for path in folder.glob("*") if path.is_dir())
        key, problem = _key(folder.name) if works and folder.name in stages else (None, "")
        for path in works:
            yield Work(path, *_measure(path), *_status(path, key, problem))


def _key(stage: str) -> tuple[str | None, str]:
    """The key of the work that a stage would resume now, and why there is none."""
    try:
        return Stage(stage).key(), ""
    except (InputError, OSError) as error:  # OSError: another stage replaces its outs meanwhile
        return None, str(error)


def _status(path: Path, key: str | None, problem: str) -> tuple[str, bool]:
    """What a folder of a stage is, and whether it may be removed."""
    if _is_locked(path):
        return "running", False
    steps = [int(file.stem.removeprefix("step_")) for file in path.glob("step_*.pt")]
    step = f" at step {max(steps)}" if steps else ""
    if path.name.startswith(CONSTANT):
        return "end of a constant phase; without it a longer run starts at step 0", True
    if problem:
        return f"stays{step}, since it may resume: {problem}", False
    if path.name.split("-")[0] == key:
        return f"resumes{step} with the present params", False
    return f"abandoned{step}", True


def _is_locked(folder: Path) -> bool:
    lock = folder / "lock"
    if lock.exists():
        try:
            with FileLock(lock, blocking=False):
                pass
        except Timeout:
            return True
    return False


def _measure(folder: Path) -> tuple[int, float]:
    """The size in bytes, and the time of the latest change. A running stage may delete files meanwhile."""
    size, changed = 0, folder.stat().st_mtime
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                stat = os.lstat(Path(place, name))
                size, changed = size + stat.st_size, max(changed, stat.st_mtime)
    return size, changed


def _age(seconds: float) -> str:
    unit = next((unit for unit, length in SECONDS.items() if seconds >= 2 * length), None)
    return f"{seconds // SECONDS[unit]:.0f} {unit} old" if unit else "new"


def remove(path: Path) -> bool:
    """Deletes a folder, unless a stage has started to use it. A stage that starts meanwhile begins in a new one."""
    try:
        with FileLock(path / "lock", blocking=False) as lock:
            discard(path, lock)
    except Timeout:
        return False
    return True


def main(yes: bool) -> None:
    """Lists all work, then removes what may go, if `yes` or the user at a terminal says so."""
    read_params()
    found = list(find(root() / ".scratch"))
    print("\n".join(map(str, found)) or f"{root() / '.scratch'}: nothing")
    removable = [work for work in found if work.removable]
    if removable and not yes and not sys.stdin.isatty():
        total = sum(work.size for work in removable) / 1e6
        print(f"`python -m stages.clean --yes` removes {len(removable)} of these: {total:,.1f} MB")
        return
    for work in removable:
        question = f"Remove {work.path} ({work.megabytes}; {work.status})? [y/N] "
        if yes or input(question).lower() in ("y", "yes"):
            print(
                f"removed {work.path}"
                if remove(work.path)
                else f"{work.path}: a stage has started to use it, so it stays"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.clean", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    try:
        main(parser.parse_args().yes)
    except InputError as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
