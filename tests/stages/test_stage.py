"""Stages: declared inputs only, outs whole or not at all, one line for a mistake."""

import errno
import shutil
import time
from pathlib import Path

import pytest

from gpt2.common.errors import InputError
from stages.stage import Stage, run, seconds_of_stages
from tests.conftest import ROOT

DVC = """
stages:
  demo:
    cmd: python -m stages.demo
    params: [seed, data.corpus, tokens]
    deps: [text, stages/code.py, "models/${classification.init}"]
    outs: [out/tokens]
    metrics:
      - out/metrics.json:
          cache: false
"""


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("sys.argv", ["demo"])
    (tmp_path / "dvc.yaml").write_text(DVC)
    shutil.copy(ROOT / "profiles/sample.yaml", tmp_path / "params.yaml")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "code.py").write_text("a")
    (tmp_path / "models" / "pretrain").mkdir(parents=True)
    return tmp_path


def write_outs(stage: Stage, text: str = "new") -> None:
    (stage.out("out/tokens") / "0.npy").write_text(text)
    stage.out("out/metrics.json").write_text(text)


def test_outs_appear_when_the_stage_succeeds_and_replace_old_ones(repo):
    for text in ("first", "second"):
        with Stage("demo") as stage:
            write_outs(stage, text)
        assert (repo / "out" / "tokens" / "0.npy").read_text() == text == (repo / "out" / "metrics.json").read_text()
        assert not stage.scratch.exists()


def test_only_success_records_how_long_a_stage_took_from_the_launch_on(repo, monkeypatch):
    monkeypatch.setenv("GPT2_LAUNCHED_AT", str(time.time() - 70))
    with pytest.raises(RuntimeError), Stage("demo"):
        raise RuntimeError
    assert seconds_of_stages() == {}
    run("demo", write_outs)
    (seconds,) = seconds_of_stages().values()
    assert seconds.keys() == {"start-up", "other"} and 70 <= seconds["start-up"] < 100 and seconds["other"] < 30


def test_a_failure_leaves_old_outs_and_checkpoints_alone(repo):
    with Stage("demo") as stage:
        write_outs(stage, "old")
    with pytest.raises(RuntimeError), Stage("demo") as stage:
        (stage.scratch / "step_00000005.pt").write_text("state")
        write_outs(stage)
        raise RuntimeError
    with pytest.raises(AssertionError, match=r"did not write out/metrics\.json"), Stage("demo") as stage:
        (stage.out("out/tokens") / "0.npy").write_text("new")
    assert (repo / "out" / "tokens" / "0.npy").read_text() == (repo / "out" / "metrics.json").read_text() == "old"
    assert sorted(path.name for path in (repo / "out").iterdir()) == ["metrics.json", "tokens"]
    with Stage("demo") as stage:
        assert (stage.scratch / "step_00000005.pt").read_text() == "state"
        assert not list(stage.out("out/tokens").iterdir())
        write_outs(stage)


def test_what_a_kill_leaves_of_finished_work_is_not_resumed(repo, monkeypatch):
    def killed(folder, **options):
        if any(Path(folder).glob("*.pt")):
            raise KeyboardInterrupt
        rmtree(folder, **options)

    rmtree = shutil.rmtree
    with pytest.raises(KeyboardInterrupt), Stage("demo") as stage:
        (stage.scratch / "step_00000005.pt").write_text("state")
        write_outs(stage)
        monkeypatch.setattr("shutil.rmtree", killed)
    monkeypatch.undo()
    monkeypatch.chdir(repo)
    with Stage("demo") as stage:
        assert not list(stage.scratch.glob("*.pt"))
        write_outs(stage)
        (stage.scratch / "step_00000005.pt").write_text("state")
    assert not list(stage.scratch.parent.glob("*"))  # what the kill left is gone too


