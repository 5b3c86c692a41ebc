"""The spread of metrics over seeds: which runs count, and that they are those of DVC's experiments."""

import json

import pytest

from gpt2.common.errors import InputError
from stages.spread import HEADLINE, inputs, main
from stages.verify import read_lock
from tests.conftest import ROOT
from tests.repository import Folder

CHAIN = """
stages:
  report:
    cmd: python report.py
    params: [seed, scale]
    deps: [report.py]
    metrics:
      - reports/metrics.json: {cache: false}
"""
REPORT = """
import json, os
params = dict(line.split(": ") for line in open("params.yaml").read().splitlines())
loss = int(params["seed"]) * int(params["scale"])
os.makedirs("reports", exist_ok=True)
metrics = {"val_loss": loss, "init": "scratch", **({"acc": 0.5} if loss < 9 else {})}
json.dump({"pretrain": metrics}, open("reports/metrics.json", "w"))
"""


DVC = """
import subprocess
from dvc.cli import main
for command in ("init", "repro", "commit", "seed=9", "scale=2", "scale=1", "seed=2"):  # scale=1 is seed 9 again
    if command == "commit":
        subprocess.run("git add --all && git commit --quiet --message 'seed 4'", shell=True, check=True)
    else:
        assert main(["exp", "run", "--set-param", command] if "=" in command else [command]) == 0
"""


def test_experiments_that_differ_only_in_the_seed_count(tmp_path, monkeypatch, capsys):
    folder = Folder(tmp_path)
    for name, text in {"dvc.yaml": CHAIN, "params.yaml": "seed: 4\nscale: 1\n", "report.py": REPORT}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no results here: run `dvc repro` first"):
        main(["*"], as_json=False)
    folder.ok("git", "init", "--quiet")
    folder.ok("python", "-c", DVC)
    main(["*"], as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["seeds"] == [2, 4, 9]  # here, the commit, an experiment
    assert printed["metrics"] == {
        "pretrain.val_loss": {"mean": 5, "std": pytest.approx(13**0.5), "n": 3},
        "pretrain.acc": {"mean": 0.5, "std": 0, "n": 2},
    }
    main(["pretrain.val*"], as_json=False)
    first, _, row = capsys.readouterr().out.splitlines()
    assert first == "seeds 2, 4, 9; not counted: 1 with other params, code or data"
    assert row.split() == ["pretrain.val_loss", "5", "3.6", "3"]
    with pytest.raises(InputError, match="no metric of reports/metrics.json matches val_loss"):
        main(["val_loss"], as_json=False)
    lock = tmp_path / "dvc.lock"
    lock.write_text(lock.read_text().replace("scale: 1", "scale: 3"))
    with pytest.raises(InputError, match="no experiment .* `dvc exp run --queue -S 'seed=1,2,3'`"):
        main(["*"], as_json=False)


def test_data_that_a_stage_writes_follows_from_the_inputs_and_all_else_is_one():
    lock = read_lock((ROOT / "dvc.lock").read_bytes(), "dvc.lock")
    kept = inputs(lock)
    assert ("param", "seed") not in kept and ("param", "train.lr") in kept
    deps = {name for kind, name in kept if kind == "dep"}
    assert {"requirements.txt", "gpt2/training", "data/local/corpus", "data/models/scratch"} <= deps
    assert not any(name.startswith(("data/models/pretrain", "data/raw", "data/tokens", "reports")) for name in deps)


def test_the_headline_metrics_are_in_the_report():
    metrics = json.loads((ROOT / "reports/metrics.json").read_text())
    for name in HEADLINE:
        section, metric = name.split(".")
        assert isinstance(metrics[section][metric], float), name
