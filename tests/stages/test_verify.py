"""The comparison of two dvc.lock files: the first stage that differs, how, and which differences it explains."""

import subprocess

import pytest

from gpt2.common.errors import InputError
from stages.verify import MACHINE, compare, read_lock, verify
from tests.conftest import ROOT

LOCK = f"""
schema: '2.0'
stages:
  tokenize:
    cmd: python -m stages.tokenize
    deps:
    - {{path: data/raw/corpus, md5: aa.dir, size: 1}}
    - {{path: gpt2/tokenizer/bpe.py, md5: f1}}
    params: {{params.yaml: {{tokens: {{heldout: 0.01, workers: null}}}}}}
    outs:
    - {{path: data/tokens, md5: bb.dir, nfiles: 2}}
  pretrain:
    cmd: python -m stages.pretrain
    deps:
    - {{path: data/tokens, md5: bb.dir}}
    - {{path: gpt2/tokenizer/bpe.py, md5: f1}}
    params: {{params.yaml: {{train: {{lr: 0.008}}}}}}
    outs:
    - {{path: data/models/pretrain, md5: cc.dir}}
    - {{path: {MACHINE[0]}, md5: speed1}}
  report:
    cmd: python -m stages.report
    deps:
    - {{path: data/tokens/manifest.json, md5: dd}}
    - {{path: reports/pretrain, md5: speed1.dir}}
    outs:
    - {{path: {MACHINE[1]}, md5: page1}}
"""
ORDER = ["tokenize", "pretrain", "report"]


def lines(*changes: tuple[str, str]) -> list[str]:
    """Describes the differences between LOCK, as committed, and LOCK with these changes."""
    here = LOCK
    for old, new in changes:
        assert old in here
        here = here.replace(old, new)
    return list(compare(read_lock(LOCK.encode(), "a"), read_lock(here.encode(), "b"), ORDER))


def test_speed_the_page_and_sizes_are_not_compared():
    assert lines() == []
    assert lines(("speed1", "speed2"), ("page1", "page2"), ("size: 1", "size: 2")) == []


def test_different_outs_of_the_same_inputs_explain_later_differences():
    assert lines(("data/tokens, md5: bb", "data/tokens, md5: b2"), ("md5: dd", "md5: d2"), ("cc.dir", "c2.dir")) == [
        "tokenize: the first stage that differs: same inputs, different outputs",
        "  out data/tokens: committed bb.dir, here b2.dir",
        "the differences above explain these: pretrain, report",
    ]


def test_a_changed_param_is_shown_with_both_values():
    assert lines(("lr: 0.008", "lr: 1e-05"), ("cc.dir", "c2.dir")) == [
        "pretrain: the first stage that differs: different param",
        "  param train.lr: committed 0.008, here 1e-05",
        "  out data/models/pretrain: committed cc.dir, here c2.dir",
    ]


def test_a_dep_of_several_stages_is_shown_once_and_further_changes_too():
    assert lines(("f1", "f2"), ("stages.report", "stages.page")) == [
        "tokenize: the first stage that differs: different dep",
        "  dep gpt2/tokenizer/bpe.py: committed f1, here f2",
        "report: also differs by itself: different command",
        "  command report: committed python -m stages.report, here python -m stages.page",
        "the differences above explain these: pretrain",
    ]


def test_a_stage_that_was_not_run_is_named():
    first, second, *_ = lines((LOCK[LOCK.index("  report:") :], ""))
    assert first == "report: the first stage that differs: different command, dep"
    assert second == "  command report: committed python -m stages.report, here nothing"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"schema: '3.0'", "schema = '3.0': expected '2.0'"), (b"<<<<<<< HEAD\nschema:", "not valid YAML")],
)
def test_another_file_is_refused_in_one_line(content, words):
    with pytest.raises(InputError, match=rf"^dvc\.lock(, line \d+)?: .*{words}"):
        read_lock(content, "dvc.lock")


def test_an_error_says_if_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^dvc\.lock: no such file: run `dvc repro` first"):
        verify()
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(InputError, match=r"^dvc\.lock: no committed version to compare with: fatal: "):
        verify()
