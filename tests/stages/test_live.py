"""The curve of a run while it trains, in csv files and in the loggers' own files."""

import shutil
import sys

import pytest

from gpt2.common.errors import InputError
from gpt2.common.files import read_csv
from stages.live import curves
from stages.stage import Stage
from tests.conftest import ROOT

DVC = """
stages:
  demo:
    cmd: python -m stages.demo
    params: [seed, train]
    plots: [reports/demo/train.csv, reports/demo/val.csv]
"""
ROWS = [
    ("val", {"step": 0, "targets": 0, "loss": 8.25}),
    ("train", {"step": 0, "targets": 64, "lr": 0.001, "loss": 8.2, "grad_norm": 1.0}),
    ("train", {"step": 1, "targets": 128, "lr": 0.002, "loss": 7.123456789, "grad_norm": 2.0}),
    ("val", {"step": 2, "targets": 128, "loss": 7.0}),
]


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "dvc.yaml").write_text(DVC)
    shutil.copy(ROOT / "profiles/sample.yaml", tmp_path / "params.yaml")
    return tmp_path


def use_logger(repo, name: str) -> None:
    params = (repo / "params.yaml").read_text()
    (repo / "params.yaml").write_text(params.replace("logger: none", f"logger: {name}"))


def test_the_files_grow_in_their_place_and_stay_when_the_stage_fails(repo):
    train, val = (repo / "reports/demo" / f"{split}.csv" for split in ("train", "val"))
    with pytest.raises(RuntimeError), Stage("demo") as stage:
        log = curves(stage, "demo", targets="tokens")
        assert train.read_text() == "step,tokens,lr,loss,grad_norm\n" and not val.exists()
        for split, row in ROWS:
            log(split, row)
        assert val.read_text() == "step,tokens,loss\n0,0,8.25\n2,128,7\n"
        raise RuntimeError
    assert [row["loss"] for row in read_csv(train)] == ["8.2", "7.12346"]


def test_a_stage_that_succeeds_keeps_the_curve_and_a_new_run_replaces_it(repo):
    for loss in (3.0, 2.0):
        with Stage("demo") as stage:
            log = curves(stage, "demo")
            log("val", {"step": 0, "targets": 0, "loss": loss})
        assert (repo / "reports/demo/val.csv").read_text() == f"step,targets,loss\n0,0,{loss:g}\n"
        assert (repo / "reports/demo/train.csv").read_text() == "step,targets,lr,loss,grad_norm\n"


def test_tensorboard_gets_every_figure_once_though_a_resumed_run_logs_again(repo):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    use_logger(repo, "tensorboard")
    for _ in range(2):
        with pytest.raises(RuntimeError), Stage("demo") as stage:
            log = curves(stage, "demo")
            for split, row in ROWS:
                log(split, row)
            raise RuntimeError
    (folder,) = (repo / ".scratch/tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("val/loss")] == [(0, 8.25), (2, 7.0)]
    assert [event.step for event in events.Scalars("train/lr")] == [0, 1]


def test_wandb_logs_offline(repo, monkeypatch):
    """In the order of a resumed run: all earlier rows of training, then those of evaluation."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    import wandb

    use_logger(repo, "wandb")
    with Stage("demo") as stage:
        log = curves(stage, "demo")
        for split, row in sorted(ROWS, key=lambda entry: entry[0]):
            log(split, row)
        summary = dict(wandb.run.summary)
        assert (summary["train/step"], summary["val/step"], summary["val/loss"]) == (1, 2, 7.0)
        assert summary["train/loss"] == pytest.approx(7.123456789)
        assert wandb.run.config["train.lr"] == 0.008
        wandb.finish()
    (run,) = (repo / ".scratch/wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))


def test_wandb_without_a_server_ends_in_one_line(repo, monkeypatch):
    import wandb

    unreachable = {"API_KEY": "0" * 40, "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "1", "MODE": "online"}
    for name, value in unreachable.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # it keeps the settings of its first run
    use_logger(repo, "wandb")
    line = r"^machine.logger = 'wandb': .*; WANDB_MODE=offline needs neither account nor network$"
    with pytest.raises(InputError, match=line), Stage("demo") as stage:
        curves(stage, "demo")


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_logger_that_is_not_installed_is_named_with_the_command_that_installs_it(repo, monkeypatch, name, package):
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    use_logger(repo, name)
    line = f"^machine.logger = '{name}': not installed: pip install {package}$"
    with pytest.raises(InputError, match=line), Stage("demo") as stage:
        curves(stage, "demo")