def test_only_declared_inputs_that_exist_can_be_used(repo):
    stage = Stage("demo")
    assert stage.param("seed") == 1337 and stage.param("data.corpus").source == "docstrings"
    assert stage.dep("models/pretrain").is_dir()
    for use, name in ((stage.param, "train.lr"), (stage.param, "data"), (stage.dep, "other"), (stage.dep, "models")):
        with pytest.raises(AssertionError, match=f"does not declare the .* {name}"):
            use(name)
    shutil.rmtree(repo / "text")
    with pytest.raises(InputError, match="text: missing; `dvc repro demo`"):
        Stage("demo")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params.yaml", "seed: 1337", "seed: 1"),
        ("text/b.txt", "", "b"),
        ("models/pretrain/config.json", "", "{}"),
        ("stages/code.py", "a", "b"),
    ],
)
def test_an_edit_during_the_run_is_caught(repo, file, old, new):
    path = repo / file
    with pytest.raises(InputError, match="changed while the stage ran"), Stage("demo") as stage:
        write_outs(stage)
        text = path.read_text() if path.exists() else ""
        assert old in text
        path.write_text(text.replace(old, new, 1))
    assert not (repo / "out").exists()


def test_an_edit_of_an_undeclared_param_or_of_nothing_does_no_harm(repo):
    with Stage("demo") as stage:
        write_outs(stage)
        params = (repo / "params.yaml").read_text()
        (repo / "params.yaml").write_text(params.replace("n_layer: 2", "n_layer: 5"))
        (repo / "stages" / "code.py").write_text("a")
    assert (repo / "out" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("params.yaml", "seed: 1337", "seed: 1", False),
        ("params.yaml", "n_layer: 2", "n_layer: 5", True),  # not declared
        ("params.yaml", "micro_batch_size: auto", "micro_batch_size: 1", True),  # how, and not what
        ("text/a.txt", "a", "b", False),
        ("stages/code.py", "a", "b", True),
    ],
)
def test_unfinished_work_belongs_to_declared_params_and_data(repo, file, old, new, same):
    with Stage("demo") as stage:
        first = stage.scratch
        write_outs(stage)
    text = (repo / file).read_text()
    assert old in text
    (repo / file).write_text(text.replace(old, new))
    with Stage("demo") as stage:
        assert (stage.scratch == first) == same
        assert stage.code.keys() == {"stages/code.py"} and stage.data.keys() == {"text/a.txt"}
        write_outs(stage)


def test_two_processes_cannot_run_the_same_stage_at_once(repo):
    with Stage("demo") as stage:
        with pytest.raises(InputError, match="another process is running this stage"), Stage("demo"):
            pass
        write_outs(stage)


def test_rank_0_alone_reads_the_inputs_and_tells_the_others(repo, monkeypatch):
    with Stage("demo") as first:
        monkeypatch.setenv("RANK", "1")
        with Stage("demo") as second:
            sent = []
            first.share(lambda own: sent.append(own) or own)
            (repo / "text" / "a.txt").unlink()
            second.share(lambda own: own or sent[0])
            assert (second.values, second.data, second.code) == (first.values, first.data, first.code)
            assert second.scratch == first.scratch and first.data.keys() == {"text/a.txt"}
        (repo / "text" / "a.txt").write_text("a")
        write_outs(first)
    assert (repo / "out" / "metrics.json").exists()


def test_experiments_in_copies_can_run_the_same_stage_at_once(repo, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(repo))
    copies = [shutil.copytree(repo, tmp_path_factory.mktemp("copy") / "repo") for _ in range(2)]
    monkeypatch.chdir(copies[0])
    with Stage("demo") as first:
        monkeypatch.chdir(copies[1])
        with Stage("demo") as second:
            assert second.scratch != first.scratch and second.scratch.is_relative_to(repo)
            write_outs(second, "second")
        assert first.scratch.exists() and not second.scratch.exists()
        monkeypatch.chdir(copies[0])
        write_outs(first, "first")
    assert [(copy / "out" / "metrics.json").read_text() for copy in copies] == ["first", "second"]


def wrong_param(stage: Stage) -> None:
    raise InputError("params.yaml: model.n_head = 5")


def unreadable(stage: Stage) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/hub/cache\n")


def full_disk(stage: Stage) -> None:
    with open("/dev/full", "w") as device:
        device.write("x" * 100_000)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (wrong_param, "demo: params.yaml: model.n_head = 5"),
        (unreadable, r"demo: /hub/cache\n: Permission denied"),
        (full_disk, "demo: .scratch or data: No space left on device"),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_1(repo, body, line):
    with pytest.raises(SystemExit) as end:
        run("demo", body)
    assert end.value.code == line
