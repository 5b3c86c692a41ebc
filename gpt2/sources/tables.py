"""Tables in files: parquet, JSON lines or one JSON array of objects, csv, tsv. Rows are streamed; each knows its place.

A tsv has no quoting, as SST-2's have none: every quote in it is text. A JSON array is read whole.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.errors import InputError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
BATCH_ROWS = 1024
BOM = b"\xef\xbb\xbf"
BARE_CR = "a carriage return alone; expected lines that end in LF or CR LF"
LONE_SURROGATE = r"a \u escape is half of a surrogate pair, which is no character"
MAX_FIELD = 1 << 30  # characters in a field of a csv; a quote that is never closed ends there


@dataclass
class Table:
    """A file of rows. Its text must be UTF-8, or with `lenient` what is not is replaced by U+FFFD and counted.

    Raises InputError, one line that names the file and the row or line, when iteration comes to what is malformed.
    """

    path: Path
    where: str  # what messages call the file
    lenient: bool = False
    replaced: int = 0  # lines of text that were not UTF-8

    def __post_init__(self):
        if self.path.suffix not in SUFFIXES:
            raise InputError(f"{self.where}: expected a file that ends in one of {', '.join(SUFFIXES)}")

    def rows(self, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[str, dict]]:
        """Place and values of every row, e.g. ("data/local/corpus/a.jsonl, line 1", {"text": "..."}).

        Lines are counted from 1 and rows from 0. Numbers stay numbers where the format has them. `optional` columns
        are left out of the rows where the file, or for JSON the row, has none of that name.
        """
        match self.path.suffix:
            case ".parquet":
                return self._parquet(columns, optional)
            case ".csv":
                return self._records(self._csv(), columns, optional)
            case ".tsv":
                return self._records(self._tsv(), columns, optional)
            case ".json" if self._is_array():
                return self._objects(self._array(), columns, optional)
            case _:
                return self._objects(self._json_lines(), columns, optional)

    def _parquet(self, columns: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[str, dict]]:
        file = open_parquet(self.path, self.where)
        names = file.schema_arrow.names
        check_columns(self.where, names, columns)
        first = 0
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=_present(names, columns, optional)):
                for number, row in enumerate(batch.to_pylist(), start=first):
                    yield f"{self.where}, row {number}", row
                first += len(batch)
        except UnicodeDecodeError:
            raise InputError(f"{self.where}: not UTF-8 at or after row {first}") from None
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.where}: damaged at or after row {first}: {first_line(error)}") from None

    def _records(self, records: Iterator[tuple[int, list[str]]], columns: Sequence[str], optional: Sequence[str]):
        """Rows out of records, of which the first is the header."""
        _, header = next(records, (1, []))
        if not header:
            raise InputError(f"{self.where}: empty; expected a header")
        check_columns(self.where, header, columns)
        wanted = [(name, header.index(name)) for name in _present(header, columns, optional)]
        for number, record in records:
            place = f"{self.where}, line {number}"
            if len(record) != len(header):
                raise InputError(f"{place}: expected {len(header)} values, as in the header, found {len(record)}")
            yield place, {name: record[index] for name, index in wanted}

    def _csv(self) -> Iterator[tuple[int, list[str]]]:
        """Records with the number of the line that each begins in."""
        csv.field_size_limit(MAX_FIELD)
        reader = csv.reader((line for _, line in self._lines()), strict=True)
        first = 1
        try:
            for record in reader:
                if record:
                    yield first, record
                first = reader.line_num + 1
        except csv.Error as error:
            mistake = BARE_CR if "new-line character" in str(error) else f"not valid csv: {error}"
            raise InputError(f"{self.where}, line {first}: {mistake}") from None

    def _tsv(self) -> Iterator[tuple[int, list[str]]]:
        for number, line in self._lines():
            record = line.rstrip("\r\n")
            if number == 1 and "\r" in record:
                raise InputError(f"{self.where}, line 1: {BARE_CR}")
            if record:
                yield number, record.split("\t")

    def _objects(self, values: Iterator[tuple[str, object]], columns: Sequence[str], optional: Sequence[str]):
        """Rows out of JSON values."""
        for place, value in values:
            if not isinstance(value, dict):
                raise InputError(f"{place}: expected a JSON object, found {type(value).__name__}")
            check_columns(place, list(value), columns)
            yield place, {name: value[name] for name in _present(list(value), columns, optional)}

    def _is_array(self) -> bool:
        with open(self.path, "rb") as file:
            lines = (line.removeprefix(BOM).lstrip() for line in file)
            return next(filter(None, lines), b"").startswith(b"[")

    def _array(self) -> Iterator[tuple[str, object]]:
        whole = self._json("".join(line for _, line in self._lines()), self.where)
        return ((f"{self.where}, row {number}", value) for number, value in enumerate(whole))

    def _json_lines(self) -> Iterator[tuple[str, object]]:
        for number, line in self._lines():
            if line.strip():
                place = f"{self.where}, line {number}"
                yield place, self._json(line, place)

    def _json(self, text: str, place: str):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not valid JSON: {first_line(error)}") from None
        if "\\ud" in text or "\\uD" in text:  # an escape that may be half of a character, which no UTF-8 can hold
            raw = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
            value = json.loads(self._decoded(raw, place, LONE_SURROGATE))
        return value

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Every line with its number and its end."""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield (
                    number,
                    self._decoded(line.removeprefix(BOM) if number == 1 else line, f"{self.where}, line {number}"),
                )

    def _decoded(self, raw: bytes, place: str, mistake: str = "not UTF-8") -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            if not self.lenient:
                raise InputError(f"{place}: {mistake}") from None
            self.replaced += 1
            return raw.decode(errors="replace")


def open_parquet(path: Path, where: str) -> pq.ParquetFile:
    """Opens a parquet file. Raises InputError if it is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where}: not a parquet file: {first_line(error)}") from None


def check_columns(where: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Raises InputError if one of `columns` is not among a table's `names`, or is there twice."""
    for column in columns:
        if column not in names:
            raise InputError(f"{where}: no column {column!r}; it has {', '.join(names) or 'none'}")
        if names.count(column) > 1:
            raise InputError(f"{where}: {names.count(column)} columns are called {column!r}")


def label_names(table: Table, column: str) -> list[str] | None:
    """What a parquet file that `datasets` wrote calls the labels 0, 1, ... of a column; None if it does not say."""
    if table.path.suffix != ".parquet":
        return None
    metadata = open_parquet(table.path, table.where).schema_arrow.metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def first_line(error: Exception) -> str:
    """The beginning of a message that may go on for many lines."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _present(names: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    return [*columns, *(name for name in optional if name in names)]
