"""The stage read_docstrings reads packages only if a data set is made from their docstrings."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from gpt2.common.files import read_json
from stages import read_docstrings
from stages.stage import Stage
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    for name in ("gpt2", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("dvc.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)


def run(**sources: str) -> None:
    """Runs the stage with a package that is not installed. Sets without a source are local."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["docstrings"]["packages"] = ["no_such_package"]
    for name in read_docstrings.SETS:
        params["data"][name]["source"] = sources.get(name, "local")
    YAML().dump(params, Path("params.yaml"))
    with Stage("read_docstrings") as stage:
        read_docstrings.main(stage)


def test_without_a_set_from_docstrings_no_package_is_read():
    run(hellaswag="hub")
    assert [path.name for path in Path("data/raw/docstrings").iterdir()] == ["manifest.json"]
    assert read_json(Path("data/raw/docstrings/manifest.json")) == {"source": "none"}


@pytest.mark.parametrize("name", read_docstrings.SETS)
def test_one_set_from_docstrings_is_enough(name):
    with pytest.raises(InputError, match="docstrings.packages: 'no_such_package' is not an installed"):
        run(**{name: "docstrings"})
