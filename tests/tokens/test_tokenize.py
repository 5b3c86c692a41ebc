"""The same bytes wherever tasks run and however often they are interrupted; every document is accounted for."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.commands.shards import verify
from gpt2.common.errors import InputError
from gpt2.config.data import TokensParams
from gpt2.config.params import MachineParams
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import EOT, PIECE, Tokenizer
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.shards import TokenStream, read_manifest
from gpt2.tokens.tokenize import tokenize
from tests.conftest import ROOT
from tests.repository import Folder
from tests.tokenizer.test_bpe import ENGLISH
from tests.tokens.test_corpus import strings

HELDOUT = 0.2

# Stand-ins for Slurm's commands, as datatrove uses them: the tasks of an array run here, one after the other.
SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.M))
assert "wait" in options and options["partition"] == "cpu" and options["time"] == "00:10:00", options
status = 0
for task in range(int(re.match(r"0-(\\d+)", options["array"])[1]) + 1):
    output = open(options["output"].replace("%A", "7").replace("%a", str(task)), "w")
    env = os.environ | dict(SLURM_ARRAY_TASK_ID=str(task), SLURM_JOB_ID="7", SLURM_NODELIST="here", RUN_OFFSET="0")
    status |= subprocess.call(["bash", sys.argv[-1]], env=env, stdout=output, stderr=output)
print("Submitted batch job 7")
sys.exit(status)
"""
SRUN = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done\nexec "$@"\n'
SCONTROL = "#!/bin/sh\necho $3\n"  # show hostnames <list>
SCANCEL = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/canceled"\n'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """The files of a small vocabulary."""
    directory = tmp_path_factory.mktemp("tokenizer")
    Tokenizer(train_bpe(ENGLISH, 400)).save(directory)
    return directory


def write_corpus(directory: Path, *files: pa.Array | list[str]) -> Path:
    """Files of texts without splits."""
    directory.mkdir(exist_ok=True)
    for number, texts in enumerate(files):
        pq.write_table(pa.table({"text": texts}), directory / f"part_{number:05d}.parquet")
    return directory


def paragraphs(seed: int, count: int) -> list[str]:
    """Texts that differ."""
    words, rng = " ".join(ENGLISH).split(" "), random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randrange(1, 80))) for _ in range(count)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three files."""
    files = [paragraphs(seed, 200) for seed in range(3)]
    return write_corpus(tmp_path_factory.mktemp("corpus"), *files)


def contents(directory: Path) -> dict[str, bytes]:
    """The files of a directory."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def run(
    corpus: Path, tokenizer: Path, place: Path, task_bytes: int = 1, shard_tokens: int = 5000, **machine: object
) -> Path:
    """Tokenizes below `place`, one task per file; `place` keeps what an earlier attempt left. Returns the shards."""
    out = place / "tokens"
    out.mkdir(parents=True, exist_ok=True)
    params, how = TokensParams(shard_tokens=shard_tokens, heldout=HELDOUT), MachineParams(**{"workers": 2, **machine})
    tokenize(Corpus(corpus, HELDOUT), tokenizer, params, how, place / "scratch", out, task_bytes)
    return out


@pytest.fixture(scope="module")
def expected(corpus, tokenizer, tmp_path_factory) -> dict[str, bytes]:
    """The files that one worker writes."""
    return contents(run(corpus, tokenizer, tmp_path_factory.mktemp("expected"), workers=1))


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A machine on which jobs are submitted; the folder of its commands."""
    bin = tmp_path / "bin"
    bin.mkdir()
    commands = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL}
    for name, text in commands.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    monkeypatch.setenv("SBATCH_PARTITION", "cpu")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "00:10:00")
    return bin


def test_the_stream_is_the_documents_in_the_order_of_files_and_rows(corpus, tokenizer, tmp_path):
    out, vocabulary = run(corpus, tokenizer, tmp_path, workers=1), Tokenizer.load(tokenizer)
    assert verify(out).startswith("ok: train: ")
    for split, held in read_manifest(out).splits.items():
        texts = list(Corpus(corpus, HELDOUT).texts(split))
        ids = [id for text in texts for id in [vocabulary.eot, *vocabulary.encode(text)]]
        assert TokenStream(out, split, vocabulary).read(0, held.tokens).tolist() == ids
        assert all(shard.tokens <= 5000 for shard in held.shards)


