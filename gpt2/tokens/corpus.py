"""Reads the corpus: parquet files with a column text, and a column split where the corpus brings its own.

Elsewhere the validation split is drawn by document, from the digest of its text: a text that occurs several times is
always in one split, and no other document has a say in where it goes.
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
BATCH_ROWS = 256  # read at a time, at most
BATCH_BYTES = 4 << 20  # of text, as far as the row group's average tells
READ_BYTES = 1 << 20  # of a file at a time, or a page where that is larger; with no limit, a whole row group
_DRAW = object()  # in place of a split, where the file has none


class Text(NamedTuple):
    """One document."""

    text: str
    split: str
    size: int  # bytes of UTF-8
    digest: int  # 64 bits, the same for equal texts
    intact: bool  # False where bytes that are not UTF-8 were replaced by U+FFFD


def text_digest(data: bytes) -> int:
    """The first 64 bits of SHA-256."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8])


class Corpus:
    """A directory of parquet files, read in the order of their names; a few rows are in memory at a time.

    Raises InputError naming the file, and the column, where there is none, or one is malformed or lacks a text.
    """

    def __init__(self, directory: Path, heldout: float):
        """`heldout` is the share of documents that is drawn for validation from files without a column split."""
        self.directory, self.heldout = directory, heldout
        self.files = sorted(directory.glob("*.parquet"))
        if not self.files:
            raise InputError(f"{directory}: no parquet files")
        self.rows = 0
        self._drawn = False  # whether any file leaves the split to be drawn
        for path in self.files:
            file = _open(path)
            self.rows += file.metadata.num_rows
            _check_column(path, file.schema_arrow, "text")
            if "split" in file.schema_arrow.names:
                _check_column(path, file.schema_arrow, "split")
            else:
                self._drawn = True

    def groups(self, size: int) -> list[list[Path]]:
        """The files' absolute paths in their order, in groups of `size` bytes or more; the last may have fewer."""
        groups: list[list[Path]] = [[]]
        reached = 0
        for path in self.files:
            if reached >= size:
                groups.append([])
                reached = 0
            groups[-1].append(path.resolve())
            reached += path.stat().st_size
        return groups

    def documents(self, path: Path) -> Iterator[Text]:
        """The rows of one of the files, empty texts among them.

        Raises InputError naming file, row (from 0) and column for a null and for a split other than train and val.
        """
        for row, (data, split) in enumerate(_rows(path)):
            if data is None:
                raise InputError(f"{path}, row {row}: column text is null")
            try:
                text, intact = data.decode(), True
            except UnicodeDecodeError:
                text, intact = data.decode(errors="replace"), False
                data = text.encode()
            digest = text_digest(data)
            if split is _DRAW:
                split = "val" if digest < self.heldout * 2**64 else "train"
            elif split not in SPLITS:
                raise InputError(f"{path}, row {row}: column split is {split!r}, expected {' or '.join(SPLITS)}")
            yield Text(text, split, len(data), digest, intact)

    def texts(self, split: str) -> Iterator[str]:
        """The texts of one split, without the empty ones, and a progress bar. Raises InputError as the other two do."""
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
        """Raises InputError for a split that is not among those `found` to have a text."""
        for split in SPLITS:
            if split not in found and self._drawn:
                raise InputError(
                    f"tokens.heldout = {self.heldout}: none of the texts in {self.directory} is drawn for {split}"
                )
            if split not in found:
                raise InputError(f"{self.directory}: no row with a text has split {split!r}")


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet file: {error}") from None


def _rows(path: Path) -> Iterator[tuple[bytes | None, object]]:
    """A file's texts as bytes, since parquet's strings need not be UTF-8, each with its split or _DRAW."""
    row = 0
    try:
        file = _open(path)
        columns = ["text", "split"] if "split" in file.schema_arrow.names else ["text"]
        for group in range(file.num_row_groups):
            rows = _batch_rows(file.metadata.row_group(group))
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
                texts = batch.column("text")
                binary = pa.large_binary() if pa.types.is_large_string(texts.type) else pa.binary()
                splits = batch.column("split").to_pylist() if len(columns) > 1 else [_DRAW] * len(texts)
                yield from zip(texts.cast(binary).to_pylist(), splits, strict=True)
                row += len(texts)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged after row {row}: {error}") from None


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    """How many rows of a group to read at a time."""
    columns = (group.column(i) for i in range(group.num_columns))
    size = next(column.total_uncompressed_size for column in columns if column.path_in_schema == "text")
    return max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(1, size)))


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise InputError(f"{path}: no column {column}; it has {', '.join(schema.names)}")
    if schema.names.count(column) > 1:
        raise InputError(f"{path}: several columns are called {column}")
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column {column} holds {kind}, expected string")
