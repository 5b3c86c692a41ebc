"""Where the minutes go: parts that add up, stage by stage."""

import time
from collections.abc import Callable

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import write_json
from gpt2.common.stopwatch import stopwatch
from stages.times import times
from tests.training.test_trainer import trainer


@pytest.fixture
def wait(monkeypatch) -> Callable[[float], None]:
    """Sets the clock of the stopwatch forward. It does not move by itself."""
    now = [1000.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "time", lambda: now[0])
    stopwatch.restart(990.0)
    return wait


def test_parts_of_parts_count_once_and_an_error_ends_a_part(wait):
    stopwatch.start("steps")
    wait(1)
    with stopwatch.part("evaluation"):
        wait(2)
        with pytest.raises(KeyError), stopwatch.part("saving"):
            wait(4)
            raise KeyError
        wait(8)
    wait(16)
    assert stopwatch.start("other") == "steps"
    assert stopwatch.seconds == {"start-up": 10, "steps": 17, "evaluation": 10, "saving": 4}


def test_training_tells_its_parts_apart(tmp_path, wait):
    def evaluate(model, batch_size) -> dict[str, float]:
        wait(1)
        return {"loss": 1.0}

    def step() -> None:
        wait(100 if run.step == 0 else 10)
        update()

    def write(path, state) -> None:
        wait(1000)

    run = trainer(tmp_path, evaluate, steps=8, options={"snapshot": write, "snapshots": (4,)})
    update, run.optimizer.step = run.optimizer.step, step
    run.fit()
    parts = {"start-up": 10, "first step": 100, "steps": 70, "evaluation": 3, "saving": 1000, "other": 0}
    assert stopwatch.seconds == parts


def test_a_row_per_stage_in_the_order_of_the_chain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "dvc.yaml").write_text("stages: {download: {}, tokenize: {}, pretrain: {}}\n")
    with pytest.raises(InputError, match="no stage has run here yet: run `dvc repro`"):
        list(times())
    write_json(tmp_path / ".scratch/seconds/pretrain.json", {"start-up": 5.0, "steps": 24.5, "other": 0.5})
    write_json(tmp_path / ".scratch/seconds/download.json", {"start-up": 2.0, "other": 8.0})
    head, *rows, missing = times()
    assert [row.split()[:3] for row in rows] == [
        ["download", "10.0", "25.0%"],
        ["pretrain", "30.0", "75.0%"],
        ["total", "40.0", "100.0%"],
    ]
    for part, *cells in (("start-up", 2, 5, 7), ("  steps", 0, 24.5, 24.5), ("other", 8, 0.5, 8.5)):
        end = head.index(part) + len(part)
        assert [float(row[end - 9 : end].strip() or 0) for row in rows] == cells
    assert missing == "not run here: tokenize"
