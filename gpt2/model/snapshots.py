"""The models of one pretraining run: its snapshots, and the final model.

A directory of snapshots has one checkpoint per snapshot, and `manifest.json`:

    {"step": 600, "tokens": 1228800, "snapshots": [{"step": 0, "tokens": 0, "directory": "step_00000000"}, ...]}

`step` and `tokens` are those of the final model, which has a directory of its own.
"""

from dataclasses import dataclass
from pathlib import Path

from gpt2.common.files import read_json, write_json


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint, and how far training had come."""

    step: int
    tokens: int  # seen in training
    directory: Path


def snapshot_directory(directory: Path, step: int) -> Path:
    """Where the snapshot of a step belongs in a directory of snapshots."""
    return directory / f"step_{step:08}"


def write_manifest(directory: Path, snapshots: list[Snapshot], step: int, tokens: int) -> None:
    """Writes the manifest of the snapshots, in the order of their steps, in `directory`.

    `step` and `tokens` are those of the final model.
    """
    rows = [{"step": s.step, "tokens": s.tokens, "directory": s.directory.name} for s in snapshots]
    write_json(directory / "manifest.json", {"step": step, "tokens": tokens, "snapshots": rows})


def read_snapshots(directory: Path, final: Path) -> list[Snapshot]:
    """The snapshots in `directory` in the order of their steps, and then the model in `final`.

    Raises InputError if there is no manifest.
    """
    manifest = read_json(directory / "manifest.json")
    rows = [Snapshot(row["step"], row["tokens"], directory / row["directory"]) for row in manifest["snapshots"]]
    return [*rows, Snapshot(manifest["step"], manifest["tokens"], final)]
