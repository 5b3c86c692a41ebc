"""The command prints a table, writes rows, shares work between processes, and reports errors in one line."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from gpt2.commands.cli import run
from gpt2.common.files import read_jsonl, write_jsonl
from gpt2.evaluation.hellaswag import METRICS, PROTOCOLS, evaluate, read
from gpt2.model import checkpoint
from tests.conftest import ROOT
from tests.small import ALONE, byte_tokenizer, exit_status, small_model
from tests.sources.test_tables import write

main = partial(run, "hellaswag")

TEXTS = ("a man sits", "on the roof", "and starts", "to pull up tiles", "while dogs", "watch him")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with a model and a file of examples."""
    place = tmp_path_factory.mktemp("hellaswag")
    tokenizer = byte_tokenizer()
    checkpoint.save(small_model(vocab_size=tokenizer.vocab_size, block_size=48), place / "model")
    tokenizer.save(place / "model")
    fixed = {"activity_label": "Roof", "ctx_a": "A roof.", "ctx_b": "the man", "ctx": "A roof. the man"}
    write_jsonl(
        place / "val.jsonl",
        (
            {**fixed, "ind": n, "endings": [TEXTS[(n + i) % 6][: 3 + n] for i in range(4)], "label": n % 4}
            for n in range(9)
        ),
    )
    return place


@pytest.fixture(scope="module")
def expected(place) -> tuple[dict, list[dict]]:
    options = {"precision": "float32", "world": ALONE}
    return evaluate(place / "model", read(place / "val.jsonl"), list(PROTOCOLS), **options)


def arguments(place: Path, *more: str) -> list[str]:
    return ["--model", str(place / "model"), "--data", str(place / "val.jsonl"), "--precision", "float32", *more]


def test_a_table_is_printed_and_every_example_written(place, expected, tmp_path, capsys):
    assert main(arguments(place, "--out", str(tmp_path / "out.jsonl"))) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["protocol", "acc", "acc_norm", "n", "truncated"]
    for line, (name, protocol) in zip(lines, PROTOCOLS.items(), strict=True):
        acc, acc_stderr, norm, norm_stderr, n, truncated = (expected[0][protocol.prefix + key] for key in METRICS)
        printed = [name, f"{acc:.4f}", "±", f"{acc_stderr:.4f}", f"{norm:.4f}", "±", f"{norm_stderr:.4f}"]
        assert line.split() == [*printed, str(n), str(truncated)]
    assert read_jsonl(tmp_path / "out.jsonl") == expected[1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_two_processes_find_the_same(place, expected, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "gpt2", "hellaswag"]
    out = tmp_path / "out.jsonl"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *torchrun, *arguments(place, "--out", str(out))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completion") == 1
    assert read_jsonl(out) == expected[1]
    done = subprocess.run([*command, "--data", "/nowhere"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.count("error: /nowhere: no such file") == 1


@pytest.mark.parametrize("name", ["val.parquet", "VAL.JSONL"])
def test_the_examples_may_be_any_table_that_the_chain_reads(place, expected, tmp_path, name):
    """Hugging Face's HellaSwag is a parquet file whose labels are texts; editors put a byte order mark before text."""
    rows = [{**row, "label": str(row["label"])} for row in read_jsonl(place / "val.jsonl")]
    write(tmp_path / name, rows)
    if name == "VAL.JSONL":
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes() + b"\n")
    assert main(arguments(place, "--data", str(tmp_path / name), "--out", str(tmp_path / "out.jsonl"))) == 0
    assert read_jsonl(tmp_path / "out.jsonl") == expected[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model", "/nowhere"), "/nowhere: no such model directory"),
        (("--data", "/nowhere"), "/nowhere: no such file"),
        (("--out", "/dev/null"), "--out = /dev/null: expected a file in an existing directory"),
    ],
)
def test_errors_are_one_line(place, capsys, more, message):
    assert exit_status(main, arguments(place, *more)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_scores_do_not_replace_the_examples(place, capsys):
    data = place / "val.jsonl"
    before = data.read_bytes()
    assert exit_status(main, arguments(place, "--out", str(data))) == 1
    assert capsys.readouterr().err.startswith(f"error: --out = {data}: expected another file than --data")
    assert data.read_bytes() == before
