"""Documents as the pretraining corpus: a parquet file, and a manifest of its contents."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.files import replacing, size_and_hash, write_json
from gpt2.sources.docstrings.documents import Document

COLUMNS = ("text", "split", "package", "name")
FILE = "docstrings_00000.parquet"


def corpus_rows(documents: list[Document]) -> list[dict]:
    """One row per document of the training and validation splits: test documents are never trained on."""
    return [
        {column: getattr(document, column) for column in COLUMNS}
        for document in documents
        if document.split in ("train", "val")
    ]


def write_corpus(directory: Path, rows: list[dict], origin: dict, skipped: list[str]) -> None:
    """Writes the rows to parquet, and manifest.json: the sizes of the splits, hashes, and `origin` and `skipped` as
    `read_documents` returns them."""
    table = pa.Table.from_pylist(rows, schema=pa.schema([(column, pa.string()) for column in COLUMNS]))
    with replacing(directory / FILE) as temporary:
        pq.write_table(table, temporary)
    splits = {}
    for split in ("train", "val"):
        texts = [row["text"] for row in rows if row["split"] == split]
        words = sum(len(text.split()) for text in texts)
        splits[split] = {"documents": len(texts), "words": words, "characters": sum(map(len, texts))}
    manifest = {
        **origin,
        "splits": splits,
        "skipped": skipped,
        "files": [{"file": FILE, **size_and_hash(directory / FILE), "rows": len(rows)}],
    }
    write_json(directory / "manifest.json", manifest)
