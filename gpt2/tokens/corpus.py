"""Reads the corpus: parquet files with a column `text`, and a column `split` if the corpus defines splits.

Otherwise a digest of its text assigns each document to train or val. Equal texts are always in the same split, and the
assignment does not depend on the order of files and rows. If there are so few documents that this misses the share to
hold out by far, as with a single book, blocks within the long ones are held out instead.
"""

import hashlib
from collections.abc import Collection, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.errors import InputError
from gpt2.common.progress import bar

SPLITS = ("train", "val")
BATCH_ROWS = 256  # rows read at a time
READ_BYTES = 1 << 20  # read from a file at a time; without this limit, pyarrow reads a whole row group
FEW_ROWS = 1000  # a corpus with more is not read in advance to see how much of its text is held out
BLOCK = 8192  # characters in a block within a document, about: more than a window of most models


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
        self.heldout = heldout
        self.blocks = False  # whether blocks within documents are held out, and not whole documents
        self._val_below = heldout * 2**64  # documents with a smaller digest are held out
        if self.columns == ["text"]:
            self._hold_out()

    def _hold_out(self) -> None:
        """In a corpus so small that no digest is below the threshold, holds out the text with the smallest digest.

        If all digests are below it, uses the text with the largest digest for training. Holds out blocks instead if a
        text is long enough, and the held-out texts are less than a quarter of the share, or more than both twice the
        share and a quarter of the text. Reads a large corpus only until it has found a document for each split.
        """
        sizes: dict[int, int] = {}  # bytes of the different texts, by digest
        lowest, highest, longest = 2**64, -1, 0
        for path in self.files:
            for document in self.documents(path):
                if document.text:
                    sizes[document.digest] = document.bytes
                    lowest, highest = min(lowest, document.digest), max(highest, document.digest)
                    longest = max(longest, len(document.text))
                    if self.rows > FEW_ROWS and lowest < self._val_below <= highest:
                        return
        if highest < self._val_below:
            self._val_below = highest
        elif lowest >= self._val_below:
            self._val_below = lowest + 1
        held_out = sum(size for digest, size in sizes.items() if digest < self._val_below)
        share = held_out / max(1, sum(sizes.values()))
        self.blocks = longest >= 2 * BLOCK and not self.heldout / 4 <= share <= max(2 * self.heldout, 0.25)
        if len(sizes) < 2 and not self.blocks:
            raise InputError(
                f"{self.directory}: expected two or more different texts, or a text of {2 * BLOCK:,} characters or "
                "more, to hold out some of it"
            )

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
        """The rows of one of the files, including empty texts; or their parts, if blocks are held out.

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
            if self.blocks:
                yield from parts(document, self.heldout)
            elif len(self.columns) == 1:
                yield document._replace(split="val" if document.digest < self._val_below else "train")
            else:
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


def parts(document: Document, heldout: float) -> Iterator[Document]:
    """The held-out blocks of a document, evenly spaced, and what lies between them: together, its text.

    At least one block is held out of a text of 2 BLOCK characters or more, and a shorter one is for training.
    """
    blocks = _blocks(document.text)
    n = max(len(blocks) > 1, round(heldout * len(blocks)))
    held_out = {(2 * i + 1) * len(blocks) // (2 * n) for i in range(n)}
    valid_utf8 = document.valid_utf8  # counted once
    for is_val, numbers in groupby(range(len(blocks)), key=held_out.__contains__):
        text = "".join(blocks[number] for number in numbers)
        yield Document.of(text, "val" if is_val else "train", valid_utf8)
        valid_utf8 = True


def _blocks(text: str) -> list[str]:
    """Cuts a text into blocks of similar length, which end where a paragraph, a line or a word does, if one does."""
    n = max(1, len(text) // BLOCK)
    ends = [_end(text, number * len(text) // n) for number in range(1, n)]
    return [text[start:end] for start, end in pairwise([0, *ends, len(text)])]


def _end(text: str, start: int) -> int:
    """Where the first paragraph ends in the half block after `start`, or else the first line or word, or `start`."""
    for mark in ("\n\n", "\n", " "):
        if (found := text.find(mark, start, start + BLOCK // 2)) >= 0:
            return found + len(mark)
    return start


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
