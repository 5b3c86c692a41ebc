"""Profiles: every one valid, comments kept, `sample` the way back."""

import shutil

import pytest

from gpt2.common.errors import InputError
from gpt2.report.lineage import changes, lineage
from stages.params import read_params, read_yaml
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


@pytest.mark.parametrize("name", NAMES)
def test_the_overlay_that_the_report_shows_brings_the_sample_to_the_run(repo, name):
    apply(name)
    run = read_yaml(repo / "params.yaml")
    lock = {"stages": {"pretrain": {"cmd": "", "params": {"params.yaml": run}}}}
    shown = changes(lineage(["pretrain"], lock), read_yaml(repo / "profiles" / "sample.yaml"))
    assert bool(shown) == (name != "sample")
    if shown:
        (repo / "profiles" / "this-run.yaml").write_text(shown, encoding="utf-8")
        apply("sample")
        apply("this-run")
    assert read_yaml(repo / "params.yaml") == run


def test_the_shipped_params_are_the_sample():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles" / "sample.yaml").read_bytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "train:\n  learning_rate: 1.0\n",
            "train.learning_rate is an unknown key; expected one of init, launcher, steps",
        ),
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


def test_an_unknown_profile_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=f"unknown profile 'huge'; expected one of {', '.join(NAMES)}"):
        apply("huge")
