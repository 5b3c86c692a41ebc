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
    status, report = run(tmp_path / "gpu.json", "--toy", "--minutes", "10")
    assert list(report) == list(gpu.PARTS)
    assert status == 0 and not any({"error", "not_run"} & figures.keys() for figures in report.values()), report
    assert report["facts"]["toy"] and report["facts"]["gpu"] is None
    ours, theirs = report["train_ours"], report["train_transformers"]
    assert ours["losses"] == pytest.approx(theirs["losses"], abs=5e-3)
    assert len(ours["losses"]) == gpu.FIRST_LOSSES and ours["losses"][-1] < ours["losses"][0] - 0.03
    assert theirs["ours_is"] == pytest.approx(ours["tokens_per_second"] / theirs["tokens_per_second"], abs=1e-3)
    assert ours["peak_memory_mb"] > 100 and 0 < ours["share_of_ceiling"] < 1
    for batch_size in (1, 8):
        assert report["generate"][f"float32, batch {batch_size}"] == {"same_tokens": True}
    assert report["tests"]["skipped"] > 0 and report["tests"]["failed"] == report["tests"]["passed"] == 0


def test_a_part_that_fails_keeps_its_figures_and_its_error(tmp_path, monkeypatch):
    def breaks(toy, report):
        yield {"first": 1}
        raise ValueError("two\nlines")

    out = tmp_path / "gpu.json"
    write_json(out, {})
    monkeypatch.setitem(gpu.PARTS, "facts", breaks)
    gpu.run_part("facts", True, out)
    facts = read_json(out)["facts"]
    assert facts["first"] == 1 and facts["error"] == "ValueError: two" and "lines" in facts["traceback"][-1]


def test_what_no_longer_fits_is_stopped_or_skipped(tmp_path):
    status, report = run(tmp_path / "gpu.json", "--toy", "--minutes", "0.001")
    assert status == 1 and list(report) == list(gpu.PARTS)
    assert report["facts"]["error"] == "stopped: the 0.001 minutes were over"
    assert all(figures["not_run"] for part, figures in report.items() if part != "facts")


def test_tests_are_counted_and_failures_kept(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    mark = "import pytest\n@pytest.mark.cuda\n"
    (tmp_path / "tests/test_a.py").write_text(mark + "def test_a(): pass\n" + mark + "def test_b(): assert 1 == 2\n")
    (tmp_path / "tests/test_b.py").write_text("import no_such_package\n" + mark + "def test_b(): pass\n")
    (tmp_path / "tests/test_c.py").write_text("import no_such_package\n")
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    (figures,) = gpu.tests(True, {})
    failures = figures.pop("failures")
    assert figures == {"passed": 1, "failed": 2, "skipped": 0}
    assert failures.keys() == {"tests.test_b", "tests.test_a test_b"}
    assert any("assert 1 == 2" in line for line in failures["tests.test_a test_b"])
