"""The committed results are those of the committed `dvc.lock`: a commit in the middle of a run would mix two runs."""

import hashlib
import subprocess

from ruamel.yaml import YAML

from tests.conftest import ROOT


def committed(path: str) -> bytes:
    return subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, check=True).stdout


def test_git_holds_the_metrics_and_curves_that_the_lock_names():
    yaml = YAML(typ="safe")
    lock, chain = yaml.load(committed("dvc.lock")), yaml.load(committed("dvc.yaml"))
    checked = 0
    for name, stage in chain["stages"].items():
        hashes = {out["path"]: out["md5"] for out in lock["stages"][name].get("outs", [])}
        for out in [*stage.get("metrics", []), *stage.get("plots", [])]:
            [(path, options)] = out.items()
            if not options.get("cache", True):
                assert hashlib.md5(committed(path)).hexdigest() == hashes[path], f"{path} is not what {name} wrote"
                checked += 1
    assert checked
