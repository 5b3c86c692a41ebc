"""One set of bytes, whoever runs the tasks and however often they are interrupted; every document is accounted for."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2.commands.shards import verify
from gpt2.common.errors import InputError
from gpt2.config.data import TokensParams
from gpt2.tokenizer.bpe import train_bpe
from gpt2.tokenizer.tokenizer import EOT, PIECE, Tokenizer
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.shards import TokenStream, read_manifest
from gpt2.tokens.tokenize import tokenize
from tests.conftest import ROOT
from tests.tokenizer.test_bpe import ENGLISH
from tests.tokens.test_corpus import strings

HELDOUT = 0.2

# `sbatch` and `srun` as they are in the eyes of datatrove: the tasks of an array run one after the other, here.
SBATCH = """#!{python}
import os, re, subprocess, sys
if "--test-only" in sys.argv:
    sys.exit("--partition=cpu" not in sys.argv and "allocation failure: Invalid partition name specified")
script = open(sys.argv[-1]).read()
asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, re.M))
assert "wait" in asked and asked["partition"] == "cpu" and asked["time"] == "00:10:00", asked
status = 0
for task in range(int(re.match(r"0-(\\d+)", asked["array"])[1]) + 1):
    output = open(asked["output"].replace("%A", "7").replace("%a", str(task)), "w")
    own = dict(SLURM_ARRAY_TASK_ID=str(task), SLURM_JOB_ID="7", SLURM_NODELIST="here", RUN_OFFSET="0")
    status |= subprocess.call(["bash", sys.argv[-1]], env=os.environ | own, stdout=output, stderr=output)
print("Submitted batch job 7")
sys.exit(status)
"""
SRUN = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done\nexec "$@"\n'
SCONTROL = "#!/bin/sh\necho $3\n"  # show hostnames <list>
SCANCEL = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/cancelled"\n'


def params(**changes) -> TokensParams:
    """Settings of the stage."""
    slurm = {"partition": "cpu", "time": "00:10:00"}
    defaults = {"shard_tokens": 5000, "heldout": HELDOUT, "executor": "local", "workers": 2, "slurm": slurm}
    return TokensParams.model_validate({**defaults, **changes})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A small vocabulary's files."""
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
    """All that lies in a directory."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def run(corpus: Path, tokenizer: Path, place: Path, task_bytes: int = 1, **changes) -> Path:
    """Tokenizes below `place`, each file a task; `place` keeps what an earlier attempt left. Where the shards are."""
    out = place / "tokens"
    out.mkdir(parents=True, exist_ok=True)
    tokenize(Corpus(corpus, HELDOUT), tokenizer, params(**changes), place / "scratch", out, task_bytes)
    return out


@pytest.fixture(scope="module")
def expected(corpus, tokenizer, tmp_path_factory) -> dict[str, bytes]:
    """What one worker writes."""
    return contents(run(corpus, tokenizer, tmp_path_factory.mktemp("expected"), workers=1))


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> None:
    """A machine on which jobs are submitted."""
    bin = tmp_path / "bin"
    bin.mkdir()
    commands = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL}
    for name, text in commands.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")


def test_the_stream_is_the_documents_in_the_order_of_files_and_rows(corpus, tokenizer, tmp_path):
    out, vocabulary = run(corpus, tokenizer, tmp_path), Tokenizer.load(tokenizer)
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
def test_a_file_that_is_wrong_and_then_put_right(corpus, tokenizer, expected, tmp_path, slurm, capfd, executor):
    """One line says what is wrong, whoever ran the task; then the bytes are those of one worker."""
    own = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    pq.write_table(pa.table({"text": ["a", None]}), own / "part_00002.parquet")
    with pytest.raises(InputError, match=r"part_00002\.parquet, row 1: column text is null"):
        run(own, tokenizer, tmp_path, executor=executor)
    shutil.copy(corpus / "part_00002.parquet", own)
    assert contents(run(own, tokenizer, tmp_path, executor=executor)) == expected
    output, errors = capfd.readouterr()
    assert output == ""
    assert all(line.startswith("tokenize: ") for line in errors.replace("\r", "\n").split("\n") if line), errors


SCRIPT = """
import sys
from pathlib import Path
from tests.tokens.test_tokenize import run
run(*map(Path, sys.argv[1:]))
"""


def processes(mark: str) -> dict[int, str]:
    """The command lines of those that inherited an environment with the mark."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(tokenizer, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", paragraphs(0, 10), *(paragraphs(seed, 10_000) for seed in (1, 2, 3)))
    mark, scratch = uuid.uuid4().hex, tmp_path / "killed" / "scratch"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, corpus, tokenizer, tmp_path / "killed"],
        cwd=ROOT,
        env=os.environ | {"MARK": mark},
        stderr=subprocess.DEVNULL,
    )

    def completed() -> list[Path]:
        return [scratch / "tasks" / path.name for path in (scratch / "datatrove" / "completions").glob("*")]

    while not completed() or len(list((scratch / "tasks").iterdir())) < len(completed()) + 2:  # both workers at work
        assert process.poll() is None
        time.sleep(0.01)
    workers = [id for id, command in processes(mark).items() if "spawn_main" in command]
    for id in workers:
        os.kill(id, signal.SIGSTOP)  # so that none can end on its own
    process.kill()
    process.wait()
    ends = time.monotonic() + 10
    while left := processes(mark):
        assert time.monotonic() < ends, left
        time.sleep(0.05)
    assert len(workers) == 2 and 1 <= len(completed()) < 4
    before = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in completed()}
    continued = contents(run(corpus, tokenizer, tmp_path / "killed"))
    assert {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in before} == before
    assert continued == contents(run(corpus, tokenizer, tmp_path / "whole"))


