"""Writes documents as token shards, and joins the shards of several tasks under one manifest."""

import os
from array import array
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from gpt2.common.files import replacing, sha256, write_json
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.tokens.corpus import Document
from gpt2.tokens.shards import DTYPE, MANIFEST, Manifest, Shard, Split, histogram, read_manifest

BATCH_CHARACTERS = 1 << 16  # encoded per call: enough to outweigh the call's overhead, few enough for the CPU's cache


def shard_file(split: str, number: int) -> str:
    """The name of a shard."""
    return f"{split}_{number:06d}.npy"


def digests_file(split: str) -> str:
    """The name of the file with the digests of a split's texts, stored beside the shards of a task."""
    return f"{split}_digests.npy"


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an npy file. Unlike np.save, raises OSError with the reason, such as a full disk."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


class SplitWriter:
    """Encodes the documents of one split into files of `shard_tokens` tokens; the last may be shorter."""

    def __init__(self, directory: Path, split: str, tokenizer: Tokenizer, shard_tokens: int):
        self.directory, self.split, self.tokenizer = directory, split, tokenizer
        self.shards: list[Shard] = []
        self.digests = array("Q")
        self.tokens = self.bytes = 0
        self.lengths = histogram(np.array([], dtype=np.int64))
        self._texts: list[str] = []  # not encoded yet
        self._characters = 0  # in `_texts`
        self._buffer, self._filled = np.empty(shard_tokens, dtype=DTYPE), 0

    def add(self, document: Document) -> None:
        """Appends a document."""
        self._texts.append(document.text)
        self._characters += len(document.text)
        self.bytes += document.bytes
        self.digests.append(document.digest)
        if self._characters >= BATCH_CHARACTERS:
            self._encode()

    def finish(self) -> Split:
        """Writes the last shard and the digests. Sets `duplicates` to 0; `join_shards` counts them over all tasks."""
        if self._texts:
            self._encode()
        if self._filled:
            self._write_shard()
        write_array(self.directory / digests_file(self.split), np.array(self.digests))
        return Split(
            documents=len(self.digests),
            tokens=self.tokens,
            bytes=self.bytes,
            duplicates=0,
            lengths=np.trim_zeros(self.lengths, "b").tolist(),
            shards=self.shards,
        )

    def _encode(self) -> None:
        tokens = self.tokenizer.encode_documents(self._texts)  # (tokens,) uint16
        starts = np.flatnonzero(tokens == self.tokenizer.eot)
        self.lengths += histogram(np.diff(starts, append=len(tokens)) - 1)
        self.tokens += len(tokens)
        self._texts, self._characters = [], 0
        while len(tokens):
            part, tokens = np.split(tokens, [len(self._buffer) - self._filled])
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._buffer):
                self._write_shard()

    def _write_shard(self) -> None:
        path = self.directory / shard_file(self.split, len(self.shards))
        write_array(path, self._buffer[: self._filled])
        self.shards.append(Shard(file=path.name, tokens=self._filled, sha256=sha256(path)))
        self._filled = 0


def write_documents(documents: Iterable[Document], directory: Path, tokenizer: Tokenizer, shard_tokens: int) -> None:
    """Writes documents as shards, with a manifest and the digests that `join_shards` reads. Skips empty texts."""
    writers: dict[str, SplitWriter] = {}
    empty = invalid_utf8 = 0
    for document in documents:
        invalid_utf8 += not document.valid_utf8
        if not document.text:
            empty += 1
            continue
        if document.split not in writers:
            writers[document.split] = SplitWriter(directory, document.split, tokenizer, shard_tokens)
        writers[document.split].add(document)
    manifest = Manifest(
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.fingerprint,
        empty=empty,
        invalid_utf8=invalid_utf8,
        val_in_train=0,
        splits={name: writer.finish() for name, writer in sorted(writers.items())},
    )
    write_json(directory / MANIFEST, manifest.model_dump())


def join_shards(folders: Sequence[Path], directory: Path) -> Manifest:
    """Links the shards of several folders into `directory`, numbered in the order of the folders.

    Returns the manifest, with duplicates counted; the caller writes it. The folders stay unchanged, so an interrupted
    join can start again.
    """
    manifests = [read_manifest(folder) for folder in folders]
    splits, digests = {}, {}
    for name in sorted({name for manifest in manifests for name in manifest.splits}):
        parts = [(folder, m.splits[name]) for folder, m in zip(folders, manifests, strict=True) if name in m.splits]
        digests[name] = np.concatenate([np.load(folder / digests_file(name)) for folder, _ in parts])
        splits[name] = _join_split(name, parts, directory, np.unique(digests[name]).size)
    shared = np.isin(digests["val"], digests["train"]) if {"train", "val"} <= digests.keys() else np.array([False])
    return Manifest(
        vocab_size=manifests[0].vocab_size,
        tokenizer=manifests[0].tokenizer,
        empty=sum(manifest.empty for manifest in manifests),
        invalid_utf8=sum(manifest.invalid_utf8 for manifest in manifests),
        val_in_train=int(shared.sum()),
        splits=splits,
    )


def _join_split(name: str, parts: Sequence[tuple[Path, Split]], directory: Path, distinct: int) -> Split:
    """Joins one split. Equal digests count as equal texts: the chance of a collision in ten million texts is 3e-6."""
    shards: list[Shard] = []
    for folder, split in parts:
        for shard in split.shards:
            path = directory / shard_file(name, len(shards))
            path.unlink(missing_ok=True)
            os.link(folder / shard.file, path)
            shards.append(shard.model_copy(update={"file": path.name}))
    sums = {key: sum(getattr(split, key) for _, split in parts) for key in ("documents", "tokens", "bytes")}
    lengths = map(sum, zip_longest(*(split.lengths for _, split in parts), fillvalue=0))
    return Split(**sums, duplicates=sums["documents"] - distinct, lengths=tuple(lengths), shards=tuple(shards))
