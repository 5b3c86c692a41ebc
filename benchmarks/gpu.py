"""Everything worth measuring on a GPU machine, in five minutes and one JSON file.

    python -m benchmarks.gpu                  # writes reports/gpu.json
    python -m benchmarks.gpu --part train     # measures one part again, and keeps the rest of the file
    python -m benchmarks.gpu --minutes 10     # more time, for a slow GPU or a cold compiler
    python -m benchmarks.gpu --toy            # the same code on a tiny model, with or without a GPU: .scratch/gpu.json

The parts run one after the other, the most valuable first, each in a process of its own:

- facts: versions, driver, GPU;
- tests: pytest on the tests that are marked `cuda`;
- train: the training step of the stage pretrain for GPT-2 124M, 32 and 64 sequences of 1,024 tokens, compiled, beside
  GPT2LMHeadModel on the same tokens from the same weights, autocast to bfloat16 and compiled; the same step with Muon;
  the kernels that take the most time;
- generate: greedy text beside `model.generate`, 32 + 128 tokens, 1, 8 and 64 texts;
- hellaswag: examples per second beside a loop in transformers that scores four padded rows at a time;
- curve: a hundred steps on the pages and code of this project; the first losses beside float32 on the CPU.

The file is written anew after each figure, so a run that is cut short keeps what it measured. A part that fails leaves
its error there and the next one runs; a part for which no time is left is recorded as not run. No network is needed.
With `--toy` nothing is compiled, which would take longer than the rest together.
"""

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from gpt2.common.files import read_json, write_json
from gpt2.common.machine import cpu_count, processor

ROOT = Path(__file__).parents[1]
PARTS = ("facts", "tests", "train", "generate", "hellaswag", "curve")
SHARES = {"tests": 0.35, "train": 0.5}  # of the time; the other parts may use all that is left
TRACEBACK_LINES = 12  # lines at the end of a traceback that are recorded


# --- the first parts, for which torch is not imported at the top: the rest are in gpu_parts.py ------------------------


def facts(toy: bool) -> Iterator[dict]:
    """The machine and its software."""
    import torch

    from gpt2.runtime.device import can_compile

    yield {
        "toy": toy,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "compiler": can_compile("auto"),
        "processor": processor(),
        "processors": cpu_count(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield {
            "gpu": properties.name,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
        }
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        yield {"driver": subprocess.run(command, capture_output=True, text=True).stdout.strip()}


def tests(toy: bool) -> Iterator[dict]:
    """Runs the tests of a GPU, file by file; a toy runs them on the CPU."""
    import pytest

    if toy:
        os.environ["GPT2_CUDA_TESTS_ON"] = "cpu"
    for path in sorted((ROOT / "tests/cuda").glob("test_*.py")):
        with tempfile.TemporaryDirectory() as place:
            xml = Path(place, "tests.xml")
            options = ["-v", "--durations=3", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--junitxml={xml}"]
            status = pytest.main([*options, str(path)])
            (suite,) = ElementTree.parse(xml).getroot()
        counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
        passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
        failed = [(case, result) for case in suite for result in case if result.tag in ("failure", "error")]
        yield {
            path.stem: {
                "passed": passed,
                "failed": counts["failures"] + counts["errors"],  # errors: in a fixture, or where a file is imported
                "skipped": counts["skipped"],
                "seconds": round(float(suite.get("time")), 1),
                "failures": {case.get("name"): result.text.splitlines()[-TRACEBACK_LINES:] for case, result in failed},
            }
        }
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            raise RuntimeError(f"pytest ended with {status!r}")


# --- the run ----------------------------------------------------------------------------------------------------------


def record(out: Path, part: str, figures: dict) -> None:
    """Adds figures of a part to the report on the disk."""
    report = read_json(out)
    report[part] = report.get(part, {}) | figures
    write_json(out, report)


def run_part(name: str, toy: bool, out: Path) -> None:
    """Measures one part in this process. An error is recorded with the end of its traceback."""
    write_json(out, read_json(out) | {name: {}})
    try:
        if name in globals():
            part = globals()[name]
        else:
            from benchmarks import gpu_parts

            part = getattr(gpu_parts, name)
        for figures in part(toy):
            record(out, name, figures)
    except Exception as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        record(out, name, {"error": line, "traceback": traceback.format_exc().splitlines()[-TRACEBACK_LINES:]})


def failed(out: Path, parts: tuple[str, ...]) -> bool:
    """Whether any of these parts has an error or was not run."""
    report = read_json(out)
    return any({"error", "not_run"} & report[part].keys() for part in parts)


def run_all(toy: bool, minutes: float, out: Path) -> None:
    """Runs the parts in their processes while there is time."""
    write_json(out, {})
    ends = time.monotonic() + 60 * minutes
    for name in PARTS:
        began = time.monotonic()
        if began >= ends:
            record(out, name, {"not_run": f"the {minutes:g} minutes were over"})
            continue
        limit = min(ends - began, 60 * minutes * SHARES.get(name, 1))
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--out", str(out), *["--toy"] * toy]
        try:
            done = subprocess.run(command, cwd=ROOT, timeout=limit, stdout=sys.stderr)
            if done.returncode and not failed(out, (name,)):
                record(out, name, {"error": f"the process ended with status {done.returncode}"})
        except subprocess.TimeoutExpired:
            record(out, name, {"error": f"stopped after {limit:.0f} seconds"})
        record(out, name, {"seconds": round(time.monotonic() - began, 1)})


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="default: reports/gpu.json, or .scratch/gpu.json with --toy")
    parser.add_argument("--minutes", type=float, default=5, help="for all parts together (default: 5)")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to check that everything runs")
    parser.add_argument("--part", choices=PARTS, help="measure this part alone")
    arguments = parser.parse_args()
    out = arguments.out or ROOT / (".scratch/gpu.json" if arguments.toy else "reports/gpu.json")
    out = out.resolve()
    if arguments.toy:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
    else:
        import torch

        if not torch.cuda.is_available():
            parser.error("torch finds no GPU here; --toy runs the same code on a CPU")
    if arguments.part:
        if not out.exists():
            write_json(out, {})
        run_part(arguments.part, arguments.toy, out)
    else:
        run_all(arguments.toy, arguments.minutes, out)
    print(out.read_text(encoding="utf-8"))
    sys.exit(failed(out, (arguments.part,) if arguments.part else PARTS))


if __name__ == "__main__":
    main()