def test_an_interruption_while_shards_are_joined(corpus, tokenizer, expected, tmp_path):
    out = run(corpus, tokenizer, tmp_path)
    (out / "manifest.json").unlink()
    (out / "train_000001.npy").unlink()
    assert contents(run(corpus, tokenizer, tmp_path)) == expected


def test_every_kind_of_document_is_handled_and_counted(tokenizer, tmp_path):
    long = " ".join(paragraphs(5, 13_000))
    files = [
        ["one", "", "two", "one", EOT, f"a{EOT}", ""],
        strings([b"caf\xe9", "caf\ufffd".encode(), b"two", b"", b"\xff"]),
        [long, "a" * 3 * PIECE, long, *map(str, range(20))],
    ]
    assert len(long) > 4 * PIECE
    directory, vocabulary = write_corpus(tmp_path / "corpus", *files), Tokenizer.load(tokenizer)
    out = run(directory, tokenizer, tmp_path, shard_tokens=1_000_000)
    manifest = read_manifest(out)
    texts = [data.decode(errors="replace") for data in [*map(str.encode, files[0]), b"caf\xe9", "caf\ufffd".encode()]]
    texts = [text for text in [*texts, "two", "\ufffd", *files[2]] if text]
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


def test_texts_of_val_that_are_in_train_are_counted_where_the_corpus_has_splits(tokenizer, tmp_path):
    (tmp_path / "corpus").mkdir()
    rows = {"text": ["a", "b", "b", "c"], "split": ["train", "train", "val", "val"]}
    for name in ("a", "b"):
        pq.write_table(pa.table(rows), tmp_path / "corpus" / f"{name}.parquet")
    manifest = read_manifest(run(tmp_path / "corpus", tokenizer, tmp_path))
    assert {name: split.duplicates for name, split in manifest.splits.items()} == {"train": 2, "val": 2}
    assert manifest.val_in_train == 2


