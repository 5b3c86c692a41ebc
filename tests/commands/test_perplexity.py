"""The command: texts, pipes and tables, output for people and programs, errors in one line."""

import json
import subprocess
import sys
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2.commands.cli import run
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from tests.conftest import ROOT
from tests.small import byte_tokenizer, exit_status, small_model
from tests.sources.test_tables import compress

main = partial(run, "perplexity")

TEXT = "the cat sat on the mat; 日本語\r\nthe dog's\n" * 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A checkpoint with its tokenizer: its tokens are bytes."""
    directory = tmp_path_factory.mktemp("model")
    checkpoint.save(small_model(vocab_size=257), directory)
    byte_tokenizer().save(directory)
    return directory


@pytest.fixture
def command(directory, tmp_path, capsys, monkeypatch):
    """Runs the command in a directory with two files; returns its status and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    pq.write_table(pa.table({"text": ["the cat", "", "a mat " * 9], "n": [1, 2, 3]}), tmp_path / "a.parquet")

    def run(*arguments: str) -> tuple[int, str, str]:
        return exit_status(main, ["--model", str(directory), *arguments]), *capsys.readouterr()

    return run


def figures(command, *arguments: str) -> dict:
    """The command's JSON output in float32."""
    status, out, _ = command(*arguments, "--json", "--precision", "float32")
    assert status == 0 and out.count("\n") == 1
    return json.loads(out)


def test_a_text_is_one_document(command):
    found = figures(command, "a.txt")
    tokens = len(TEXT.replace("\r\n", "\n").encode())
    settings = {"documents": 1, "block_size": 16, "stride": 8, "precision": "float32"}
    assert {"tokens": tokens, "bytes": tokens, **settings}.items() <= found.items()
    assert figures(command, "a.txt", "--stride", "1")["nats_per_token"] != found["nats_per_token"]


def test_a_text_within_the_context_is_scored_as_transformers_does(directory, command, tmp_path):
    (tmp_path / "short").write_text("the cat")
    ids = torch.tensor([[256, *byte_tokenizer().encode("the cat")]])
    with torch.no_grad():
        loss = GPT2LMHeadModel.from_pretrained(directory).eval()(ids, labels=ids).loss.item()
    command()  # transformers wrote on stderr
    found = figures(command, "short")
    assert found["nats_per_token"] == pytest.approx(loss, rel=1e-5)
    status, out, _ = command("short", "--precision", "float32")
    assert status == 0 and out.startswith(
        "documents: 1, each after <|endoftext|>\nwindows of 16 tokens, stride 8, float32\n"
    )
    shown = {line[:16].strip(): line[16:].strip() for line in out.splitlines()[3:]}
    assert shown == {
        "nats per token": f"{found['nats_per_token']:.4f}",
        "bits per byte": f"{found['bits_per_byte']:.4f}",
        "perplexity": f"{found['perplexity']:,.4f}",
        "tokens": "7",
        "bytes": "7",
    }


def test_a_compressed_text_is_read_like_the_text(command, tmp_path):
    compress(tmp_path / "a.md.gz", TEXT.encode())
    assert figures(command, "a.md.gz") == figures(command, "a.txt")
    assert command("a.md.gz")[2] == ""


def test_a_pipe_is_read_like_a_file(directory, command, tmp_path):
    found = figures(command, "a.txt")
    arguments = ["--model", str(directory), "--json", "--precision", "float32"]
    piped = [sys.executable, "-m", "gpt2", "perplexity", *arguments, "-"]
    done = subprocess.run(piped, cwd=ROOT, input=TEXT.encode(), stdout=subprocess.PIPE)
    assert json.loads(done.stdout) == found


def test_the_rows_of_a_table_in_any_format_are_documents(command, tmp_path):
    found = figures(command, "a.parquet")
    assert (found["documents"], found["tokens"]) == (2, 7 + 54)
    rows = [{"n": 1}, {"said": "a mat " * 9}, {"said": ""}, {"said": None}, {"said": "the cat"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "reviews[1].CSV").write_text("n,said\r\n1,the cat\r\n2," + "a mat " * 9)
    for name in ("a.jsonl", "reviews[1].CSV"):
        again = figures(command, name, "--column", "said")
        assert again["documents"] == 2
        assert again["nats_per_token"] == pytest.approx(found["nats_per_token"], rel=1e-6)
    assert "documents: 2, scored independently, each after <|endoftext|>\n" in command("a.parquet")[1]


def test_a_suffix_of_neither_a_table_nor_a_text_needs_a_word(command, tmp_path):
    for name in ("a.tab", "b.txt", "c"):
        (tmp_path / name).write_text("the cat")
    note = "note: a.tab is read as one text; tables end in .parquet, .jsonl, .json, .csv, .tsv\n"
    assert [command(name)[2] for name in ("a.tab", "b.txt", "c")] == [note, "", ""]


@pytest.mark.parametrize("context", [1, 2])
def test_a_tiny_context(command, tmp_path, context):
    checkpoint.save(small_model(vocab_size=257, block_size=context), tmp_path / "tiny")
    byte_tokenizer().save(tmp_path / "tiny")
    status, _, err = command("a.txt", "--model", "tiny")
    expected = "error: tiny: its context of 1 token is too short: expected 2 or more\n" if context == 1 else ""
    assert (status, err) == (int(context == 1), expected)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"x", ("--model", "nowhere", "x"), "nowhere: no such model directory"),
        (None, ("x",), "x: No such file or directory"),
        (None, ("x.parquet",), "x.parquet: no such file"),
        (b"", ("x",), "x: contains no text"),
        (b"ab\xffcd", ("x",), "x: cannot be read: byte 0xff at offset 2 is not UTF-8"),
        (b"x", ("x.parquet",), "x.parquet: not a parquet file: "),
        (b"x", ("a.parquet", "--column", "said"), "a.parquet: no column 'said'; it has text, n"),
        (b"x", ("a.parquet", "--column", "n"), "a.parquet, row 1: n = 1: expected a text"),
        (b"x", ("x", "--column", "said"), "--column = 'said': only tables have columns"),
        (b"x", ("x", "--stride", "0"), "--stride = 0: expected 1 to 15, less than the model's context"),
    ],
)
def test_errors_are_one_line(command, tmp_path, content, arguments, message):
    if content is not None:
        for name in ("x", "x.parquet"):
            (tmp_path / name).write_bytes(content)
    status, out, err = command(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def test_a_full_gpu_ends_in_one_line(command, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 6.14 GiB.")

    monkeypatch.setattr(GPT, "hidden", full)
    assert command("a.txt") == (1, "", "error: the memory of the GPU is full: --device cpu uses the processor\n")
