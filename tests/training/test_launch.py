"""Pretraining in several processes: no kill leaves a process, and resumed training ends with the same bytes."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from ruamel.yaml import YAML

from gpt2.common.files import read_csv, read_json
from tests.conftest import ELSEWHERE
from tests.repository import Repository
from tests.small import byte_tokenizer, free_port, write_shards

PROFILE = """
model:
  block_size: 32
  n_layer: 2
  n_embd: 32
  n_head: 2
  dropout: 0.1
train:
  steps: 60
  batch_size: 4
  optimizer: adamw
  lr: 0.004
  warmup_steps: 5
  precision: float32
  eval_every: 20
  val_tokens: 200
  snapshots: 20
machine:
  launcher: torchrun --standalone --nproc-per-node=2
  micro_batch_size: 1
  compile: never
  checkpoint_every: 5
"""
MODEL = "data/models/pretrain/model.safetensors"
OUTS = [
    MODEL,
    *(f"data/models/snapshots/step_000000{step}/model.safetensors" for step in (20, 40, 60)),
    "data/models/snapshots/manifest.json",
    *(f"reports/pretrain/{file}" for file in ("train.csv", "val.csv")),
]
TRAIN, VAL = OUTS[-2:]
STAGE = (sys.executable, "-m", "stages.pretrain")


class Laboratory(Repository):
    """A repository with small inputs for pretraining."""

    def __init__(self, place: Path):
        super().__init__(place, "sample")
        (place / "profiles/tiny.yaml").write_text(PROFILE)
        self.ok(sys.executable, "-m", "stages.profile", "tiny")
        letters = np.random.default_rng(0).integers(97, 123, (2, 3000), dtype=np.uint8)
        texts = [(split, [row.tobytes().decode()]) for split, row in zip(("train", "val"), letters, strict=True)]
        write_shards(place / "data/tokens", texts, byte_tokenizer(), shard_tokens=10_000)
        byte_tokenizer().save(place / "data/tokenizer", 32)
        self.hold = place / "hold"
        self._wait_after_a_checkpoint()
        self.params = (place / "params.yaml").read_text()
        self.original = {path: path.read_text() for path in (place / "gpt2").rglob("*.py")}
        self.environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def _wait_after_a_checkpoint(self) -> None:
        """Makes training wait after each checkpoint while there is a file `hold`, so that it can be killed there."""
        file = self.path / "gpt2/training/resume.py"
        code, end = file.read_text(), "        for path in self.paths()[KEEP:]:\n"
        assert code.count(end) == 1
        wait = f"        while Path({str(self.hold)!r}).exists():\n            time.sleep(0.01)\n"
        file.write_text(code.replace("import sys\n", "import sys\nimport time\n").replace(end, wait + end))

    def configure(self, **changes: object) -> None:
        """Changes params of the section `machine` or `train`, starting from the profile's."""
        params = YAML(typ="safe").load(self.params)
        for key, value in changes.items():
            section = next(name for name in ("machine", "train") if key in params[name])
            params[section][key] = value
        YAML().dump(params, self.path / "params.yaml")

    def checkpoints(self) -> set[Path]:
        return set(self.path.glob(".scratch/pretrain/*/step_*.pt"))

    def outs(self) -> dict[str, bytes]:
        return {name: (self.path / name).read_bytes() for name in OUTS}

    def losses(self) -> list[float]:
        return [float(row["loss"]) for row in read_csv(self.path / "reports/pretrain/train.csv")]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("launch"))


@pytest.fixture(scope="module")
def uninterrupted(laboratory) -> dict[str, bytes]:
    """The outs of two processes that nothing interrupts: on two nodes, the second started by hand."""
    node = f"torchrun --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{free_port()}"
    laboratory.configure(launcher=node)
    second = laboratory.start(*node.split(), "-m", "stages.pretrain", "--worker", stderr=PIPE)
    laboratory.ok(*STAGE)
    assert second.wait() == 0, second.stderr.read()
    return laboratory.outs()


def test_two_nodes_give_the_curve_of_one_process(laboratory, uninterrupted):
    together = [float(line.split(",")[3]) for line in uninterrupted[TRAIN].decode().splitlines()[1:]]
    laboratory.configure(launcher="THREADS=1 python")
    laboratory.ok(*STAGE)
    alone = laboratory.losses()
    assert len(alone) == 60 and alone[-1] < alone[0] - 1
    # The sum over processes is rounded differently, by about 1e-7, and the difference may grow with the steps. Another
    # batch or dropout mask would change a loss as much as the next step's does.
    np.testing.assert_allclose(together[:20], alone[:20], atol=1e-4)
    np.testing.assert_allclose(together, alone, atol=1e-3)
    assert np.diff(alone[30:]).std() > 10 * 1e-3


