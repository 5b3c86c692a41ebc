"""Rows of tables: .parquet, .jsonl, .json (lines, or one array of objects), .csv and .tsv, in UTF-8.

All but parquet may be compressed: .jsonl.gz, .csv.zst. Values of csv and tsv are texts, unchanged. A tsv has no
quoting, as those of SST-2: every quote in it is text.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.errors import InputError, first_line
from gpt2.sources.text import COMPRESSED, UNREADABLE, format_of, lines, opened

csv.field_size_limit(sys.maxsize)  # a field may hold a whole document
FIRST_ROWS = 1000  # rows of JSON may lack a column that others have


def read_rows(path: Path, where: str) -> Iterator[dict]:
    """The rows of a table in their order.

    Raises InputError with `where`, the name of the file, if it does not exist or is no table, and with the row, counted
    from 1, if one is malformed or not UTF-8.
    """
    if not path.exists():
        raise InputError(f"{where}: no such file")
    check_format(path, where, SUFFIXES)
    number = 0
    try:
        for number, row in enumerate(_rows(path, where), start=1):
            if not isinstance(row, dict):
                raise InputError(f"{where}, row {number}: expected an object, found {type(row).__name__}")
            yield row
    except InputError:
        raise
    except (*UNREADABLE, RecursionError, csv.Error) as error:
        if getattr(error, "errno", None):
            raise
        raise InputError(f"{where}: cannot be read after row {number}: {first_line(error)}") from None


def is_table(path: Path) -> bool:
    """Whether a file is a table, judging by its suffix, in upper or lower case."""
    return format_of(path) in SUFFIXES


def check_format(path: Path, where: str, formats: Sequence[str]) -> None:
    """Raises InputError unless the suffix of a file is one of `formats`, perhaps with that of a compression."""
    if format_of(path) not in formats:
        raise InputError(
            f"{where}: expected a file that ends in one of {', '.join(formats)}, or one of these and "
            f"{', '.join(COMPRESSED)}"
        )


def check_columns(where: str, present: Collection[str], wanted: Collection[str]) -> None:
    """Raises InputError naming a column that a table lacks, and those that it has."""
    for column in wanted:
        if column not in present:
            raise InputError(f"{where}: no column {column!r}; it has {', '.join(present) or 'none'}")


def with_column(rows: Iterator[dict], column: str, where: str) -> Iterator[dict]:
    """The rows. Raises InputError naming the columns that there are if none of the first rows has `column`."""
    first = list(islice(rows, FIRST_ROWS))
    if first:
        check_columns(where, dict.fromkeys(name for row in first for name in row), [column])
    return chain(first, rows)


def text_of(row: dict, column: str, place: str) -> str:
    """The text in a column of a row, "" where there is none. Raises InputError with `place` for another value."""
    value = row.get(column)
    if value is None or value != value:  # NaN
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {column} = {value!r}: expected a text")
    return value


def label_names(path: Path, where: str, column: str) -> list[str] | None:
    """The names of the labels 0, 1, ... of a column, if `datasets` wrote them into a parquet file."""
    if path.suffix.lower() != ".parquet":
        return None
    schema = open_parquet(path, where).schema_arrow
    if b"huggingface" not in (schema.metadata or {}):
        return None
    from datasets import Features  # takes seconds

    return getattr(Features.from_arrow_schema(schema).get(column), "names", None)


def open_parquet(path: Path, where: str) -> pq.ParquetFile:
    """Opens a parquet file. Raises InputError if it is damaged, not a parquet file, or repeats the name of a column."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:  # OSError: a damaged footer
        if getattr(error, "errno", None):
            raise
        raise InputError(f"{where}: not a parquet file: {first_line(error)}") from None
    if repeated := _repeated(file.schema_arrow.names):
        raise InputError(f"{where}: {repeated}")
    return file


def _repeated(names: Iterable[str]) -> str:
    """A sentence about a name that several columns have, or "". Spreadsheets leave several columns without a name."""
    counts = ((times, name) for name, times in Counter(names).items() if name and times > 1)
    return next((f"{times} columns have the name {name!r}, expected one" for times, name in counts), "")


def _rows(path: Path, where: str) -> Iterator[object]:
    if format_of(path) != ".parquet":
        return READERS[format_of(path)](lines(opened(path)))
    return (row for batch in open_parquet(path, where).iter_batches(1024) for row in batch.to_pylist())


def _json(lines: Iterator[str]) -> Iterator[object]:
    lines = (line for line in lines if line.strip())
    first = next(lines, "")
    if first.lstrip().startswith("["):
        yield from _value(first + "".join(lines))
    elif first:
        yield _value(first)
        yield from map(_value, lines)


def _value(text: str) -> object:
    value = json.loads(text)
    if "\\ud" in text.lower():  # an escape that may be half of a character
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _separated(lines: Iterator[str], **dialect) -> Iterator[dict]:
    reader = csv.DictReader(lines, **dialect)
    if repeated := _repeated(reader.fieldnames or ()):
        raise ValueError(repeated)
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"expected {len(reader.fieldnames)} values, as in the header, in line {reader.line_num}")
        yield row


READERS = {
    ".jsonl": _json,
    ".json": _json,
    ".csv": partial(_separated, strict=True),
    ".tsv": partial(_separated, delimiter="\t", quoting=csv.QUOTE_NONE),
}
SUFFIXES = (".parquet", *READERS)
