"""What lies in .scratch/: what is named how, and that only what nobody needs is removed."""

import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2.common.errors import InputError
from stages.clean import find, main, remove
from stages.stage import Stage
from tests.conftest import ROOT

DVC = """
stages:
  pretrain:
    cmd: python -m stages.pretrain
    params: [seed, model]
    deps: [text]
    outs: [out]
"""
HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    input()
"""
SCRATCH = Path(".scratch")


@pytest.fixture(autouse=True)
def repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "dvc.yaml").write_text(DVC)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "text").write_text("a")
    return tmp_path


def interrupted(seed: int = 1337) -> Path:
    """A pretraining run that failed after a checkpoint of 2 MB at step 400. Returns its folder."""
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("seed: 1337", f"seed: {seed}"))
    with pytest.raises(RuntimeError), Stage("pretrain") as stage:
        (stage.scratch / "step_00000400.pt").write_bytes(bytes(2_000_000))
        raise RuntimeError
    Path("params.yaml").write_text(params)
    return stage.scratch


def constant_phase() -> Path:
    folder = SCRATCH / "pretrain" / "constant-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    return folder


@pytest.fixture
def running():
    """Starts processes that hold the lock of a folder."""
    started = []

    def hold(folder: Path) -> None:
        command = [sys.executable, "-c", HOLD, folder / "lock"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"

    yield hold
    for process in started:
        process.communicate("\n")


def statuses() -> dict[Path, str]:
    return {work.path: work.status for work in find(SCRATCH)}


def command(*arguments: str) -> str:
    words = [sys.executable, "-m", "stages.clean", *arguments]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def test_each_folder_is_named_for_what_it_is(running):
    present, other, at_work = interrupted(), interrupted(seed=1), interrupted(seed=2)
    parallel = shutil.copytree(present, present.with_name(f"{present.name}-2"))
    removed_stage = SCRATCH / "train" / "0123456789abcdef"
    logs = SCRATCH / "tensorboard"
    for folder in (removed_stage, logs / "run"):
        folder.mkdir(parents=True)
    running(at_work)
    constant = constant_phase()
    assert statuses() == {
        present: "resumes at step 400 with the present params",
        parallel: "resumes at step 400 with the present params",
        other: "abandoned at step 400",
        at_work: "running",
        constant: "end of a constant phase; without it a longer run starts at step 0",
        removed_stage: "abandoned",
        logs: "logs of training, which stay until you delete the folder",
    }


def test_size_and_age_do_not_count_the_looking():
    work = interrupted(seed=1)
    for path in (*work.iterdir(), work):
        os.utime(path, times=(time.time() - 3 * 86400,) * 2)
    for _ in range(2):
        (line,) = map(str, find(SCRATCH))
        assert line == f"{work}, 2.0 MB, 3 days old: abandoned at step 400"


def test_only_what_nobody_needs_is_removed(running):
    present, other, at_work, constant = interrupted(), interrupted(seed=1), interrupted(seed=2), constant_phase()
    running(at_work)
    before = sorted(SCRATCH.rglob("*"))
    assert command().splitlines()[-1] == "`python -m stages.clean --yes` removes 2 of these: 2.0 MB"
    assert sorted(SCRATCH.rglob("*")) == before
    assert command("--yes").splitlines()[-2:] == [f"removed {path}" for path in sorted((other, constant))]
    assert set((SCRATCH / "pretrain").iterdir()) == {present, at_work}
    with Stage("pretrain") as stage:
        assert (stage.scratch / "step_00000400.pt").exists()
        (stage.out("out") / "model").touch()
    assert statuses() == {at_work: "running"}


def test_nothing_is_abandoned_while_an_input_is_missing(repo):
    work = interrupted(seed=1)
    (repo / "text").unlink()
    main(yes=True)
    assert statuses()[work].startswith("stays at step 400, since it may resume: text: missing; `dvc repro pretrain`")


def test_params_that_are_wrong_end_in_one_line():
    interrupted()
    Path("params.yaml").write_text("seed: one\n")
    with pytest.raises(InputError, match=r"^params\.yaml: "):
        main(yes=True)


def test_work_that_starts_after_the_listing_stays(running):
    work = interrupted(seed=1)
    running(work)
    assert not remove(work)
    assert (work / "step_00000400.pt").exists()


def test_an_empty_place_has_nothing(capsys):
    main(yes=True)
    assert capsys.readouterr().out == ".scratch: nothing\n"


@pytest.mark.parametrize(("answer", "stays"), [(b"y\n", False), (b"\n", True)])
def test_on_a_terminal_it_asks(answer, stays):
    work = interrupted(seed=1)
    terminal, stdin = pty.openpty()
    os.write(terminal, answer)
    done = subprocess.run([sys.executable, "-m", "stages.clean"], stdin=stdin, capture_output=True, text=True)
    os.close(stdin)
    os.close(terminal)
    assert f"Remove {work} (2.0 MB; abandoned at step 400)? [y/N]" in done.stdout + done.stderr
    assert done.returncode == 0 and work.exists() == stays


def test_experiments_in_a_copy_share_the_folder_of_the_repository(repo, tmp_path_factory, monkeypatch, capsys):
    work = interrupted(seed=1)
    copy = tmp_path_factory.mktemp("copy")
    for name in ("dvc.yaml", "params.yaml", "text"):
        shutil.copy(repo / name, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(repo))
    main(yes=True)
    assert f"removed {repo / work}" in capsys.readouterr().out and not (repo / work).exists()
