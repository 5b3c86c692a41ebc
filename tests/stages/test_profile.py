"""Profiles: each one is whole and valid, and what the user changed by hand is named, or kept."""

import shutil
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from gpt2.common.errors import InputError
from stages.params import PATH, read_params, read_yaml
from stages.profile import switch
from tests.conftest import ROOT

NAMES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture(autouse=True)
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "profiles" / "sample.yaml", PATH)
    return tmp_path


def apply(profile: str, keep: bool = False) -> list[str]:
    """Writes a profile and returns the lines that describe what changes."""
    text, own, others = switch(profile, keep)
    PATH.write_text(text)
    return [*own, *others]


def edit(*changes: tuple[str, str]) -> None:
    text = PATH.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    PATH.write_text(text)


def test_the_shipped_params_are_the_sample():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles" / "sample.yaml").read_bytes()


def test_a_profile_is_valid_and_the_same_after_another():
    fresh = {name: switch(name)[0] for name in NAMES}
    assert fresh["sample"] == PATH.read_text()
    for name in [*NAMES, NAMES[0]]:
        lines = apply(name)
        assert PATH.read_text() == fresh[name] and not any("by hand" in line for line in lines)
        read_params()
        assert apply(name) == []


def test_values_changed_by_hand_are_named_and_overwritten():
    apply("smoke")
    edit(("n_layer: 2", "n_layer: 3"), ("seed: 1337", "seed: 1"), ("block_size: 512", "block_size: 256"))
    lines = apply("sample")
    assert lines[:3] == [
        "changed by hand since the profile smoke, overwritten; --keep keeps them:",
        "  seed: 1 -> 1337",
        "  model.n_layer: 3 -> 2",
    ]
    assert "model.n_embd: 32 -> 128" in lines and "block_size" not in " ".join(lines)
    assert PATH.read_bytes() == (ROOT / "profiles" / "sample.yaml").read_bytes()


def test_kept_values_stay_on_top_of_the_new_profile():
    edit(("lr: 0.008", "lr: 0.00001"), ("    - sympy\n", ""), ("n_embd: 128", "n_embd: 192"))
    assert apply("gpt2-124m", keep=True)[:4] == [
        "changed by hand since the profile sample, kept:",
        '  docstrings.packages: ["matplotlib", "networkx", "nltk", "numpy", "pandas", "scipy", "sklearn"]',
        "  model.n_embd: 192",
        "  train.lr: 1e-05",
    ]
    params = read_params()
    assert (params.train.lr, params.model.n_embd, params.model.n_layer) == (1e-5, 192, 12)
    assert "sympy" not in params.docstrings.packages
    assert PATH.read_text().startswith("# The sample profile")
    apply("sample", keep=True)
    assert (read_params().train.lr, read_params().model.n_layer) == (1e-5, 2)


def test_only_values_count_and_not_how_dvc_exp_run_writes_them():
    apply("gpt2-124m")
    YAML(typ="safe").dump(read_yaml(PATH), PATH)  # other indents and order, no comments
    text = PATH.read_text()
    assert "#" not in text and text != switch("gpt2-124m")[0]
    assert switch("gpt2-124m")[1:] == ([], [])
    assert switch("sample")[1] == []


def test_a_kept_value_that_the_profile_makes_invalid_changes_nothing():
    edit(("n_head: 4", "n_head: 64"))
    before = PATH.read_bytes()
    with pytest.raises(InputError, match=r"^smoke with the values that you changed in .*: model\.n_head = 64"):
        apply("smoke", keep=True)
    assert PATH.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (None, "params.yaml: no such file"),
        ("model:\n  [", "params.yaml, line 2: not valid YAML"),
        ("- seed", "params.yaml: expected sections, found list"),
    ],
)
def test_params_that_cannot_be_read_are_replaced(text, first):
    PATH.unlink() if text is None else PATH.write_text(text)
    if text is not None:
        with pytest.raises(InputError, match=f"^{first}.*without --keep the file is replaced"):
            apply("sample", keep=True)
        assert PATH.read_text() == text
    (line,) = apply("sample")
    assert line.startswith(first) and line.endswith(": replaced")
    read_params()


def test_keys_of_an_older_version_do_not_block_a_profile():
    edit(("  n_layer: 2\n", "  depth: 5\n"), ("seed: 1337", "seed: 2\nold:\n  a: 1"))
    assert apply("sample", keep=True) == [
        "changed by hand since the profile sample, kept:",
        "  seed: 2",
        "dropped, because params.yaml has no such keys: old.a, model.depth",
        "model.n_layer: missing -> 2",
    ]
    assert read_params().seed == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model:\n  depth: 1\n", "model.depth is an unknown key; expected one of block_size, n_layer"),
        ("model:\n  n_head: 5\n", "model.n_head = 5: must divide n_embd"),
        ("model: small\n", "model = 'small'"),
    ],
)
def test_a_bad_profile_changes_nothing_and_blocks_no_other(repo, text, words):
    (repo / "profiles" / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        apply("mine")
    assert apply("sample") == []


def test_an_error_lists_the_profiles_if_the_name_is_unknown():
    with pytest.raises(InputError, match=f"unknown profile 'huge'; expected one of {', '.join(NAMES)}"):
        apply("huge")


def test_the_command_writes_params_or_nothing(repo):
    def command(*arguments: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-m", "stages.profile", *arguments]
        return subprocess.run(words, cwd=repo, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)

    edit(("n_head: 4", "n_head: 64"))
    assert "  model.n_head: 64" in command("gpt2-124m", "--keep").stdout
    assert (read_params().model.n_head, read_params().model.n_layer) == (64, 12)
    before = PATH.read_bytes()
    done = command("smoke", "--keep")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and PATH.read_bytes() == before