@pytest.mark.parametrize("workers", [2, 4])
def test_the_bytes_do_not_depend_on_the_number_of_workers(corpus, tokenizer, expected, tmp_path, workers):
    assert contents(run(corpus, tokenizer, tmp_path, workers=workers)) == expected
    assert len(expected) > 8


@pytest.mark.parametrize("executor", ["local", "slurm", "ray"])
def test_a_wrong_file_and_then_the_right_one(corpus, tokenizer, expected, tmp_path, slurm, capfd, executor):
    """One line says what is wrong, wherever the task ran; then the bytes are those of one worker."""
    if executor == "ray":
        pytest.importorskip("ray")
    copy = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    pq.write_table(pa.table({"text": ["a"] * 200 + [None]}), copy / "part_00002.parquet")
    with pytest.raises(InputError, match=r"part_00002\.parquet, row 201: column text is null"):
        run(copy, tokenizer, tmp_path, executor=executor)
    shutil.copy(corpus / "part_00002.parquet", copy)
    assert contents(run(copy, tokenizer, tmp_path, executor=executor)) == expected
    output, errors = capfd.readouterr()
    assert output == ""
    assert all(line.startswith("tokenize: ") for line in errors.replace("\r", "\n").split("\n") if line), errors


SCRIPT = """
import sys
from pathlib import Path
from tests.tokens.test_tokenize import run
run(*map(Path, sys.argv[1:]))
"""


def completed(place: Path) -> list[Path]:
    """The folders of the tasks that are completed."""
    return [path.parent for path in (place / "scratch/tasks").glob("*/manifest.json")]


def start(folder: Folder, corpus: Path, tokenizer: Path, place: Path) -> tuple[subprocess.Popen, list[int]]:
    """Tokenizes with two workers until one has completed a task. Returns the process and the ids of the workers."""
    process = folder.start(sys.executable, "-c", SCRIPT, corpus, tokenizer, place, stderr=subprocess.PIPE)
    tasks = place / "scratch/tasks"
    folder.wait_for(lambda: completed(place) and len(list(tasks.iterdir())) >= len(completed(place)) + 2, process)
    return process, [id for id, name in folder.processes().items() if name == "worker"]


@pytest.fixture(scope="module")
def slow_corpus(tmp_path_factory) -> Path:
    """One file that is soon done, and three that are not."""
    files = [paragraphs(0, 10), *(paragraphs(seed, 10_000) for seed in (1, 2, 3))]
    return write_corpus(tmp_path_factory.mktemp("slow"), *files)


def test_a_killed_run_leaves_no_process_and_resumes(slow_corpus, tokenizer, tmp_path):
    folder = Folder(ROOT)
    process, workers = start(folder, slow_corpus, tokenizer, tmp_path / "killed")
    process.kill()
    process.wait()
    folder.wait_for(lambda: not folder.processes())
    done = completed(tmp_path / "killed")
    assert len(workers) == 2 and 1 <= len(done) < 4
    before = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in done}
    resumed = contents(run(slow_corpus, tokenizer, tmp_path / "killed"))
    assert {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in before} == before
    assert resumed == contents(run(slow_corpus, tokenizer, tmp_path / "whole"))


def test_a_killed_worker_ends_the_run(slow_corpus, tokenizer, tmp_path):
    """The kernel kills one when memory runs out."""
    process, workers = start(Folder(ROOT), slow_corpus, tokenizer, tmp_path)
    os.kill(workers[0], 9)
    _, errors = process.communicate(timeout=30)
    assert "InputError: machine.workers: one of 2 workers was killed" in errors.splitlines()[-1]
    assert not any(Path(f"/proc/{id}").exists() for id in workers)
    assert completed(tmp_path)


def test_an_interruption_while_shards_are_joined(corpus, tokenizer, expected, tmp_path):
    out = run(corpus, tokenizer, tmp_path, workers=1)
    (out / "manifest.json").unlink()
    (out / "train_000001.npy").unlink()
    assert contents(run(corpus, tokenizer, tmp_path, workers=1)) == expected


