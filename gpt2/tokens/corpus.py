"""Reads the corpus: parquet files with a column `text`, and a column `split` if the corpus defines splits.

Otherwise a digest of its text assigns each document to train or val. Equal texts are always in the same split, and the
assignment does not depend on the order of files and rows.
"""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.errors import InputError
from gpt2.common.progress import bar

SPLITS = ("train", "val")
BATCH_ROWS = 256  # rows read at a time
READ_BYTES = 1 << 20  # read from a file at a time; without this limit, pyarrow reads a whole row group


class Document(NamedTuple):
    """One row of the corpus."""

    text: str
    split: str
    bytes: int  # length of the text in UTF-8
    digest: int  # the first 64 bits of the text's SHA-256
    valid_utf8: bool  # False if the file's bytes are not UTF-8; `text` has U+FFFD in place of the invalid ones

    @classmethod
    def of(cls, text: str, split: str, valid_utf8: bool = True) -> "Document":
        """Builds a document from its text."""
        data = text.encode()
        return cls(text, split, len(data), int.from_bytes(hashlib.sha256(data).digest()[:8]), valid_utf8)


class Corpus:
    """A directory of parquet files, read in the order of their names, a few rows at a time.

    Raises InputError naming the file, and the row or column, if there are no files or one is malformed.
    """

    def __init__(self, directory: Path, heldout: float):
        """`heldout` is the share of documents for validation if the files have no column `split`."""
        self.directory = directory
        self.files = sorted(directory.glob("*.parquet"))
        if not self.files:
            raise InputError(f"{directory}: no parquet files")
        self.columns = ["text", "split"] if "split" in _open(self.files[0]).schema_arrow.names else ["text"]
        self.rows = 0
        for path in self.files:
            file = _open(path)
            self.rows += file.metadata.num_rows
            for column in self.columns:
                _check_column(path, file.schema_arrow, column)
        self._val_below = heldout * 2**64  # documents with a smaller digest are held out
        if self.columns == ["text"]:
            self._hold_out_one()

    def _hold_out_one(self) -> None:
        """In a corpus so small that no digest is below the threshold, holds out the text with the smallest digest.

        If all digests are below it, uses the text with the largest digest for training. Reads until it has found a
        document for each split, which happens early in a large corpus.
        """
        lowest, highest = 2**64, -1
        for path in self.files:
            for document in self.documents(path):
                if document.text:
                    lowest, highest = min(lowest, document.digest), max(highest, document.digest)
                    if lowest < self._val_below <= highest:
                        return
        if lowest >= highest:
            raise InputError(f"{self.directory}: expected two or more different texts, one of them to hold out")
        self._val_below = highest if highest < self._val_below else lowest + 1

    def groups(self, size: int) -> list[list[Path]]:
        """The absolute paths of the files in order, in groups of at least `size` bytes; the last may be smaller."""
        groups: list[list[Path]] = [[]]
        reached = 0
        for path in self.files:
            if reached >= size:
                groups.append([])
                reached = 0
            groups[-1].append(path.resolve())
            reached += path.stat().st_size
        return groups

    def documents(self, path: Path) -> Iterator[Document]:
        """The rows of one of the files, including empty texts.

        Raises InputError naming file and row, counted from 1, if a text is null or a split is neither train nor val.
        """
        for row, (data, split) in enumerate(_rows(path, self.columns), start=1):
            if data is None:
                raise InputError(f"{path}, row {row}: column text is null")
            if len(self.columns) > 1 and split not in SPLITS:
                raise InputError(f"{path}, row {row}: column split is {split!r}, expected {' or '.join(SPLITS)}")
            try:
                document = Document.of(data.decode(), split)
            except UnicodeDecodeError:
                document = Document.of(data.decode(errors="replace"), split, valid_utf8=False)
            if len(self.columns) == 1:
                document = document._replace(split="val" if document.digest < self._val_below else "train")
            yield document

    def texts(self, split: str) -> Iterator[str]:
        """The nonempty texts of one split, with a progress bar. Raises InputError like the other methods."""
        found = set()
        with bar(total=self.rows, desc="texts", unit="text") as progress:
            for path in self.files:
                for document in self.documents(path):
                    progress.update()
                    if document.text:
                        found.add(document.split)
                        if document.split == split:
                            yield document.text
        self.check_splits(found)

    def check_splits(self, found: Collection[str]) -> None:
        """Raises InputError if a split is not in `found`, the splits that have at least one text."""
        for split in SPLITS:
            if split not in found:
                raise InputError(f"{self.directory}: no row with a text has split {split!r}")


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet file: {error}") from None


def _rows(path: Path, columns: list[str]) -> Iterator[tuple[bytes | None, str | None]]:
    """The texts of a file, as bytes because strings in parquet need not be UTF-8, each with its split or None."""
    row = 0
    try:
        for batch in _open(path).iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            texts = batch.column("text")
            binary = pa.large_binary() if pa.types.is_large_string(texts.type) else pa.binary()
            splits = batch.column("split").to_pylist() if "split" in columns else [None] * len(texts)
            yield from zip(texts.cast(binary).to_pylist(), splits, strict=True)
            row += len(texts)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged after row {row}: {error}") from None


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if schema.names.count(column) != 1:
        raise InputError(f"{path}: expected one column {column}; it has {', '.join(schema.names)}")
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column {column} has type {kind}, expected string")
