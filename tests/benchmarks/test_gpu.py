"""`python -m benchmarks.gpu` on a CPU, at toy size: what a GPU machine runs has no typo and loses no figure."""

import os
import subprocess
import sys

import pytest

from benchmarks import gpu
from gpt2.common.files import read_json, write_json
from tests.conftest import ROOT


def run(out, *options):
    """Exit status of the command and the report that it wrote."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    return done.returncode, read_json(out)


def test_every_part_runs(tmp_path):
    status, report = run(tmp_path / "gpu.json", "--toy", "--minutes", "20")
    assert list(report) == list(gpu.PARTS)
    assert status == 0 and not any({"error", "not_run"} & figures.keys() for figures in report.values()), report
    assert report["facts"]["toy"] and report["facts"]["gpu"] is None
    files = [figures for name, figures in report["tests"].items() if name.startswith("test_")]
    assert sum(file["passed"] for file in files) > 20 and not any(file["failed"] for file in files), files
    train = report["train"]
    for size in (2, 4):
        ours, theirs = (train[f"{size} sequences of 64 tokens"][name] for name in ("ours", "transformers, compiled"))
        assert ours["first_loss"] == pytest.approx(theirs["first_loss"], abs=5e-3)
        assert theirs["ours_is"] == pytest.approx(theirs["step_ms"] / ours["step_ms"], abs=1e-3)
        assert ours["peak_memory_gb"] > 0.1 and 0 < ours["share_of_ceiling"] < 1
    assert train["muon_share"] < 1
    times = [kernel["ms"] for kernel in train["kernels"]]
    assert len(times) == 10 and times == sorted(times, reverse=True)
    for size in (1, 8):
        assert report["generate"][f"float32, batch {size}"] == {"same_tokens": True}
    assert report["hellaswag"]["float32"]["largest_difference"] < 1e-3
    assert len(report["curve"]["losses"]) == 8 and report["curve"]["largest_differences"]["float32"] < 1e-3


def test_a_part_that_fails_keeps_its_figures_and_its_error(tmp_path, monkeypatch):
    def breaks(toy):
        yield {"first": 1}
        raise ValueError("two\nlines")

    out = tmp_path / "gpu.json"
    write_json(out, {"facts": {"error": "an earlier one"}, "train": {"kept": 2}})
    monkeypatch.setattr(gpu, "facts", breaks)
    gpu.run_part("facts", True, out)
    report = read_json(out)
    assert report["facts"]["first"] == 1 and report["facts"]["error"] == "ValueError: two"
    assert "lines" in report["facts"]["traceback"][-1] and report["train"] == {"kept": 2}
    assert gpu.failed(out, ("facts",)) and not gpu.failed(out, ("train",))


def test_what_no_longer_fits_is_stopped_or_skipped(tmp_path):
    status, report = run(tmp_path / "gpu.json", "--toy", "--minutes", "0.001")
    assert status == 1 and list(report) == list(gpu.PARTS)
    assert report["facts"]["error"] == "stopped after 0 seconds"
    assert all(figures["not_run"] for part, figures in report.items() if part != "facts")


def test_tests_are_counted_and_failures_kept(tmp_path, monkeypatch):
    place = tmp_path / "tests/cuda"
    place.mkdir(parents=True)
    (place / "test_a.py").write_text("def test_a(): pass\ndef test_b(): assert 1 == 2\n")
    (place / "test_b.py").write_text("import no_such_package\n")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setenv("GPT2_CUDA_TESTS_ON", "cpu")
    first, second = (figures for file in gpu.tests(True) for figures in file.values())
    assert (first["passed"], first["failed"], first["skipped"]) == (1, 1, 0)
    assert any("assert 1 == 2" in line for line in first["failures"]["test_b"])
    assert (second["passed"], second["failed"]) == (0, 1)
    assert any("no_such_package" in line for lines in second["failures"].values() for line in lines)
