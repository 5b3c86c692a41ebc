"""Tokens a second and peak memory of tokenization with GPT-2's vocabulary, beside two ways in which it is often done.

    python -m benchmarks.tokenize                   # 400 MB, all three
    python -m benchmarks.tokenize --memory          # ours alone, at 50 MB and 500 MB

Each of them reads the same parquet files and writes uint16 ids to disk, each in processes of its own, one after the
other, and is timed from its first read to its last write, the start of its workers included:

- ours: what the stage tokenize runs, one worker a processor, with checksums, statistics and the search for duplicates;
- pool: `multiprocessing.Pool`, one process a processor, `imap(chunksize=16)` of tiktoken's own gpt2 over the texts, the
  ids copied to an array on disk, as scripts in the manner of nanoGPT do;
- transformers: its fast tokenizer on batches of 1,000 texts, which it spreads over all processors itself.

All must find the same ids, as often. The text is made of random stretches of the English in data/raw/corpus, of some
3,600 characters each on average, so that no two documents are alike; --corpus takes parquet files of one's own, with a
column text. Memory is the most that the resident sets of all processes add up to, looked at ten times a second.
tiktoken fetches the vocabulary, or reads it from TIKTOKEN_CACHE_DIR.
"""

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken

from gpt2.common.files import read_json, write_json
from gpt2.config.data import SlurmParams, TokensParams
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.tokenize import tokenize

FILES = 8
RESULT = "result.json"
PROCESSES = len(os.sched_getaffinity(0))
PARAMS = TokensParams(
    shard_tokens=10_000_000,
    heldout=0.01,
    executor="local",
    workers=None,
    slurm=SlurmParams(partition="none", time="0"),
)


# --- the text ------------------------------------------------------------------------------------------------------


