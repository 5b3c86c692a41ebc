"""Reads the corpus: parquet files with the columns text and split."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.errors import InputError
from gpt2.progress import bar

SPLITS = ("train", "val")
BATCH_ROWS = 256  # enough that encoding a batch outweighs handing it over


class Corpus:
    """A directory of parquet files, read in the order of their names; a few rows are in memory at a time.

    Raises InputError naming the file, and the column, where there is none, or one is malformed or lacks a column.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.files = sorted(directory.glob("*.parquet"))
        if not self.files:
            raise InputError(f"{directory}: no parquet files")
        for path in self.files:
            for column in ("text", "split"):
                _check_column(path, _open(path).schema_arrow, column)

    def batches(self) -> Iterator[tuple[str, list[str]]]:
        """Texts with the split that they belong to, in the order of the rows, at most BATCH_ROWS at a time.

        Raises InputError naming file, row (from 0) and column for a null and for a split other than train and val, and
        naming the split that no row has.
        """
        missing = set(SPLITS)
        with bar(
            total=sum(_open(path).metadata.num_rows for path in self.files), desc="texts", unit="text"
        ) as progress:
            for path in self.files:
                for texts, splits in _batches(path):
                    missing.difference_update(splits)
                    for split in SPLITS:
                        if chosen := [text for text, own in zip(texts, splits, strict=True) if own == split]:
                            yield split, chosen
                    progress.update(len(texts))
        for split in sorted(missing):
            raise InputError(f"{self.directory}: no row has split {split!r}")

    def texts(self, split: str) -> Iterator[str]:
        """The texts of one split."""
        return (text for own, texts in self.batches() if own == split for text in texts)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet file: {error}") from None


def _batches(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The columns text and split of a file, a few rows at a time."""
    row = 0
    try:
        for batch in _open(path).iter_batches(BATCH_ROWS, columns=["text", "split"]):
            texts, splits = batch.column("text").to_pylist(), batch.column("split").to_pylist()
            _check_rows(path, row, texts, splits)
            yield texts, splits
            row += len(texts)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged after row {row}: {error}") from None


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise InputError(f"{path}: no column {column}; it has {', '.join(schema.names)}")
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{path}: column {column} holds {kind}, expected string")


def _check_rows(path: Path, first: int, texts: list[str | None], splits: list[str | None]) -> None:
    for row, (text, split) in enumerate(zip(texts, splits, strict=True), start=first):
        if text is None:
            raise InputError(f"{path}, row {row}: column text is null")
        if split not in SPLITS:
            raise InputError(f"{path}, row {row}: column split is {split!r}, expected {' or '.join(SPLITS)}")
