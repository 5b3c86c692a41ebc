"""Text from the hub or from files of one's own as the pretraining corpus: one parquet file for each that is read.

A parquet file whose texts are in the column `text` is copied as it is, but read to its end first: what is wrong in it
is told of the file that the user knows. Others are rewritten: their texts go to the column `text`, and of parquet files
the other columns come along. Left out are a `split`, because in the corpus it says what is held out of training, and a
`text` that is not the text column; the manifest names them.

Files are copied, not linked. A hard link would make one file of the corpus, of the hub's cache or data/local, and with
DVC's `cache.type hardlink` of DVC's cache too: to change one in place, or its permissions, would change them all.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from gpt2.common.errors import InputError
from gpt2.common.files import NO_ROOM, replacing, write_json
from gpt2.common.progress import bar
from gpt2.config.data import CorpusParams
from gpt2.sources.origin import file_record, locate
from gpt2.sources.tables import Table, check_columns, first_line, open_parquet

TEXT, SPLIT, TOKENS = "text", "split", "token_count"
BATCH_ROWS = 256
BATCH_CHARACTERS = 1 << 20
ROW_GROUP_BYTES = 32 << 20
MAX_COUNT = 1 << 32  # no document has as many tokens, and no sum of smaller counts leaves 64 bits


class Budget:
    """How many documents, and how many tokens, may still be taken. None: any number."""

    def __init__(self, documents: int | None, tokens: int | None):
        self.documents, self.tokens, self.spent = documents, tokens, False

    @property
    def limited(self) -> bool:
        return self.documents is not None or self.tokens is not None

    def room(self, rows: pa.RecordBatch | pa.Table) -> int:
        """How many of the first rows there is room for."""
        n = len(rows) if self.documents is None else min(len(rows), self.documents)
        if self.tokens is not None:
            sums = np.cumsum(rows[TOKENS].to_numpy(zero_copy_only=False)[:n])
            n = int(np.searchsorted(sums, self.tokens, side="right"))
        return n

    def take(self, rows: pa.RecordBatch | pa.Table) -> int:
        """Takes as many of the first rows; when that is not all, or leaves room for none, the budget is spent."""
        taken = self.room(rows)
        if self.documents is not None:
            self.documents -= taken
        if self.tokens is not None:
            self.tokens -= pc.sum(rows[TOKENS].slice(0, taken)).as_py() or 0
        self.spent = taken < len(rows) or self.documents == 0 or self.tokens == 0
        return taken


def write_parts(params: CorpusParams, directory: Path, out: Path) -> None:
    """Writes part_00000.parquet and so on to `out`, up to the limits of `params`, and manifest.json.

    `directory` holds the files of source local. With a limit of documents or tokens files are fetched one at a time,
    and none after it is reached: tokens are those of the column token_count. What is not UTF-8 in a text file is
    replaced and counted. A few rows are in memory at a time. Raises InputError naming the file, and its row or column,
    that is malformed, and if there is not a single document.
    """
    origin = locate(params, "data.corpus", directory)
    origin = replace(origin, paths=origin.paths[: params.max_files])
    budget = Budget(params.max_documents, params.max_tokens)
    files, parts = [], 0
    tables = origin.tables(ahead=1 if budget.limited else 4, lenient=True)
    with bar(desc="corpus", unit="document") as progress, closing(tables):
        for _, path, table in tables:
            part = out / f"part_{parts:05d}.parquet"
            rows, left_out = _write_part(table, params.text_column, budget, part, progress)
            record = {**file_record(path, table, rows), "replaced": table.replaced, "left_out": left_out}
            if rows:
                record["part"] = part.name
                parts += 1
            files.append(record)
            if budget.spent:
                break
    total = sum(record["rows"] for record in files)
    if not total:
        limit = f" that max_tokens = {params.max_tokens} has room for" if budget.spent else ""
        raise InputError(f"data.corpus: no document{limit} in {origin}")
    if params.max_tokens and budget.tokens == params.max_tokens:
        raise InputError(f"data.corpus.max_tokens: column {TOKENS!r} holds nothing but 0; set max_documents instead")
    write_json(out / "manifest.json", {**origin.record, "files": files, "rows": total})


def _write_part(table: Table, column: str, budget: Budget, part: Path, progress: tqdm) -> tuple[int, list[str]]:
    """Writes what of a file is within the budget, or no file if that is nothing. Returns rows and columns left out."""
    if table.path.suffix != ".parquet":
        batches, left_out = _text_batches(table, column, budget), []
    else:
        file = open_parquet(table.path, table.where)
        _check_text(table.where, file.schema_arrow, column)
        counts = _counts(table.where, file) if budget.tokens is not None else file.read(columns=[])
        left_out = [name for name in file.schema_arrow.names if name in (TEXT, SPLIT) and name != column]
        if column == TEXT and not left_out and len(counts) and budget.room(counts) == len(counts):
            for batch in _checked(table.where, file, column, [column]):
                progress.update(len(batch))
            _copy(table.path, part)
            return budget.take(counts), []
        batches = _parquet_batches(table.where, file, column, left_out)
    return _write(part, _taken(batches, budget, progress)), left_out


def _check_text(where: str, schema: pa.Schema, column: str) -> None:
    check_columns(where, schema.names, [column, *schema.names])  # none twice: few readers know what to do with it
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InputError(f"{where}: column {column!r} holds {kind}, expected string")


def _copy(source: Path, part: Path) -> None:
    """Copies a file. That there is no room is told of the part's, where `shutil` would name the source."""
    try:
        with replacing(part) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, error.strerror, str(part)) from None