def make_corpus(source: Path, megabytes: int, directory: Path) -> None:
    """Writes parquet files of random stretches of the texts in `source`."""
    texts = [text for path in sorted(source.glob("*.parquet")) for text in pq.read_table(path)["text"].to_pylist()]
    text, rng = "\n\n".join(texts), random.Random(0)
    directory.mkdir()
    for number in range(FILES):
        documents, size = [], 0
        while size < megabytes * 1_000_000 / FILES:
            length = min(int(rng.lognormvariate(7.7, 1.0)), len(text) // 2)
            start = rng.randrange(len(text) - length)
            documents.append(text[start : start + length + 1])
            size += len(documents[-1].encode())
        table = pa.table({"text": documents})
        pq.write_table(table, directory / f"part_{number:05d}.parquet", row_group_size=10_000)


def texts(corpus: Path) -> Iterator[str]:
    """All texts of a corpus."""
    for path in sorted(corpus.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(1000, columns=["text"]):
            yield from batch.column("text").to_pylist()


# --- the work: corpus, files of the tokenizer, where to write -> files of ids ---------------------------------------


def ours(corpus: Path, tokenizer: Path, out: Path) -> list[Path]:
    """The stage tokenize."""
    (out / "tokens").mkdir()
    tokenize(Corpus(corpus, PARAMS.heldout), tokenizer, PARAMS, out / "scratch", out / "tokens")
    return sorted((out / "tokens").glob("*.npy"))


def pool(corpus: Path, tokenizer: Path, out: Path) -> list[Path]:
    """multiprocessing.Pool and tiktoken."""
    with multiprocessing.Pool(PROCESSES) as workers:
        return _write(workers.imap(_encode, texts(corpus), chunksize=16), out)


def _encode(text: str) -> np.ndarray:
    encoding = tiktoken.get_encoding("gpt2")
    return np.array([encoding.eot_token, *encoding.encode_ordinary(text)], dtype=np.uint16)


def transformers(corpus: Path, tokenizer: Path, out: Path) -> list[Path]:
    """transformers' fast tokenizer."""
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(tokenizer)

    def batches() -> Iterator[np.ndarray]:
        for path in sorted(corpus.glob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(1000, columns=["text"]):
                encoded = fast(batch.column("text").to_pylist(), return_attention_mask=False)["input_ids"]
                yield np.array([id for ids in encoded for id in [fast.eos_token_id, *ids]], dtype=np.uint16)

    return _write(batches(), out)


def _write(arrays: Iterable[np.ndarray], out: Path) -> list[Path]:
    """One file of ids, without a header."""
    with open(out / "ids.bin", "wb") as file:
        for ids in arrays:
            file.write(ids.data)
    return [out / "ids.bin"]


WORK: dict[str, Callable[[Path, Path, Path], list[Path]]] = {f.__name__: f for f in (ours, pool, transformers)}


def work(name: str, corpus: Path, tokenizer: Path, out: Path) -> None:
    """Does the work once, in this process and those that it starts, and leaves a file that says what came of it."""
    start = time.perf_counter()
    files = WORK[name](corpus, tokenizer, out)
    seconds = time.perf_counter() - start
    counts = np.zeros(65536, dtype=np.int64)
    for path in files:
        ids = np.load(path) if path.suffix == ".npy" else np.fromfile(path, dtype=np.uint16)
        counts += np.bincount(ids, minlength=len(counts))
    write_json(out / RESULT, {"seconds": seconds, "counts": counts.tolist()})


# --- the comparison ------------------------------------------------------------------------------------------------


def measure(name: str, corpus: Path, tokenizer: Path) -> tuple[float, np.ndarray, float]:
    """Seconds, how often each id came out, and the peak of memory in MB."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.tokenize", "--work", name, corpus, tokenizer, out]
        process = subprocess.Popen(list(map(str, command)))
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(psutil.Process(process.pid)))
            time.sleep(0.1)
        if process.returncode:
            sys.exit(f"{name}: exit status {process.returncode}")
        result = read_json(Path(out, RESULT))
    return result["seconds"], np.array(result["counts"]), peak / 1e6


def _resident(process: psutil.Process) -> int:
    """Bytes that a process and all that it started have in memory."""
    total = 0
    try:
        for each in [process, *process.children(recursive=True)]:
            total += each.memory_info().rss
    except psutil.NoSuchProcess:  # one ended meanwhile: look again in a moment
        pass
    return total


def compare(corpus: Path, tokenizer: Path, names: Iterable[str]) -> None:
    """Prints a line for each, and how many times as fast the first is as it."""
    first = None
    print(f"{'':14}{'Mtok':>10}{'seconds':>10}{'Mtok/s':>10}{'ours is':>10}{'peak MB':>10}")
    for name in names:
        seconds, counts, peak = measure(name, corpus, tokenizer)
        first = first or (seconds, counts)
        if not np.array_equal(first[1], counts):
            sys.exit(f"{name}: other ids than ours")
        tokens = counts.sum() / 1e6
        ratio = f"{seconds / first[0]:.2f}x"
        print(f"{name:14}{tokens:10.1f}{seconds:10.2f}{tokens / seconds:10.2f}{ratio:>10}{peak:10.0f}", flush=True)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenize", description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=400, help="of text (default: 400)")
    parser.add_argument("--corpus", type=Path, default=Path("data/raw/corpus"), help="parquet files to make it of")
    parser.add_argument("--memory", action="store_true", help="ours alone, at 50 MB and 500 MB")
    parser.add_argument("--work", nargs=4, metavar=("NAME", "CORPUS", "TOKENIZER", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, *paths = arguments.work
        return work(name, *map(Path, paths))
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = Path(directory, "tokenizer")
        Tokenizer.gpt2().save(tokenizer)
        for megabytes in (50, 500) if arguments.memory else (arguments.megabytes,):
            corpus = Path(directory, f"corpus_{megabytes}")
            make_corpus(arguments.corpus, megabytes, corpus)
            print(f"{megabytes} MB of text, processors: {PROCESSES}")
            compare(corpus, tokenizer, ["ours"] if arguments.memory else WORK)


if __name__ == "__main__":
    main()
