"""Profiles: each one is valid, comments stay, and `sample` restores the file."""

import shutil

import pytest

from gpt2.common.errors import InputError
from stages.params import read_params
from stages.profile import apply
from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture(autouse=True)
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "profiles" / "sample.yaml", tmp_path / "params.yaml")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_each_profile_is_valid_and_sample_restores_the_bytes(repo, name):
    shipped = (repo / "params.yaml").read_bytes()
    diff = apply(name)
    assert bool(diff) == (name != "sample")
    read_params()
    assert apply("sample") or name == "sample"
    assert (repo / "params.yaml").read_bytes() == shipped


def test_the_shipped_params_are_the_sample():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles" / "sample.yaml").read_bytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  learning_rate: 1.0\n", "train.learning_rate is an unknown key; expected one of init, launcher"),
        ("model:\n  n_head: 5\n", "model.n_head = 5: must divide n_embd"),
        ("model: small\n", "model = 'small'"),
    ],
)
def test_a_bad_profile_changes_nothing(repo, text, words):
    before = (repo / "params.yaml").read_bytes()
    (repo / "profiles" / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        apply("mine")
    assert (repo / "params.yaml").read_bytes() == before


def test_an_error_lists_the_profiles_if_the_name_is_unknown():
    with pytest.raises(InputError, match=f"unknown profile 'huge'; expected one of {', '.join(NAMES)}"):
        apply("huge")
