"""Text from the hub or from files in data/local as the pretraining corpus: one parquet file for each file that is read.

A part has one column, `text`.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpt2.common.errors import InputError, first_line
from gpt2.common.files import replacing, write_json
from gpt2.common.progress import bar
from gpt2.config.data import CorpusParams
from gpt2.sources.files import file_record, locate
from gpt2.sources.tables import check_columns, open_parquet, read_rows, text_of

TEXT, TOKENS = "text", "token_count"
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
    schema = pa.schema([(TEXT, pa.string())])
    files: list[dict] = []
    with bar(desc="corpus", unit="document") as progress:
        for _, path, file in source.files():
            where, rows = source.where(path), 0
            part = out / f"part_{len(files):05d}.parquet"
            read = _parquet_batches if file.suffix == ".parquet" else _table_batches
            with replacing(part) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for batch in read(file, where, params.text_column, params.max_tokens is not None):
                    counts = _token_counts(batch, where) if params.max_tokens else np.zeros(len(batch), dtype=np.int64)
                    taken = budget.take(counts)
                    writer.write_batch(batch.select([TEXT]).slice(0, taken))
                    rows += taken
                    progress.update(taken)
                    if budget.spent:
                        break
            files.append({**file_record(path, file, rows), "part": part.name})
            if budget.spent:
                break
    total = sum(record["rows"] for record in files)
    if not total:
        limit = f" within max_tokens = {params.max_tokens}" if params.max_tokens else ""
        raise InputError(f"data.corpus: no document{limit} in {where}")
    write_json(out / "manifest.json", {**source.record, "files": files, "rows": total})


def _parquet_batches(path: Path, where: str, column: str, counted: bool) -> Iterator[pa.RecordBatch]:
    """The texts of a file, a few at a time, and the token counts if `counted`."""
    file = open_parquet(path, where)
    check_columns(where, file.schema_arrow.names, [column])
    kind = file.schema_arrow.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if kind not in (pa.string(), pa.large_string(), pa.string_view()):
        raise InputError(f"{where}: column {column!r} holds {kind}, expected string")
    row = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=[column, TOKENS] if counted else [column]):
            texts = batch[column].cast(pa.string())
            if texts.null_count:
                raise InputError(f"{where}, row {row + texts.is_null().index(True).as_py() + 1}: {column} is null")
            counts = {TOKENS: batch[TOKENS]} if TOKENS in batch.schema.names else {}
            yield pa.RecordBatch.from_pydict({TEXT: texts, **counts})
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where}: damaged after row {row}: {first_line(error)}") from None


def _table_batches(path: Path, where: str, column: str, counted: bool) -> Iterator[pa.RecordBatch]:
    rows = enumerate(read_rows(path, where), start=1)
    while some := list(islice(rows, BATCH_ROWS)):
        texts = [text_of(row, column, f"{where}, row {number}") for number, row in some]
        counts = {TOKENS: [str(row.get(TOKENS)) for _, row in some]} if counted else {}
        yield pa.RecordBatch.from_pydict({TEXT: pa.array(texts, pa.string()), **counts})


def _token_counts(batch: pa.RecordBatch, where: str) -> np.ndarray:
    """The column token_count as numbers."""
    try:
        counts = batch[TOKENS].cast(pa.int64())
    except (KeyError, pa.ArrowException):
        counts = None
    if counts is None or counts.null_count or (pc.min(counts).as_py() or 0) < 0:
        raise InputError(f"{where}: max_tokens needs whole numbers in a column {TOKENS!r}; set max_documents instead")
    return counts.to_numpy()
