"""Reading params.yaml: YAML 1.2, complete, errors in one line."""

import re
import shutil
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from stages.params import parse_params, read_params, read_yaml
from stages.params_docs import PAGE, page
from tests.conftest import ROOT


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copy(ROOT / "profiles/sample.yaml", tmp_path / "params.yaml")


@pytest.mark.parametrize("key", ["seed", "train.beta2", "instruction.lora.rank"])
def test_an_error_names_a_missing_key_whether_or_not_it_has_a_default(key):
    raw = YAML(typ="safe").load(ROOT / "profiles/sample.yaml")
    *sections, name = key.split(".")
    section = raw
    for part in sections:
        section = section[part]
    del section[name]
    with pytest.raises(InputError, match=rf"^params\.yaml: {re.escape(key)} is missing$"):
        parse_params(raw, "params.yaml")


def test_floats_as_dvc_writes_them_are_numbers(params):
    params.write_text(re.sub(r"weight_decay: \S+", "weight_decay: 1e-05", params.read_text()))
    assert read_params().train.weight_decay == 1e-5


def test_an_error_names_the_line_of_a_syntax_error(params):
    params.write_text("seed: 1\nmodel: [\n")
    with pytest.raises(InputError, match=r"params\.yaml, line \d+: not valid YAML"):
        read_yaml(params)


def test_the_command_validates_the_file(tmp_path):
    command = [sys.executable, "-m", "stages.params"]
    good = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    bad = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stderr.startswith("params.yaml: no such file") and bad.stderr.count("\n") == 1


def test_docs_params_md_is_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert PAGE.read_text(encoding="utf-8") == page()