@pytest.mark.skipif(sys.platform != "linux", reason="a process dies with its parent on Linux alone")
def test_no_kill_leaves_a_process_and_training_ends_with_the_same_bytes(laboratory, uninterrupted):
    laboratory.configure(launcher="torchrun --standalone --nproc-per-node=2")
    dvc = ("dvc", "repro", "--single-item", "pretrain")
    for victim, command in (("dvc", dvc), ("stage", STAGE), ("torchrun", STAGE), ("rank 0", STAGE)):
        laboratory.hold.touch()
        before, started = laboratory.checkpoints(), laboratory.start(*command, stderr=PIPE)
        laboratory.wait_for(lambda before=before: laboratory.checkpoints() - before, started)
        running = {name: pid for pid, name in laboratory.processes().items()}
        assert running.keys() == {"stage", "torchrun", "rank 0", "rank 1"} | ({"dvc"} if command == dvc else set())
        os.kill(running[victim], signal.SIGKILL)
        said = started.communicate()[1]
        assert started.returncode != 0 and ("SIGKILL" in said or "rank" not in victim), said
        laboratory.wait_for(lambda: not laboratory.processes())
        assert laboratory.checkpoints() > before
    laboratory.hold.unlink()
    laboratory.ok(*STAGE)
    assert laboratory.outs() == uninterrupted
    assert not laboratory.checkpoints()


def test_without_what_only_linux_has_a_terminated_run_resumes_and_ends_with_the_same_bytes(laboratory, uninterrupted):
    laboratory.configure(launcher="torchrun --standalone --nproc-per-node=2")
    laboratory.environment["PYTHONPATH"] = str(ELSEWHERE)
    laboratory.hold.touch()
    before, started = laboratory.checkpoints(), laboratory.start(*STAGE, stderr=PIPE)
    laboratory.wait_for(lambda: laboratory.checkpoints() - before, started)
    started.terminate()
    started.communicate()
    laboratory.wait_for(lambda: not laboratory.processes())
    laboratory.hold.unlink()
    laboratory.ok(*STAGE)
    del laboratory.environment["PYTHONPATH"]
    assert laboratory.outs() == uninterrupted
    assert laboratory.json("reports/pretrain/throughput.json")["peak_memory_mb"] is None


def test_code_edited_after_a_kill_goes_on_and_an_edit_during_training_costs_seconds(laboratory, uninterrupted):
    """A comment in the code that trains, in code that training only prints with, and in an error text."""
    laboratory.configure()
    laboratory.hold.touch()
    started = laboratory.start(*STAGE, stderr=PIPE)
    laboratory.wait_for(laboratory.checkpoints, started)
    curve = (laboratory.path / TRAIN).read_text()
    assert curve.startswith("step,tokens,lr,loss,grad_norm\n0,128,") and curve.count("\n") == 6  # up to the checkpoint
    started.kill()
    started.communicate()
    for name in ("training/optim.py", "generation/sampling.py", "common/errors.py"):
        with open(laboratory.path / "gpt2" / name, "a") as file:
            file.write("# a comment\n")
    laboratory.hold.unlink()
    done = laboratory.run(*STAGE)
    assert "training resumes at step 5; the code changed since then: gpt2/training/optim.py" in done.stderr
    assert done.returncode == 0 and laboratory.outs() == uninterrupted
    assert read_json(laboratory.path / "reports/pretrain/throughput.json")["code_changed_at_step"] == [5]
    for path, text in laboratory.original.items():
        path.write_text(text)


def test_an_edit_during_training_fails_the_stage_and_the_next_run_only_finishes(laboratory, uninterrupted):
    laboratory.configure()
    laboratory.hold.touch()
    started = laboratory.start(*STAGE, stderr=PIPE)
    laboratory.wait_for(laboratory.checkpoints, started)
    optim = laboratory.path / "gpt2/training/optim.py"
    optim.write_text(laboratory.original[optim] + "# a comment\n")
    laboratory.hold.unlink()
    said = started.communicate()[1]
    assert started.returncode == 1 and "params.yaml or a dep changed while the stage ran" in said
    assert len((laboratory.path / TRAIN).read_text().splitlines()) == 61  # the curve stays
    done = laboratory.run(*STAGE)
    optim.write_text(laboratory.original[optim])
    assert done.returncode == 0 and "training resumes at step 60" in done.stderr
    assert laboratory.outs() == uninterrupted


