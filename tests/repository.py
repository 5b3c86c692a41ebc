"""A copy of this repository in which tests run the chain as a user would."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.conftest import ROOT

IDENTITY = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Folder:
    """A folder in which to run commands, and to start and find processes."""

    def __init__(self, place: Path, **environment: str):
        """Every command gets the variables of `environment` besides those of this process."""
        self._mark = uuid.uuid4().hex
        self.path, self.environment = place, {**environment, "MARK": self._mark}

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Runs a command there, with the folder of this Python first on the path."""
        return subprocess.run(command, cwd=self.path, env=self._environment(), capture_output=True, text=True)

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # bash replaces itself with the command of a stage, so that the stage is a child of DVC; Debian's sh does not
        shell = {"SHELL": "/bin/bash"} if "SHELL" not in os.environ else {}
        environment = {**os.environ, **shell, "PATH": path, "PYTHONWARNINGS": "ignore", **IDENTITY, **self.environment}
        environment.pop("DVC_ROOT", None)
        return environment

    def ok(self, *command: str) -> str:
        """Runs a command that must succeed, and returns its output."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def start(self, *command: str, **options) -> subprocess.Popen:
        """Starts a command there without waiting for it. Popen gets `options`."""
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self._environment(),
            text=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # as in a terminal; `&` ignores it
            **options,
        )

    def processes(self) -> dict[int, str]:
        """Running descendants of commands by process id: dvc, stage, torchrun, rank 0, rank 1 or worker."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if self._mark.encode() in environment and command != [b""]:
                rank = re.search(rb"\0RANK=(\d)", environment)
                names = {b"repro": "dvc", b"--standalone": "torchrun", b"--multiprocessing-fork": "worker"}
                name = next((name for word, name in names.items() if word in command), "stage")
                found[int(path.name)] = f"rank {rank[1].decode()}" if rank else name
        return found

    def wait_for(self, condition: Callable[[], object], process: subprocess.Popen | None = None) -> None:
        """Waits until a condition is true. Fails after three minutes, or when `process` ends before."""
        ends = time.monotonic() + 180
        while not condition():
            assert time.monotonic() < ends and (process is None or process.poll() is None), self.processes()
            time.sleep(0.01)

    def json(self, name: str) -> dict:
        return json.loads((self.path / name).read_text())


class Repository(Folder):
    """A copy of the tracked files with its own git history, so that experiments have a commit to start from."""

    def __init__(self, place: Path, profile: str, **environment: str):
        super().__init__(place, **environment)
        names = self._git("ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\n")
        for name in filter(None, names):
            if (ROOT / name).is_file() and not name.startswith("reports/") and name != "dvc.lock":
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place / name)
        self.ok("git", "init", "--quiet", "--initial-branch", "main")
        self.ok(sys.executable, "-m", "stages.profile", profile)
        self.commit()

    def commit(self) -> None:
        self.ok("git", "add", "--all")
        self.ok("git", "commit", "--quiet", "--message", "state")

    def restore(self) -> None:
        """Restores the committed files and their data."""
        self.ok("git", "checkout", "--force", ".")
        self.ok("dvc", "checkout", "--force")

    @staticmethod
    def _git(*arguments: str, cwd: Path) -> str:
        return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout


class Clone(Repository):
    """A git clone of a repository, with its data. It uses the DVC cache of the repository, and so do its clones."""

    def __init__(self, origin: Path, place: Path):
        settings = place / "settings"
        Folder.__init__(self, place / "lab", HF_HUB_OFFLINE="1", DVC_GLOBAL_CONFIG_DIR=str(settings))
        settings.mkdir()
        (settings / "config").write_text(f"[cache]\n    dir = {origin / '.dvc/cache'}\n")
        self._git("clone", "--quiet", str(origin), str(self.path), cwd=place)
        self.ok("dvc", "checkout")