def _counts(where: str, file: pq.ParquetFile) -> pa.Table:
    """The column token_count. Raises InputError unless it holds whole numbers in every row."""
    schema = file.schema_arrow
    if TOKENS not in schema.names or not pa.types.is_integer(schema.field(TOKENS).type):
        raise _uncounted(where)
    try:
        counts = file.read(columns=[TOKENS])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where}: damaged in column {TOKENS!r}: {first_line(error)}") from None
    least, most = pc.min_max(counts[TOKENS]).as_py().values()
    if counts[TOKENS].null_count or (len(counts) and not 0 <= least <= most < MAX_COUNT):
        raise _uncounted(where)
    return counts


def _uncounted(where: str) -> InputError:
    return InputError(
        f"{where}: expected whole numbers below 2**32 in a column {TOKENS!r}, by which max_tokens counts; "
        "set max_documents instead"
    )


def _parquet_batches(where: str, file: pq.ParquetFile, column: str, left_out: list[str]) -> Iterator[pa.RecordBatch]:
    """A few rows at a time, without the columns left out, and with the text column called `text`."""
    kept = [name for name in file.schema_arrow.names if name not in left_out]
    names = [TEXT if name == column else name for name in kept]
    for batch in _checked(where, file, column):
        yield batch.select(kept).rename_columns(names).replace_schema_metadata(None)


def _checked(
    where: str, file: pq.ParquetFile, column: str, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """A few rows at a time. Raises InputError for damage and for texts that are null.

    Texts that are not UTF-8, which parquet does not forbid, are left to whoever reads the corpus, which replaces and
    counts what cannot be read.
    """
    first = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            texts = batch[column]
            if texts.null_count:
                row = first + texts.is_null().index(True).as_py()
                raise InputError(f"{where}, row {row}: column {column!r} is null, expected a text")
            yield batch
            first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where}: damaged at or after row {first}: {first_line(error)}") from None


def _text_batches(table: Table, column: str, budget: Budget) -> Iterator[pa.RecordBatch]:
    """The texts of a file, and their token counts where these are limited, a few at a time."""
    counted = budget.tokens is not None
    schema = pa.schema([(TEXT, pa.string()), *([(TOKENS, pa.int64())] if counted else [])])
    rows, characters = [], 0
    for place, row in table.rows([column], [TOKENS] if counted else []):
        text = row[column]
        if not isinstance(text, str):
            raise InputError(f"{place}: {column} = {text!r}: expected a text")
        rows.append({TEXT: text, TOKENS: _count(row, place)} if counted else {TEXT: text})
        characters += len(text)
        if len(rows) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield pa.RecordBatch.from_pylist(rows, schema)
            rows, characters = [], 0
    yield pa.RecordBatch.from_pylist(rows, schema)


def _count(row: dict, place: str) -> int:
    """A document's tokens, which a csv or tsv has as text."""
    value = row.get(TOKENS)
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_COUNT:
        raise _uncounted(place)
    return value


def _taken(batches: Iterator[pa.RecordBatch], budget: Budget, progress: tqdm) -> Iterator[pa.RecordBatch]:
    """The batches as far as the budget goes."""
    for batch in batches:
        rows = budget.take(batch)
        yield batch.slice(0, rows)
        progress.update(rows)
        if budget.spent:
            break


def _write(part: Path, batches: Iterator[pa.RecordBatch]) -> int:
    """Writes batches in row groups of about ROW_GROUP_BYTES. Returns how many rows; for none there is no file."""
    first = next((batch for batch in batches if len(batch)), None)
    if first is None:
        return 0
    rows = 0
    with replacing(part) as temporary, pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
        for group in _groups(chain([first], batches)):
            writer.write_table(group)
            rows += len(group)
    return rows


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    pending, size = [], 0
    for batch in batches:
        pending.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(pending)
            pending, size = [], 0
    if pending:
        yield pa.Table.from_batches(pending)
