"""Writes documents as token shards, with what the manifest says of them."""

import os
from array import array
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from gpt2.common.files import replacing, sha256
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Text
from gpt2.tokens.shards import DTYPE, Manifest, Shard, Split, histogram, open_shard, read_manifest

BATCH_CHARACTERS = 1 << 16  # encoded at a time: enough that encoding outweighs the call, few enough for the cache
Digests = Mapping[str, np.ndarray]  # of the texts of each split: (documents,) uint64


def shard_file(split: str, number: int) -> str:
    """The name of a shard."""
    return f"{split}_{number:06d}.npy"


def digests_file(split: str) -> str:
    """The name under which the digests of a split's texts lie beside its shards, until they are joined with others."""
    return f"{split}_digests.npy"


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an npy file. Raises OSError where the disk is full; np.save would say only that it failed."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


class ShardWriter:
    """Cuts the stream of one split into files of `shard_tokens` tokens; the last one may be shorter."""

    def __init__(self, directory: Path, split: str, shard_tokens: int):
        self.directory, self.split = directory, split
        self.shards: list[Shard] = []
        self._buffer, self._filled = np.empty(shard_tokens, dtype=DTYPE), 0

    def add(self, tokens: np.ndarray) -> None:
        """Appends ids to the stream. Raises OSError where the disk is full."""
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
        path, tokens = self.directory / shard_file(self.split, len(self.shards)), self._buffer[: self._filled]
        write_array(path, tokens)
        self.shards.append(Shard(file=path.name, tokens=self._filled, sha256=sha256(path)))
        self._filled = 0


class SplitWriter:
    """Encodes the documents of one split, several at a time, and counts them."""

    def __init__(self, directory: Path, split: str, tokenizer: Tokenizer, shard_tokens: int):
        self.digests = array("Q")  # of the texts, in the order of the stream
        self._tokenizer, self._shards = tokenizer, ShardWriter(directory, split, shard_tokens)
        self._texts: list[str] = []
        self._waiting = self._tokens = self._bytes = 0
        self._lengths = histogram(np.array([], dtype=np.int64))

    def add(self, document: Text) -> None:
        """Appends a document to the stream."""
        self._texts.append(document.text)
        self._waiting += len(document.text)
        self._bytes += document.size
        self.digests.append(document.digest)
        if self._waiting >= BATCH_CHARACTERS:
            self._encode()

    def finish(self) -> Split:
        """Ends the stream; what it holds, but for duplicates."""
        if self._texts:
            self._encode()
        self._shards.flush()
        lengths = np.trim_zeros(self._lengths, "b").tolist()
        return Split(
            documents=len(self.digests),
            tokens=self._tokens,
            bytes=self._bytes,
            duplicates=0,
            lengths=lengths,
            shards=self._shards.shards,
        )

    def _encode(self) -> None:
        tokens = self._tokenizer.encode_documents(self._texts)
        starts = np.flatnonzero(tokens == self._tokenizer.eot)
        self._lengths += histogram(np.diff(starts, append=len(tokens)) - 1)
        self._tokens += len(tokens)
        self._shards.add(tokens)
        self._texts, self._waiting = [], 0


class TokenWriter:
    """Writes documents into a directory of shards, each into the stream of its split; leaves empty texts out."""

    def __init__(self, directory: Path, tokenizer: Tokenizer, shard_tokens: int):
        self.splits: dict[str, SplitWriter] = {}
        self._directory, self._tokenizer, self._shard_tokens = directory, tokenizer, shard_tokens
        self._empty = self._invalid_utf8 = 0

    def add(self, document: Text) -> None:
        """Appends a document."""
        self._invalid_utf8 += not document.intact
        if not document.text:
            self._empty += 1
            return
        if document.split not in self.splits:
            self.splits[document.split] = SplitWriter(
                self._directory, document.split, self._tokenizer, self._shard_tokens
            )
        self.splits[document.split].add(document)

    def finish(self) -> Manifest:
        """Ends the streams; the manifest of what they hold, in which duplicates are not counted yet."""
        splits = {name: split.finish() for name, split in sorted(self.splits.items())}
        return Manifest(
            vocab_size=self._tokenizer.vocab_size,
            tokenizer=self._tokenizer.fingerprint,
            empty=self._empty,
            invalid_utf8=self._invalid_utf8,
            val_in_train=0,
            splits=splits,
        )

    def digests(self) -> Digests:
        """What tells equal texts: of each split's documents, in the order of its stream."""
        return {name: np.array(split.digests) for name, split in self.splits.items()}


def count_duplicates(manifest: Manifest, digests: Digests) -> Manifest:
    """The manifest with duplicates counted, within the splits and across them.

    Equal digests of 64 bits are taken for equal texts: in ten million texts one pair is mistaken with a probability of
    three in a million.
    """
    distinct = {name: np.unique(digests[name]) for name in manifest.splits}
    both = {"train", "val"} <= distinct.keys()
    splits = {
        name: split.model_copy(update={"duplicates": split.documents - len(distinct[name])})
        for name, split in manifest.splits.items()
    }
    shared = int(np.isin(digests["val"], distinct["train"]).sum()) if both else 0
    return manifest.model_copy(update={"splits": splits, "val_in_train": shared})


def is_whole(folder: Path) -> bool:
    """Whether shards and digests are as long as the manifest says: a loss of power may leave them cut short."""
    try:
        manifest = read_manifest(folder)
        for name, split in manifest.splits.items():
            for shard in split.shards:
                open_shard(folder, shard, manifest.vocab_size)
            if len(np.load(folder / digests_file(name))) != split.documents:
                return False
    except (ValueError, EOFError, OSError):  # InputError is a ValueError
        return False
    return True


def join_shards(folders: Sequence[Path], directory: Path) -> Manifest:
    """Makes one directory of shards from several, in their order, each with the digests of its texts beside.

    The files are linked, not copied, and the folders stay as they are: whoever is interrupted starts again. Returns
    the manifest, which is for the caller to write.
    """
    parts = [(folder, read_manifest(folder)) for folder in folders]
    first = parts[0][1]
    assert all(part.tokenizer == first.tokenizer for _, part in parts)
    splits, digests = {}, {}
    for name in sorted({name for _, part in parts for name in part.splits}):
        own = [(folder, part.splits[name]) for folder, part in parts if name in part.splits]
        splits[name] = _join_split(name, own, directory)
        digests[name] = np.concatenate([np.load(folder / digests_file(name)) for folder, _ in own])
    empty, invalid_utf8 = (sum(getattr(part, key) for _, part in parts) for key in ("empty", "invalid_utf8"))
    joined = first.model_copy(update={"empty": empty, "invalid_utf8": invalid_utf8, "splits": splits})
    return count_duplicates(joined, digests)


def _join_split(name: str, parts: Sequence[tuple[Path, Split]], directory: Path) -> Split:
    """Links the shards of one split under the numbers that they have in the whole."""
    shards: list[Shard] = []
    for folder, part in parts:
        for shard in part.shards:
            path = directory / shard_file(name, len(shards))
            path.unlink(missing_ok=True)
            os.link(folder / shard.file, path)
            shards.append(shard.model_copy(update={"file": path.name}))
    sums = {key: sum(getattr(part, key) for _, part in parts) for key in ("documents", "tokens", "bytes", "duplicates")}
    lengths = map(sum, zip_longest(*(part.lengths for _, part in parts), fillvalue=0))
    return Split(**sums, lengths=tuple(lengths), shards=tuple(shards))