def test_a_longer_wsd_run_goes_on_and_gives_the_bytes_of_one_from_scratch(laboratory):
    """Thirty steps, then sixty, killed in between: as sixty from scratch, and with cosine a line says why not."""
    wsd = {"launcher": "THREADS=1 python", "schedule": "wsd", "decay_rate": 0.5}
    laboratory.configure(**wsd)
    laboratory.ok(*STAGE)
    whole = laboratory.outs()
    for folder in laboratory.path.glob(".scratch/pretrain/constant-*"):
        shutil.rmtree(folder)

    laboratory.configure(**wsd, steps=30)
    said = laboratory.run(*STAGE).stderr
    assert re.search(r"constant-\w+ \(\d+ MB\) holds the state from which a longer run can continue at step 15", said)
    laboratory.configure(**wsd)
    laboratory.hold.touch()
    started = laboratory.start(*STAGE, stderr=PIPE)
    laboratory.wait_for(laboratory.checkpoints, started)
    started.kill()
    assert "training continues from step 15 of an earlier run" in started.communicate()[1]
    laboratory.hold.unlink()
    laboratory.ok(*STAGE)
    assert laboratory.outs() == whole

    laboratory.configure(**wsd, lr=0.003)
    assert "training starts at step 0: train.lr is 0.003, was 0.004" in laboratory.run(*STAGE).stderr
    laboratory.configure(**wsd, steps=40)
    expected = (
        "training starts at step 0, not at step 30 of an earlier run: the constant phase of this run ends at step 20"
    )
    assert expected in laboratory.run(*STAGE).stderr
    laboratory.configure(**wsd, micro_batch_size=4)
    expected = "training starts at step 0, not at step 30 of an earlier run: micro_batch_size is 4, was 1"
    assert expected in laboratory.run(*STAGE).stderr


def test_three_samples_train_in_two_processes(laboratory):
    """One sample at a time: one process has two, and the other has one and a sample that does not count."""
    curves = []
    for launcher in ("THREADS=1 python", "torchrun --standalone --nproc-per-node=2"):
        laboratory.configure(batch_size=3, launcher=launcher, steps=10)
        laboratory.ok(*STAGE)
        curves.append(laboratory.losses())
    np.testing.assert_allclose(*curves, atol=1e-4)


def test_a_signal_stops_a_run_quietly_and_a_second_run_is_refused(laboratory):
    laboratory.configure(launcher="python", steps=1_000_000)
    first = laboratory.start(*STAGE, stderr=PIPE)
    laboratory.wait_for(laboratory.checkpoints, first)
    second = laboratory.run(*STAGE)
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert "another process is running this stage on the same inputs" in second.stderr
    first.send_signal(signal.SIGINT)
    assert "Traceback" not in first.communicate()[1] and first.returncode == 130
    left = laboratory.checkpoints()
    assert left and not laboratory.processes()

    laboratory.configure(launcher="python", steps=1_000_000, lr=0.002)  # starts over in another folder
    other = laboratory.start(*STAGE, stderr=PIPE)
    laboratory.wait_for(lambda: laboratory.checkpoints() - left, other)
    other.terminate()
    assert "Traceback" not in other.communicate()[1] and other.returncode == 128 + signal.SIGTERM
    assert left < laboratory.checkpoints() and not laboratory.processes()


def test_an_error_of_every_process_is_printed_once(laboratory):
    laboratory.configure(lr=1e30, warmup_steps=0)
    done = laboratory.run(*STAGE)
    line = r"pretrain: training diverged at step \d+: loss nan \(not finite on rank 0, 1 of 2\), .*none yet\)"
    assert done.returncode == 1 and re.fullmatch(line, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr and done.stderr.count("pretrain:") == 1


def test_a_crash_of_one_process_ends_the_job_and_shows_where(laboratory):
    laboratory.configure()
    code = (laboratory.path / "gpt2/training/trainer.py").read_text()
    start = "                lr, tokens = learning_rate("
    assert start in code
    broken = code.replace(start, f"                assert world.rank == 0 or self.step < 3, 'second fails'\n{start}")
    (laboratory.path / "gpt2/training/trainer.py").write_text(broken)
    done = laboratory.run(*STAGE)
    (laboratory.path / "gpt2/training/trainer.py").write_text(code)
    assert done.returncode == 1 and "AssertionError: second fails" in done.stderr
    assert re.search(r"Root Cause.*rank +: 1 ", done.stderr, re.DOTALL)
    assert done.stderr.splitlines()[-1].startswith("pretrain: machine.launcher = 'torchrun --standalone")
    assert not laboratory.processes()
