"""The comparison of two dvc.lock: which stage differs first, what of it, and what follows."""

import subprocess

import pytest

from gpt2.common.errors import InputError
from stages.verify import MACHINE, compare, describe, read_lock, verify
from tests.conftest import ROOT

LOCK = f"""
schema: '2.0'
stages:
  tokenize:
    cmd: python -m stages.tokenize
    deps:
    - {{path: data/raw/corpus, md5: aa.dir, size: 1}}
    - {{path: gpt2/common/files.py, md5: f1}}
    params: {{params.yaml: {{tokens: {{heldout: 0.01, workers: null}}}}}}
    outs:
    - {{path: data/tokens, md5: bb.dir, nfiles: 2}}
  pretrain:
    cmd: python -m stages.pretrain
    deps:
    - {{path: data/tokens, md5: bb.dir}}
    - {{path: gpt2/common/files.py, md5: f1}}
    params: {{params.yaml: {{train: {{lr: 0.008}}}}}}
    outs:
    - {{path: data/models/pretrain, md5: cc.dir}}
    - {{path: {MACHINE[0]}, md5: speed1}}
  report:
    cmd: python -m stages.report
    deps:
    - {{path: data/tokens/manifest.json, md5: dd}}
    - {{path: {MACHINE[0]}, md5: speed1}}
    outs:
    - {{path: {MACHINE[1]}, md5: page1}}
"""
ORDER = ["tokenize", "pretrain", "report"]


def told(*changes: tuple[str, str]) -> list[str]:
    """What is said of LOCK as committed and, with these changes, as it is here."""
    here = LOCK
    for old, new in changes:
        assert old in here
        here = here.replace(old, new)
    return list(describe(compare(read_lock(LOCK.encode(), "a"), read_lock(here.encode(), "b"), ORDER)))


def test_speed_and_the_page_may_differ_and_sizes_say_nothing():
    assert told() == []
    assert told(("speed1", "speed2"), ("page1", "page2"), ("size: 1", "size: 2")) == []


def test_other_outs_of_the_same_inputs_are_told_from_what_follows():
    assert told(("data/tokens, md5: bb", "data/tokens, md5: b2"), ("md5: dd", "md5: d2"), ("cc.dir", "c2.dir")) == [
        "tokenize: the first stage that differs: from the same command, params and inputs came other outs",
        "  out data/tokens: committed bb.dir, here b2.dir",
        "what differs in these follows from what differs before them: pretrain, report",
    ]


def test_a_changed_param_is_named_with_both_values():
    assert told(("lr: 0.008", "lr: 1e-05"), ("cc.dir", "c2.dir")) == [
        "pretrain: the first stage that differs: another param than committed",
        "  param train.lr: committed 0.008, here 1e-05",
        "  out data/models/pretrain: committed cc.dir, here c2.dir",
    ]


def test_what_several_stages_read_is_told_once_and_own_changes_are_not_lost():
    assert told(("f1", "f2"), ("stages.report", "stages.page")) == [
        "tokenize: the first stage that differs: another dep than committed",
        "  dep gpt2/common/files.py: committed f1, here f2",
        "report: differs of itself too: another command than committed",
        "  command cmd: committed python -m stages.report, here python -m stages.page",
        "what differs in these follows from what differs before them: pretrain",
    ]


def test_a_stage_that_one_of_them_lacks_is_named():
    assert told((LOCK[LOCK.index("  report:") :], "")) == [
        "report: the first stage that differs: another stage than committed",
        "  stage report: committed recorded, here nothing",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"schema = None: expected '2\.0'"),
        (b"schema: '3.0'", r"schema = '3\.0': expected '2\.0'"),
        (b"<<<<<<< HEAD\nschema: '2.0'", "not valid YAML"),
        (b"\xff\xff\xff", "not valid YAML"),
        (b"schema: '2.0'\nstages: {a: {outs: []}}", r"stages\.a\.cmd is missing"),
        (b"schema: '2.0'\nstages: {a: {cmd: x, outs: [{path: y}]}}", r"stages\.a\.outs\.0\.md5 is missing"),
    ],
)
def test_another_file_is_refused_in_one_line(content, words):
    with pytest.raises(InputError, match=rf"^dvc\.lock(, line \d+)?: .*{words}"):
        read_lock(content, "dvc.lock")


def test_where_there_is_nothing_to_compare_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^dvc\.lock: no such file: nothing has been run here"):
        verify()
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(InputError, match=r"^dvc\.lock: no committed one to compare with: fatal: "):
        verify()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="git, which has the committed one, is not installed"):
        verify()
