"""Everything worth measuring on a GPU machine, in five minutes and one JSON file.

    python -m benchmarks.gpu                  # writes reports/gpu.json
    python -m benchmarks.gpu --minutes 10     # more time, for a slow GPU or a cold compiler
    python -m benchmarks.gpu --toy            # the same code on a tiny model, with or without a GPU: .scratch/gpu.json

The parts run one after the other, the most valuable first, each in a process of its own:

- facts: versions, driver, GPU;
- train_ours: the training step of the stage pretrain for GPT-2 124M, 32 sequences of 1,024 tokens, bfloat16, compiled;
- train_transformers: GPT2LMHeadModel on the same tokens from the same weights, autocast to bfloat16 and compiled;
- generate: greedy text beside `model.generate`, 32 + 128 tokens, one text and eight;
- tests: pytest on the tests that are marked `cuda`.

The file is written anew after each figure, so a run that is cut short keeps what it measured. A part that fails leaves
its error there and the next one runs; a part for which no time is left is recorded as not run. No network is needed.
Compiling is switched off for `--toy`, where it would take longer than the rest together.
"""

import argparse
import copy
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
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from gpt2.common.files import read_json, write_json

ROOT = Path(__file__).parents[1]
FIRST_LOSSES = 10  # training steps whose losses are recorded
TRACEBACK_LINES = 12  # lines at the end of a traceback that are recorded


def shape(toy: bool):
    """The model that is measured: a GPTConfig without dropout."""
    from gpt2.config.params import GPTConfig
    from gpt2.model.openai import openai_config

    if toy:
        return GPTConfig(vocab_size=300, block_size=64, n_layer=2, n_head=2, n_embd=32, dropout=0.0)
    return openai_config("gpt2").model_copy(update={"dropout": 0.0})


# --- the parts: each yields figures as it finds them, and may read those of the parts before it -----------------------


def facts(toy: bool, report: dict) -> Iterator[dict]:
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


def train(toy: bool, report: dict, competitor: str) -> Iterator[dict]:
    """Speed, memory and first losses of one competitor of benchmarks.train; beside ours where ours was measured."""
    import torch

    from benchmarks.train import DEVICE, ceiling, work
    from gpt2.model.gpt import GPT
    from gpt2.pretraining.pretrain import flops_per_token
    from gpt2.runtime.device import peak_flops

    config, batch_size = shape(toy), 4 if toy else 32
    result = work(competitor, config, batch_size, steps=12 if toy else 30)
    speed = batch_size * config.block_size / result["seconds"]
    losses = result["losses"][:FIRST_LOSSES]
    yield {
        "batch": f"{batch_size} sequences of {config.block_size} tokens",
        "tokens_per_second": round(speed, 1),
        "peak_memory_mb": round(result["memory"]),
        "losses": losses,
    }
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in GPT(config).parameters())
    operations, peak = speed * flops_per_token(config, parameters), peak_flops(DEVICE)
    yield {"model_flops_utilization": peak and round(operations / peak, 4)}
    if ours := report.get("train_ours", {}).get("losses"):
        yield {
            "ours_is": round(report["train_ours"]["tokens_per_second"] / speed, 3),
            "largest_loss_difference": max(abs(a - b) for a, b in zip(ours, losses, strict=True)),
        }
    reached = ceiling(256 if toy else 8192)  # of a product of two square bfloat16 matrices
    yield {"ceiling_tflops": round(reached / 1e12, 3), "share_of_ceiling": round(operations / reached, 4)}


def generate(toy: bool, report: dict) -> Iterator[dict]:
    """Whether float32 gives the same tokens as transformers, then the speed of bfloat16, compiled last."""
    import torch

    from benchmarks.generate import our_tokens, race, their_tokens
    from benchmarks.train import DEVICE, in_transformers, initial
    from gpt2.runtime.device import autocast_dtype

    ours = initial(shape(toy)).eval()
    with torch.no_grad():
        for parameter in ours.parameters():  # a fresh model repeats one token
            parameter += 0.1 * torch.randn_like(parameter)
    theirs = in_transformers(ours).eval().to(DEVICE)
    theirs.generation_config.eos_token_id = None
    ours.to(DEVICE)
    prompt_tokens, new_tokens = (8, 8) if toy else (32, 128)
    prompts = torch.randint(ours.config.vocab_size, (8, prompt_tokens), device=DEVICE)  # (8, T)

    def results(dtype: torch.dtype, compiled: bool, repeats: int) -> Iterator[tuple[int, dict, dict]]:
        """Batch size, and what `race` found for ours and for transformers."""
        model = copy.deepcopy(ours).to(dtype)
        competitors = {
            "ours": partial(our_tokens, model, compiled=compiled),
            "transformers": partial(their_tokens, copy.deepcopy(theirs).to(dtype)),
        }
        for batch_size in (1, 8):
            found = race(competitors, prompts[:batch_size], new_tokens, repeats)
            yield batch_size, found["ours"], found["transformers"]

    for batch_size, mine, others in results(torch.float32, compiled=False, repeats=1):
        yield {f"float32, batch {batch_size}": {"same_tokens": mine["tokens"] == others["tokens"]}}
    if dtype := autocast_dtype("auto", DEVICE):
        for compiled in (False, True):
            for batch_size, mine, others in results(dtype, compiled, repeats=3):
                speed, their_speed = mine["tokens_per_second"], others["tokens_per_second"]
                yield {
                    f"bfloat16, batch {batch_size}{', compiled' if compiled else ''}": {
                        "tokens_per_second": round(speed, 1),
                        "transformers": round(their_speed, 1),
                        "ours_is": round(speed / their_speed, 3),
                        "first_call_seconds": round(mine["first_seconds"], 1),
                    }
                }