def test_a_split_that_is_empty(tokenizer, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", ["one text"])
    with pytest.raises(InputError, match=r"tokens\.heldout = 0\.2: none of the texts in .* is drawn for (train|val)"):
        run(corpus, tokenizer, tmp_path)


def test_no_sbatch(corpus, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"tokens\.executor = 'slurm': no command sbatch here"):
        run(corpus, tokenizer, tmp_path, executor="slurm")


def test_a_job_that_is_not_accepted(corpus, tokenizer, tmp_path, slurm):
    with pytest.raises(InputError, match=r"tokens\.slurm: sbatch does not accept --partition=nope .*: allocation fail"):
        run(corpus, tokenizer, tmp_path, executor="slurm", slurm={"partition": "nope", "time": "1"})
    (tmp_path / "bin" / "sbatch").write_text('#!/bin/sh\n[ "$1" = --test-only ]\n')
    with pytest.raises(
        InputError, match=r"tokens\.executor = 'slurm': .*part_00000\.parquet was not tokenized to its end"
    ):
        run(corpus, tokenizer, tmp_path, executor="slurm")
    with pytest.raises(InputError, match=r"tokens\.executor = 'slurm': white space in the path .*/a b/"):
        run(corpus, tokenizer, tmp_path / "a b", executor="slurm")


def test_a_job_array_ends_with_the_process_that_submitted_it(corpus, tokenizer, expected, tmp_path, slurm, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")  # as in a job that submits jobs
    handler = signal.getsignal(signal.SIGTERM)
    own = '#!/bin/sh\n[ "$1" = --test-only ] || { kill -TERM $PPID; sleep 5; }\n'
    text = (tmp_path / "bin" / "sbatch").read_text()
    (tmp_path / "bin" / "sbatch").write_text(own)
    with pytest.raises(SystemExit):
        run(corpus, tokenizer, tmp_path, executor="slurm")
    cancelled = (tmp_path / "bin" / "cancelled").read_text().splitlines()
    assert len(cancelled) == 2 and len(set(cancelled)) == 1 and cancelled[0].startswith("--name=tokenize-")
    assert signal.getsignal(signal.SIGTERM) == handler
    (tmp_path / "bin" / "sbatch").write_text(text)
    assert contents(run(corpus, tokenizer, tmp_path, executor="slurm")) == expected


def test_a_worker_that_is_killed_ends_the_run(tokenizer, tmp_path):
    """As the kernel does where memory is short."""
    corpus = write_corpus(tmp_path / "corpus", paragraphs(0, 10), *(paragraphs(seed, 10_000) for seed in (1, 2)))
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, corpus, tokenizer, tmp_path],
        cwd=ROOT,
        env=os.environ | {"MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "scratch" / "datatrove" / "completions" / "00000").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(next(id for id, command in processes(mark).items() if "spawn_main" in command), signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert "InputError: tokens.workers: one of 2 workers was ended" in errors.splitlines()[-1]
    assert not processes(mark)
    again = contents(run(corpus, tokenizer, tmp_path))
    assert again == contents(run(corpus, tokenizer, tmp_path / "whole", workers=1))


def test_small_files_share_shards(corpus, tokenizer, tmp_path):
    size, streams = sum(path.stat().st_size for path in corpus.iterdir()), []
    for task_bytes, tasks in ((1, 3), (size // 2, 2), (size, 1)):
        out = run(corpus, tokenizer, tmp_path / str(tasks), task_bytes, shard_tokens=1_000_000)
        assert [len(split.shards) for split in read_manifest(out).splits.values()] == [tasks, tasks]
        stream = TokenStream(out, "train", Tokenizer.load(tokenizer))
        streams.append(stream.read(0, len(stream)).tolist())
    assert streams[0] == streams[1] == streams[2]


@pytest.mark.parametrize("damaged", ["train_000001.npy", "val_digests.npy", "manifest.json"])
def test_a_task_whose_files_were_cut_short_is_run_again(corpus, tokenizer, expected, tmp_path, damaged):
    run(corpus, tokenizer, tmp_path)
    path = tmp_path / "scratch" / "tasks" / "00001" / damaged
    os.truncate(path, path.stat().st_size // 2)
    assert contents(run(corpus, tokenizer, tmp_path)) == expected


def test_an_error_that_could_not_be_written_whole(corpus, tokenizer, tmp_path, slurm):
    (tmp_path / "bin" / "sbatch").write_text(
        f'#!/bin/sh\n[ "$1" = --test-only ] || {{ mkdir -p {tmp_path}/scratch/tasks/00000; '
        f": > {tmp_path}/scratch/tasks/00000/error; exit 1; }}\n"
    )
    with pytest.raises(InputError, match=r"part_00000\.parquet was not tokenized to its end"):
        run(corpus, tokenizer, tmp_path, executor="slurm")


def test_more_memory_than_a_cluster_has(corpus, tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"tokens\.shard_tokens = \d+: a task needs \d+\.\d GB, the cluster's"):
        run(corpus, tokenizer, tmp_path, executor="ray", shard_tokens=10**12)


def test_a_cluster_that_does_not_answer(corpus, tokenizer, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for url in (address, f"ray://{address}"):
        monkeypatch.setenv("RAY_ADDRESS", url)
        with pytest.raises(InputError, match=rf"tokens\.executor = 'ray': no cluster answers at RAY_ADDRESS = '{url}'"):
            run(corpus, tokenizer, tmp_path, executor="ray")
