"""Rows of tables: .parquet, .jsonl, .json (lines, or one array of objects), .csv and .tsv, in UTF-8.

Values of csv and tsv are texts, unchanged. A tsv has no quoting, as those of SST-2: every quote in it is text.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.errors import InputError, first_line

csv.field_size_limit(sys.maxsize)  # a field may hold a whole document
FIRST_ROWS = 1000  # rows of JSON may lack a column that others have


def read_rows(path: Path, where: str) -> Iterator[dict]:
    """The rows of a table in their order.

    Raises InputError with `where`, the name of the file, if it does not exist or is no table, and with the row, counted
    from 1, if one is malformed or not UTF-8.
    """
    if not path.exists():
        raise InputError(f"{where}: no such file")
    if not is_table(path):
        raise InputError(f"{where}: expected a file that ends in one of {', '.join(READERS)}")
    number = 0
    try:
        for number, row in enumerate(READERS[path.suffix.lower()](path), start=1):
            if not isinstance(row, dict):
                raise InputError(f"{where}, row {number}: expected an object, found {type(row).__name__}")
            yield row
    except InputError:
        raise
    except (ValueError, RecursionError, csv.Error, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"{where}: cannot be read after row {number}: {first_line(error)}") from None


def is_table(path: Path) -> bool:
    """Whether a file is a table, judging by its suffix, in upper or lower case."""
    return path.suffix.lower() in READERS


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


def _parquet(path: Path) -> Iterator[dict]:
    file = pq.ParquetFile(path)
    if repeated := _repeated(file.schema_arrow.names):
        raise ValueError(repeated)
    for batch in file.iter_batches(1024):
        yield from batch.to_pylist()


def _json(path: Path) -> Iterator[object]:
    lines = (line for line in _lines(path) if line.strip())
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


def _separated(path: Path, **dialect) -> Iterator[dict]:
    reader = csv.DictReader(_lines(path), **dialect)
    if repeated := _repeated(reader.fieldnames or ()):
        raise ValueError(repeated)
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"expected {len(reader.fieldnames)} values, as in the header, in line {reader.line_num}")
        yield row


def _lines(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        for number, line in enumerate(file):
            yield line.decode("utf-8" if number else "utf-8-sig")


READERS = {
    ".parquet": _parquet,
    ".jsonl": _json,
    ".json": _json,
    ".csv": partial(_separated, strict=True),
    ".tsv": partial(_separated, delimiter="\t", quoting=csv.QUOTE_NONE),
}
SUFFIXES = tuple(READERS)