def tests(toy: bool, report: dict) -> Iterator[dict]:
    """Runs the tests marked `cuda`, in the files that have any: other files may need packages that are missing here."""
    import pytest

    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [str(path) for path in paths if "@pytest.mark.cuda" in path.read_text(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as place:
        xml = Path(place, "tests.xml")
        options = ["-m", "cuda", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
        options += [f"--rootdir={ROOT}", f"--junitxml={xml}"]
        status = pytest.main([*options, *files])
        (suite,) = ElementTree.parse(xml).getroot()
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    failed = [(case, result) for case in suite for result in case if result.tag in ("failure", "error")]
    yield {
        "passed": passed,
        "failed": counts["failures"] + counts["errors"],  # errors: in a fixture, or where a file is imported
        "skipped": counts["skipped"],
        "failures": {
            f"{case.get('classname')} {case.get('name')}".strip(): result.text.splitlines()[-TRACEBACK_LINES:]
            for case, result in failed
        },
    }
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {status!r}")


PARTS = {
    "facts": facts,
    "train_ours": partial(train, competitor="ours"),
    "train_transformers": partial(train, competitor="transformers, compiled"),
    "generate": generate,
    "tests": tests,
}

# --- the run ----------------------------------------------------------------------------------------------------------


def record(out: Path, part: str, figures: dict) -> None:
    """Adds figures of a part to the report on the disk."""
    report = read_json(out)
    report[part] = report.get(part, {}) | figures
    write_json(out, report)


def run_part(name: str, toy: bool, out: Path) -> None:
    """Measures one part in this process. An error is recorded with the end of its traceback."""
    try:
        for figures in PARTS[name](toy, read_json(out)):
            record(out, name, figures)
    except Exception as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        record(out, name, {"error": line, "traceback": traceback.format_exc().splitlines()[-TRACEBACK_LINES:]})


def run_all(toy: bool, minutes: float, out: Path) -> bool:
    """Runs the parts in their processes while there is time; returns whether all of them ended without an error."""
    write_json(out, {})
    ends = time.monotonic() + 60 * minutes
    environment = os.environ | ({"TORCH_COMPILE_DISABLE": "1"} if toy else {})
    for name in PARTS:
        began = time.monotonic()
        if began >= ends:
            record(out, name, {"not_run": f"the {minutes:g} minutes were over"})
            continue
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--part",
            name,
            "--out",
            str(out),
            *(["--toy"] if toy else []),
        ]
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, timeout=ends - began)
            if done.returncode:
                record(out, name, {"error": f"the process ended with status {done.returncode}"})
        except subprocess.TimeoutExpired:
            record(out, name, {"error": f"stopped: the {minutes:g} minutes were over"})
        record(out, name, {"seconds": round(time.monotonic() - began, 1)})
    return not any({"error", "not_run"} & figures.keys() for figures in read_json(out).values())


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="default: reports/gpu.json, or .scratch/gpu.json with --toy")
    parser.add_argument("--minutes", type=float, default=5, help="for all parts together (default: 5)")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to check that everything runs")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out or ROOT / (".scratch/gpu.json" if arguments.toy else "reports/gpu.json")
    out = out.resolve()
    if arguments.part:
        run_part(arguments.part, arguments.toy, out)
        return
    if not arguments.toy:
        import torch

        if not torch.cuda.is_available():
            parser.error("torch finds no GPU here; --toy runs the same code on a CPU")
    ok = run_all(arguments.toy, arguments.minutes, out)
    print(out.read_text(encoding="utf-8"))
    sys.exit(not ok)


if __name__ == "__main__":
    main()
