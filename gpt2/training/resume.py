"""The state of training on disk: written atomically, the last two of a run kept, damaged files skipped."""

import pickle
import sys
import zipfile
import zlib
from pathlib import Path

import torch

from gpt2.common.errors import InputError
from gpt2.common.files import NO_ROOM, replacing
from gpt2.common.stopwatch import stopwatch

KEEP = 2
CONSTANT = "constant.pt"  # the state at the end of the constant phase of wsd, from which a longer run can continue
DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)


class Checkpoints:
    """The numbered states of one run, in a directory that contains nothing else."""

    def __init__(self, directory: Path):
        self.directory = directory

    def paths(self) -> list[Path]:
        """The existing checkpoints, newest first."""
        return sorted(self.directory.glob("step_*.pt"), reverse=True)

    def newest(self) -> str:
        """The name of the newest checkpoint, for a message."""
        return str(next(iter(self.paths()), "none yet"))

    def save(self, step: int, state: dict) -> None:
        """Writes the state after `step` steps and deletes all but the newest two.

        Raises InputError if the disk is full, and keeps the older checkpoints.
        """
        self.write(self.directory / f"step_{step:08d}.pt", state)
        for path in self.paths()[KEEP:]:
            path.unlink()

    def save_constant(self, state: dict) -> None:
        """Writes the state at the end of the constant phase, which no later checkpoint replaces."""
        self.write(self.directory / CONSTANT, state)

    @stopwatch.part("saving")
    def write(self, path: Path, state: dict) -> None:
        """Writes a file. Raises InputError if the disk is full."""
        try:
            with replacing(path) as temporary:
                torch.save(state, temporary)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise InputError(
                f"{error.filename}: {error.strerror}; free some space and run again, and training resumes "
                f"(last good checkpoint: {self.newest()})"
            ) from None

    def load(self) -> dict | None:
        """The newest undamaged state, on the CPU, or None. Deletes the temporary files of interrupted writes."""
        for leftover in self.directory.glob(".step_*.pt.tmp"):
            leftover.unlink()
        return next((state for state in map(read_state, self.paths()) if state), None)


def read_state(path: Path) -> dict | None:
    """Reads a checkpoint on the CPU, or returns None with a message if it is damaged.

    Verifies the checksums that torch.save wrote, which torch.load ignores, and loads nothing that could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        print(f"{path} is damaged and skipped: {error}", file=sys.stderr)
        return None
