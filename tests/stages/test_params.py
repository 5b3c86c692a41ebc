"""Reading params.yaml: YAML 1.2, mistakes in one line."""

import re
import shutil
import subprocess
import sys

import pytest

from gpt2.common.errors import InputError
from stages.params import read_params, read_yaml
from stages.params_docs import PAGE, page
from tests.conftest import ROOT


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")


def test_floats_as_dvc_writes_them_are_numbers(params):
    params.write_text(re.sub(r"weight_decay: \S+", "weight_decay: 1e-05", params.read_text()))
    assert read_params().train.weight_decay == 1e-5


def test_a_syntax_error_is_named_with_its_line(params):
    params.write_text("seed: 1\nmodel: [\n")
    with pytest.raises(InputError, match=r"params\.yaml, line \d+: not valid YAML"):
        read_yaml(params)


def test_the_command_says_what_is_wrong_in_one_line():
    good = subprocess.run([sys.executable, "-m", "stages.params"], cwd=ROOT, capture_output=True, text=True)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")


def test_the_command_fails_outside_the_repository(tmp_path):
    command = [sys.executable, "-m", "stages.params"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("params.yaml: no such file") and done.stderr.count("\n") == 1


def test_the_page_of_params_is_what_its_command_writes(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert PAGE.read_text(encoding="utf-8") == page()
