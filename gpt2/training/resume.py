"""The state of unfinished training, on disk: written whole, the last two kept, damaged ones passed over."""

import pickle
import sys
import zipfile
import zlib
from pathlib import Path

import torch

from gpt2.common.errors import InputError
from gpt2.common.files import NO_ROOM, replacing

KEEP = 2
DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)


class Checkpoints:
    """Numbered states of one run in a directory of its own."""

    def __init__(self, directory: Path):
        self.directory = directory

    def paths(self) -> list[Path]:
        """The checkpoints there are, newest first."""
        return sorted(self.directory.glob("step_*.pt"), reverse=True)

    def newest(self) -> str:
        """The name of the newest checkpoint, for a message."""
        return str(next(iter(self.paths()), "none yet"))

    def save(self, step: int, state: dict) -> None:
        """Writes the state after `step` steps and deletes all but the newest two.

        Raises InputError where there is no room, which leaves those before as they are.
        """
        try:
            with replacing(self.directory / f"step_{step:08d}.pt") as temporary:
                torch.save(state, temporary)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise InputError(
                f"{error.filename}: {error.strerror}; run again when there is room, and training goes on where it was "
                f"last kept (last good checkpoint: {self.newest()})"
            ) from None
        for path in self.paths()[KEEP:]:
            path.unlink()

    def load(self) -> dict | None:
        """The newest state that is whole, on the CPU; None where there is none. Deletes what a killed write left."""
        for leftover in self.directory.glob(".step_*.pt.tmp"):
            leftover.unlink()
        for path in self.paths():
            try:
                return _read(path)
            except DAMAGE as error:
                print(f"{path} is damaged and passed over: {error}", file=sys.stderr)
        return None


def _read(path: Path) -> dict:
    """Verifies the checksums that torch.save wrote, which torch.load does not look at, and loads tensors only."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)