def test_every_kind_of_document_is_handled_and_counted(tokenizer, tmp_path):
    long = " ".join(paragraphs(5, 13_000))
    files = [
        ["one", "", "two", "one", EOT, f"a{EOT}", ""],
        strings([b"caf\xe9", "caf\ufffd".encode(), b"two", b"", b"\xff"]),
        [long, "a" * 3 * PIECE, long, *map(str, range(1000))],  # many, so that documents are held out whole
    ]
    assert len(long) > 4 * PIECE
    directory, vocabulary = write_corpus(tmp_path / "corpus", *files), Tokenizer.load(tokenizer)
    out = run(directory, tokenizer, tmp_path, shard_tokens=1_000_000, workers=1)
    manifest = read_manifest(out)
    texts = [text for text in [*files[0], "caf\ufffd", "caf\ufffd", "two", "\ufffd", *files[2]] if text]
    assert (manifest.empty, manifest.invalid_utf8, manifest.val_in_train) == (3, 2, 0)
    splits = manifest.splits.values()
    assert sum(split.documents for split in splits) == len(texts)
    assert sum(split.duplicates for split in splits) == len(texts) - len(set(texts)) == 4
    assert sum(split.bytes for split in splits) == sum(len(text.encode()) for text in texts)
    assert verify(out).startswith("ok")
    found = []
    for name, split in manifest.splits.items():
        stream = TokenStream(out, name, vocabulary).read(0, split.tokens)
        found += [part[1:].tolist() for part in np.split(stream, np.flatnonzero(stream == vocabulary.eot))[1:]]
    assert sorted(found) == sorted(vocabulary._encoding.encode_ordinary(text) for text in texts)


def test_a_corpus_with_splits_of_its_own(tokenizer, tmp_path):
    (tmp_path / "corpus").mkdir()
    rows = {"text": ["a", "b", "b", "c"], "split": ["train", "train", "val", "val"]}
    for name in ("a", "b"):
        pq.write_table(pa.table(rows), tmp_path / "corpus" / f"{name}.parquet")
    manifest = read_manifest(run(tmp_path / "corpus", tokenizer, tmp_path, workers=1))
    assert {name: split.duplicates for name, split in manifest.splits.items()} == {"train": 2, "val": 2}
    assert manifest.val_in_train == 2


def test_small_files_share_shards(corpus, tokenizer, tmp_path):
    size, streams = sum(path.stat().st_size for path in corpus.iterdir()), []
    for task_bytes, tasks in ((1, 3), (size // 2, 2), (size, 1)):
        out = run(corpus, tokenizer, tmp_path / str(tasks), task_bytes, shard_tokens=1_000_000, workers=1)
        assert [len(split.shards) for split in read_manifest(out).splits.values()] == [tasks, tasks]
        stream = TokenStream(out, "train", Tokenizer.load(tokenizer))
        streams.append(stream.read(0, len(stream)).tolist())
    assert streams[0] == streams[1] == streams[2]


def test_slurm_needs_its_commands_and_two_variables(corpus, tokenizer, tmp_path, slurm, monkeypatch):
    monkeypatch.delenv("SBATCH_TIMELIMIT")
    with pytest.raises(InputError, match=r"machine\.executor = 'slurm': set SBATCH_TIMELIMIT, e\.g\. "):
        run(corpus, tokenizer, tmp_path, executor="slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"machine\.executor = 'slurm': no command sbatch here"):
        run(corpus, tokenizer, tmp_path, executor="slurm")


def test_a_job_that_slurm_refuses_or_ends(corpus, tokenizer, tmp_path, slurm):
    (slurm / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(InputError, match=r"part_00000\.parquet: its task did not finish; .*scratch/datatrove"):
        run(corpus, tokenizer, tmp_path, executor="slurm")
    canceled = (slurm / "canceled").read_text().splitlines()
    assert canceled == ["--name=tokenize-scratch"] * 2  # before and after


def test_an_error_that_is_not_the_users_keeps_its_traceback(corpus, tokenizer, tmp_path, slurm):
    (slurm / "srun").write_text(SRUN.replace("exec", "ulimit -f 20\nexec"))  # at most 10 KB per file
    with pytest.raises(RuntimeError, match=r"Traceback (.|\n)*train_000000\.npy"):
        run(corpus, tokenizer, tmp_path, executor="slurm", shard_tokens=100_000)


@pytest.mark.parametrize(("executor", "missing"), [("slurm", ["datatrove"]), ("ray", ["datatrove", "ray"])])
def test_an_executor_that_is_not_installed(corpus, tokenizer, tmp_path, monkeypatch, executor, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    line = rf"machine\.executor = '{executor}': not installed: pip install {' '.join(missing)}$"
    with pytest.raises(InputError, match=line):
        run(corpus, tokenizer, tmp_path, executor=executor)
