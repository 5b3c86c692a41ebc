"""Longer runs: with wsd, pretraining continues from where the constant phase of a shorter run ended.

Up to that point the steps of both runs are the same, if nothing differs that acted on them. So when a run succeeds,
its state there and its snapshots up to there stay in `.scratch/pretrain/constant-<key>/`. The key depends on the data
and on every param that acted. Code, processor and resolved machine values are part of the state and must be equal too.
"""

import os
import shutil
import sys
from pathlib import Path

import torch
from filelock import FileLock

from gpt2.common.files import read_json, write_json
from gpt2.common.mappings import flat
from gpt2.model.snapshots import snapshot_directory
from gpt2.pretraining.pretrain import SNAPSHOTS
from gpt2.training.optim import constant_steps, warmup_steps
from gpt2.training.resume import CONSTANT, read_state
from stages.params import read_yaml
from stages.stage import Stage, key_of, root

LATER = ("train.steps", "train.decay_rate", "train.min_lr_rate")  # do not act before the decay
RECORD = "record.json"  # what the key stands for


class ConstantPhase:
    """The state at the end of the constant phase that shorter runs left, and that this run leaves."""

    def __init__(self, stage: Stage):
        self.stage, self.params = stage, stage.param("train")
        acted = {name: value for name, value in stage.values.items() if name not in LATER}
        acted |= {"train.warmup_steps": warmup_steps(self.params), "torch": torch.__version__}
        self.record = {"params": acted, "data": stage.data}
        self.folder = root() / ".scratch" / stage.name / f"constant-{key_of(acted, stage.data)}"

    def load(self, conditions: dict) -> dict | None:
        """The state from which this run can start, or None. Prints why a similar earlier run cannot be used.

        Copies the snapshots of the earlier run. `conditions`: what affects rounding here.
        """
        if self.params.schedule != "wsd":
            if self._lengthened():
                _say("training starts at step 0: the cosine schedule depends on train.steps; a wsd run would continue")
            return None
        if not (self.folder / CONSTANT).exists():
            if others := sorted(self.folder.parent.glob(f"constant-*/{RECORD}"), key=lambda path: path.stat().st_mtime):
                _say(f"training starts at step 0: {_differences(read_json(others[-1]), self.record)}")
            return None
        with FileLock(self.folder / "lock"):
            if (state := read_state(self.folder / CONSTANT)) is None:
                return None
            step = state["history"]["step"]
            obstacle = self._obstacle(state, conditions)
            if step > constant_steps(self.params):
                obstacle = f"the constant phase of this run ends at step {constant_steps(self.params)}"
            if obstacle:
                _say(f"training starts at step 0, not at step {step} of an earlier run: {obstacle}")
                return None
            for snapshot in _snapshots(self.folder, step):
                _link(snapshot, self.stage.scratch / SNAPSHOTS / snapshot.name)
        _say(f"training continues from step {step} of an earlier run with the same constant phase")
        return state

    def keep(self) -> None:
        """Keeps the state of this run at the end of its constant phase for longer runs, unless a later one is kept."""
        new, kept = self.stage.scratch / CONSTANT, self.folder / CONSTANT
        if not new.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if kept.exists() and _is_later(read_state(kept), read_state(new)):
                return
            os.replace(new, kept)
            for snapshot in _snapshots(self.stage.scratch, constant_steps(self.params)):
                _link(snapshot, self.folder / SNAPSHOTS / snapshot.name)
            write_json(self.folder / RECORD, self.record)
        megabytes = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) / 1e6
        _say(
            f"{self.folder} ({megabytes:,.0f} MB) holds the state from which a longer run can continue at step "
            f"{constant_steps(self.params)}; `python -m stages.clean` removes it"
        )

    def _obstacle(self, state: dict, conditions: dict) -> str:
        """What differs between the work of this run and the work that led to `state`, or an empty string."""
        code, before = self.stage.code, state["conditions"]
        values = [
            f"{name} is {conditions[name]}, was {before[name]}" for name in before if conditions[name] != before[name]
        ]
        files = [file for file in sorted(code.keys() | state["code"]) if code.get(file) != state["code"].get(file)]
        history = state["history"]
        mixed = [f"its code changed at step {step}" for step in history["code_changed_at_step"]]
        mixed += [f"its conditions changed at step {step}" for step in history.get("conditions_changed_at_step", ())]
        return "; ".join([*values, *(f"{file} has changed" for file in files), *mixed])

    def _lengthened(self) -> bool:
        """Whether the last finished run differs only in that it has fewer steps."""
        lock = Path("dvc.lock")
        stages = (read_yaml(lock) if lock.exists() else {}).get("stages", {})
        before = flat(stages.get(self.stage.name, {}).get("params", {}).get("params.yaml", {}))
        now = flat({name: _plain(value) for name, value in self.stage.values.items()})
        differing = [name for name in now if before.get(name) != now[name]]
        return differing == ["train.steps"] and before.get("train.steps", 0) < now["train.steps"]


def _is_later(state: dict | None, other: dict | None) -> bool:
    """Whether `state` is a later state than `other` of training by the same code under the same conditions."""
    if state is None or other is None:
        return False
    alike = all(state[key] == other[key] for key in ("code", "conditions"))
    return alike and state["history"]["step"] > other["history"]["step"]


def _snapshots(folder: Path, last: int) -> list[Path]:
    """The snapshots in a folder of unfinished work up to a step."""
    paths = sorted((folder / SNAPSHOTS).glob("step_*"))
    return [path for path in paths if path <= snapshot_directory(folder / SNAPSHOTS, last)]


def _plain(value: object) -> object:
    """A value as YAML has it."""
    return list(value) if isinstance(value, tuple) else value


def _differences(before: dict, here: dict) -> str:
    """Which params and files differ from the record of an earlier run, which has lists for tuples."""
    params = [
        f"{name} is {_plain(value)!r}, was {before['params'].get(name)!r}"
        for name, value in here["params"].items()
        if _plain(value) != before["params"].get(name)
    ]
    files = sorted(
        file for file in here["data"].keys() | before["data"] if here["data"].get(file) != before["data"].get(file)
    )
    return "; ".join([*params, *(f"{file} differs" for file in files[:1])])


def _link(folder: Path, to: Path) -> None:
    """Makes a copy of a folder of files that are never changed in place: hard links, where the disk has them."""
    shutil.rmtree(to, ignore_errors=True)
    try:
        shutil.copytree(folder, to, copy_function=os.link)
    except OSError:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(folder, to)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
