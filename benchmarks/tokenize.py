"""Tokens per second and peak memory of tokenization with GPT-2's vocabulary, compared with two common ways to do it.

    python -m benchmarks.tokenize                   # 400 MB, all three
    python -m benchmarks.tokenize --memory          # ours alone, at 50 MB and 500 MB

All read the same parquet files and write uint16 ids to disk. Each runs alone, in its own processes. It is timed from
its first read to its last write, including the start of its workers:

- ours: the stage tokenize, one worker per processor, with checksums, statistics and the count of duplicates;
- pool: `multiprocessing.Pool`, one process per processor, `imap(chunksize=16)` of tiktoken's gpt2 over the texts, as in
  scripts in the manner of nanoGPT;
- transformers: its fast tokenizer on batches of 1,000 texts, which it distributes over all processors itself.

All must produce the same ids equally often. The text consists of random stretches of the English in data/raw/corpus, of
about 3,600 characters each on average, so that no two documents are alike; --corpus takes other parquet files with a
column text. Memory is the peak of the total resident set size of all processes, sampled ten times per second.
tiktoken downloads the vocabulary, or reads it from TIKTOKEN_CACHE_DIR.
"""

import argparse
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken

from gpt2.common.files import read_json, write_json
from gpt2.common.machine import cpu_count
from gpt2.config.data import TokensParams
from gpt2.config.params import MachineParams
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Corpus
from gpt2.tokens.tokenize import tokenize

FILES = 8
RESULT = "result.json"
PROCESSES = cpu_count()
PARAMS = TokensParams(shard_tokens=10_000_000)


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
    tokenize(Corpus(corpus, PARAMS.heldout), tokenizer, PARAMS, MachineParams(), out / "scratch", out / "tokens")
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
    """Does the work once, and writes the seconds and the counts of ids to a file."""
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
    """Seconds, counts of each id: (65536,), and peak memory in MB."""
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
    """Total resident set size, in bytes, of a process and its descendants."""
    total = 0
    with suppress(psutil.NoSuchProcess):  # one has ended
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_info().rss
    return total


def compare(corpus: Path, tokenizer: Path, names: Iterable[str]) -> None:
    """Prints one line per name, with the speed of the first relative to it."""
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
    parser.add_argument("--corpus", type=Path, default=Path("data/raw/corpus"), help="folder of parquet files")
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
