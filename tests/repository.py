"""A copy of this repository in which a test runs the chain as a user would."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


class Repository:
    """A copy of the tracked files with a history of its own, so that experiments have a commit to start from."""

    def __init__(self, place: Path, profile: str, **environment: str):
        """`environment` is set for every command, on top of this process's."""
        self.path, self.environment = place, environment
        names = self._git("ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\n")
        for name in filter(None, names):
            if (ROOT / name).is_file() and not name.startswith("reports/") and name != "dvc.lock":
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place / name)
        self.ok("git", "init", "--quiet")
        self.ok(sys.executable, "-m", "stages.profile", profile)
        self.commit()

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Runs a command there, this Python's folder first on the path."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore", **self.environment}
        environment.pop("DVC_ROOT", None)
        return subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True)

    def ok(self, *command: str) -> str:
        """What a command that must succeed printed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def commit(self) -> None:
        self.ok("git", "add", "--all")
        identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
        self.ok("git", *identity, "commit", "--quiet", "--message", "state")

    def restore(self) -> None:
        """Back to what was committed, with its data."""
        self.ok("git", "checkout", "--force", ".")
        self.ok("dvc", "checkout", "--force")

    def json(self, name: str) -> dict:
        return json.loads((self.path / name).read_text())

    @staticmethod
    def _git(*arguments: str, cwd: Path) -> str:
        return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout
