"""Text from the hub or from files in data/local as the pretraining corpus: one parquet file for each file that is read.

A plain text is one document or, with `documents: paragraph`, one per paragraph. The texts of tables become the column
`text`. The other columns of parquet files are kept, except for a column `split`, which in the corpus would mark what is
held out of training, and for a column `text` that is not the text column. A text that is missing becomes an empty one,
which tokenization leaves out and counts.
"""

import math
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from gpt2.common.errors import InputError, first_line
from gpt2.common.files import replacing, write_json
from gpt2.common.progress import bar
from gpt2.config.data import CorpusParams
from gpt2.sources.files import file_record, locate
from gpt2.sources.tables import SUFFIXES, check_columns, check_format, open_parquet, read_rows, text_of, with_column
from gpt2.sources.text import PLAIN, documents, format_of, opened

TEXT, SPLIT, TOKENS = "text", "split", "token_count"
BATCH_ROWS = 1024  # in memory at a time, and in a row group of the corpus


class Budget:
    """How many documents and tokens may still be taken; None: any number."""

    def __init__(self, documents: int | None, tokens: int | None):
        self.documents, self.tokens = documents or math.inf, tokens or math.inf
        self.spent = False

    def take(self, counts: np.ndarray) -> int:
        """How many of the next documents fit, given the tokens of each; they are taken.

        The budget is spent when that is not all of them, or when no document or token is left.
        """
        ends = np.cumsum(counts)
        taken = int(min(np.searchsorted(ends, self.tokens, side="right"), self.documents))
        self.documents -= taken
        self.tokens -= int(ends[taken - 1]) if taken else 0
        self.spent = taken < len(counts) or not self.documents or not self.tokens
        return taken


def write_parts(params: CorpusParams, directory: Path, out: Path) -> None:
    """Writes part_00000.parquet and so on to `out`, up to the limits of `params`, and manifest.json.

    `directory` holds the files of source local. Files of the hub are downloaded one at a time, and none after a limit
    is reached. Raises InputError naming a malformed file, with its row or column, and if there is no document.
    """
    source = locate(params, "data.corpus", directory)
    budget = Budget(params.max_documents, params.max_tokens)
    files: list[dict] = []
    with bar(desc="corpus", unit="document") as progress:
        for _, path, file in source.files():
            part = out / f"part_{sum(record['rows'] > 0 for record in files):05d}.parquet"
            where = source.where(path)
            batches, left_out = _batches(file, where, params)
            rows = _write(part, _within(batches, budget, where), progress)
            record = {**file_record(path, file, rows), "left_out": left_out}
            files.append({**record, "part": part.name} if rows else record)
            if budget.spent:
                break
    total = sum(record["rows"] for record in files)
    if not total:
        limit = f" within max_tokens = {params.max_tokens}" if params.max_tokens else ""
        places = ", ".join(source.where(path) for _, path in source.paths)
        raise InputError(f"data.corpus: no document{limit} in {places}")
    write_json(out / "manifest.json", {**source.record, "files": files, "rows": total})


def _batches(path: Path, where: str, params: CorpusParams) -> tuple[Iterator[pa.RecordBatch], list[str]]:
    """The documents of a file, a few at a time, and the columns that are left out."""
    column, counted = params.text_column, params.max_tokens is not None
    check_format(path, where, (*SUFFIXES, *PLAIN))
    if format_of(path) in PLAIN:
        rows = ({TEXT: text} for text in documents(opened(path), where, params.documents))
        return _row_batches(rows, TEXT, where, counted), []
    if format_of(path) != ".parquet":
        return _row_batches(with_column(read_rows(path, where), column, where), column, where, counted), []
    file = open_parquet(path, where)
    names = file.schema_arrow.names
    check_columns(where, names, [column])
    return _parquet_batches(file, where, column), [name for name in names if name in (TEXT, SPLIT) and name != column]


def _parquet_batches(file: pq.ParquetFile, where: str, column: str) -> Iterator[pa.RecordBatch]:
    kind = file.schema_arrow.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise InputError(f"{where}: column {column!r} holds {kind}, expected string")
    kept = [name for name in file.schema_arrow.names if name == column or name not in (TEXT, SPLIT)]
    names = [TEXT if name == column else name for name in kept]
    row = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=kept):
            batch = batch.select(kept).rename_columns(names).replace_schema_metadata(None)
            yield batch.set_column(names.index(TEXT), TEXT, batch[TEXT].cast(pa.string()).fill_null(""))
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where}: damaged after row {row}: {first_line(error)}") from None


def _row_batches(rows: Iterator[dict], column: str, where: str, counted: bool) -> Iterator[pa.RecordBatch]:
    rows = enumerate(rows, start=1)
    while some := list(islice(rows, BATCH_ROWS)):
        texts = [text_of(row, column, f"{where}, row {number}") for number, row in some]
        try:
            columns = {TEXT: pa.array(texts, pa.string())}
        except pa.ArrowCapacityError:
            raise InputError(f"{where}: a document is longer than 2 GB; divide the file") from None
        if counted:
            columns[TOKENS] = pa.array([str(row.get(TOKENS)) for _, row in some])
        yield pa.RecordBatch.from_pydict(columns)


def _within(batches: Iterator[pa.RecordBatch], budget: Budget, where: str) -> Iterator[pa.RecordBatch]:
    """The batches as far as the budget goes."""
    for batch in batches:
        if budget.tokens < math.inf:
            batch, counts = _counted(batch, where)
        else:
            counts = np.zeros(len(batch), dtype=np.int64)
        yield batch.slice(0, budget.take(counts))
        if budget.spent:
            break


def _counted(batch: pa.RecordBatch, where: str) -> tuple[pa.RecordBatch, np.ndarray]:
    """The batch with its column token_count as numbers, and these."""
    try:
        counts = batch[TOKENS].cast(pa.int64())
    except (KeyError, pa.ArrowException):
        counts = None
    if counts is None or counts.null_count or (pc.min(counts).as_py() or 0) < 0:
        raise InputError(f"{where}: max_tokens needs whole numbers in a column {TOKENS!r}; set max_documents instead")
    return batch.set_column(batch.schema.names.index(TOKENS), TOKENS, counts), counts.to_numpy()


def _write(part: Path, batches: Iterator[pa.RecordBatch], progress: tqdm) -> int:
    """Writes batches and returns the number of rows; for none there is no file."""
    first = next((batch for batch in batches if len(batch)), None)
    if first is None:
        return 0
    rows = 0
    with replacing(part) as temporary, pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)
            rows += len(batch)
            progress.update(len(batch))
    return rows
