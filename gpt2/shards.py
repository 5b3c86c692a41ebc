"""Token shards: a split's documents as one stream of uint16 ids, cut into npy files of equal length.

Each document follows an <|endoftext|>, the first one too: a model that starts from <|endoftext|> alone, as generation
without a prompt does, is then in a place that it has been trained on for every document.

As a command, `python -m gpt2.shards verify DIR` compares a directory with its manifest, checksums included.
"""

import argparse
import os
import sys
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field

from gpt2.config import PositiveInt, Section, parse
from gpt2.errors import InputError
from gpt2.files import read_json, replacing, sha256, write_json
from gpt2.progress import bar
from gpt2.tokenizer import Tokenizer

DTYPE = np.dtype("<u2")
MANIFEST = "manifest.json"
Item, Result = TypeVar("Item"), TypeVar("Result")


class Shard(Section):
    """One file."""

    file: Annotated[str, Field(pattern=r"^[a-z]+_\d{6,}\.npy$")]
    tokens: PositiveInt
    sha256: str


class Split(Section):
    """The files of a split in the order of the stream, and what they hold together."""

    documents: PositiveInt
    tokens: PositiveInt
    shards: Annotated[tuple[Shard, ...], Field(min_length=1, strict=False)]


class Manifest(Section):
    """What a directory of shards holds."""

    vocab_size: PositiveInt
    tokenizer: str  # fingerprint
    splits: dict[str, Split]


# --- writing -------------------------------------------------------------------------------------------------------


class ShardWriter:
    """Cuts the stream of one split into files of `shard_tokens` tokens; the last one may be shorter."""

    def __init__(self, directory: Path, split: str, shard_tokens: int):
        self.directory, self.split = directory, split
        self.shards: list[Shard] = []
        self._buffer, self._filled = np.empty(shard_tokens, dtype=DTYPE), 0

    def add(self, tokens: np.ndarray) -> None:
        """Appends ids to the stream."""
        while len(tokens):
            part, tokens = np.split(tokens, [len(self._buffer) - self._filled])
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._buffer):
                self.flush()

    def flush(self) -> None:
        """Ends the current file; the end of the stream needs it once."""
        if not self._filled:
            return
        path = self.directory / f"{self.split}_{len(self.shards):06d}.npy"
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, self._buffer[: self._filled])
        self.shards.append(Shard(file=path.name, tokens=self._filled, sha256=sha256(path)))
        self._filled = 0


def write_shards(
    directory: Path, batches: Iterable[tuple[str, list[str]]], tokenizer: Tokenizer, shard_tokens: int
) -> None:
    """Encodes batches of texts, each with its split, on all processors; writes the shards and their manifest.

    The bytes written depend neither on the number of processors nor on how the texts are batched.
    """

    def encode(batch: tuple[str, list[str]]) -> tuple[str, np.ndarray]:
        return batch[0], tokenizer.encode_documents(batch[1])

    writers: dict[str, ShardWriter] = {}
    documents: Counter[str] = Counter()
    for split, tokens in _in_threads(encode, batches):
        if split not in writers:
            writers[split] = ShardWriter(directory, split, shard_tokens)
        writers[split].add(tokens)
        documents[split] += int(np.count_nonzero(tokens == tokenizer.eot))
    splits = {}
    for split, writer in sorted(writers.items()):
        writer.flush()
        length = sum(shard.tokens for shard in writer.shards)
        splits[split] = Split(documents=documents[split], tokens=length, shards=tuple(writer.shards))
    manifest = Manifest(vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint, splits=splits)
    write_json(directory / MANIFEST, manifest.model_dump())


def _in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` on all processors, in order, that reads only a few items ahead."""
    threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[Result]] = deque()
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


# --- reading -------------------------------------------------------------------------------------------------------


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory. Raises InputError if it is missing or malformed, or its sums are wrong."""
    path = directory / MANIFEST
    manifest = parse(Manifest, read_json(path), str(path))
    for name, split in manifest.splits.items():
        held = sum(shard.tokens for shard in split.shards)
        if split.tokens != held:
            raise InputError(f"{path}: splits.{name}.tokens = {split.tokens}, but its shards add up to {held}")
    return manifest


def open_shard(directory: Path, shard: Shard) -> np.ndarray:
    """Maps a file into memory, read-only. Raises InputError if it is not what the manifest says."""
    path = directory / shard.file
    try:
        tokens = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, but the manifest lists it") from None
    except Exception as error:  # a damaged header fails in numpy's parser in more ways than it documents
        raise InputError(f"{path}: not a whole npy file: {error}") from None
    if tokens.dtype != DTYPE or tokens.ndim != 1:
        raise InputError(f"{path}: holds {tokens.dtype} of shape {tokens.shape}, expected a row of {DTYPE}")
    if len(tokens) != shard.tokens:
        raise InputError(f"{path}: holds {len(tokens)} tokens, the manifest says {shard.tokens}")
    size, expected = path.stat().st_size, tokens.offset + tokens.nbytes
    if size != expected:
        raise InputError(f"{path}: {size} bytes long, but its tokens end at {expected}")
    return tokens.view(np.ndarray)  # slices of a plain array are made faster than those of a memmap


class TokenStream:
    """The shards of one split as one sequence of ids."""

    def __init__(self, directory: Path, split: str, tokenizer: Tokenizer):
        """Raises InputError if the shards were made by another tokenizer, or are not what their manifest says."""
        manifest = read_manifest(directory)
        if manifest.tokenizer != tokenizer.fingerprint:
            raise InputError(f"{directory / MANIFEST}: another tokenizer made these shards; tokenize again")
        if split not in manifest.splits:
            raise InputError(f"{directory / MANIFEST}: no split {split!r}; it has {', '.join(manifest.splits)}")
        self.split = split
        self._shards = [open_shard(directory, shard) for shard in manifest.splits[split].shards]
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]

    def __len__(self) -> int:
        """How many tokens there are."""
        return self._starts[-1]

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start to start + count: (count,) uint16, read-only unless they cross from one file to the next."""
        assert 0 <= start <= start + count <= len(self)
        first = bisect_right(self._starts, start, hi=len(self._shards)) - 1
        parts = []
        for shard, begin in zip(self._shards[first:], self._starts[first:], strict=False):
            parts.append(shard[max(0, start - begin) : start + count - begin])
            if start + count <= begin + len(shard):
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


# --- command -------------------------------------------------------------------------------------------------------


def verify(directory: Path) -> str:
    """Reads every byte and compares it with the manifest; returns a line that says what was found to be in order.

    Raises InputError naming the first shard that has another checksum or an id beyond the vocabulary, or the split
    that has another number of documents.
    """
    manifest = read_manifest(directory)
    found = []
    for name, split in manifest.splits.items():
        documents = 0
        for shard in bar(split.shards, desc=name, unit="shard"):
            tokens = open_shard(directory, shard)
            digest, largest = sha256(directory / shard.file), int(tokens.max())
            if digest != shard.sha256:
                raise InputError(f"{directory / shard.file}: sha256 {digest}, the manifest says {shard.sha256}")
            if largest >= manifest.vocab_size:
                raise InputError(f"{directory / shard.file}: id {largest} in a vocabulary of {manifest.vocab_size}")
            documents += int(np.count_nonzero(tokens == manifest.vocab_size - 1))
        if documents != split.documents:
            manifest_file = directory / MANIFEST
            raise InputError(f"{manifest_file}: splits.{name}.documents = {split.documents}, but there are {documents}")
        found.append(f"{name}: {split.documents:,} documents, {split.tokens:,} tokens, shards: {len(split.shards)}")
    return f"ok: {'; '.join(found)}"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m gpt2.shards", description="Checks token shards.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="compare shards with their manifest, checksums included")
    command.add_argument("directory", type=Path, help="for example data/tokens")
    try:
        print(verify(parser.parse_args().directory))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
