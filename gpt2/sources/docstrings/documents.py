"""Documents of all splits in a directory: written once, and read by each data set that is made from docstrings."""

from collections.abc import Sized
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2.common.files import read_json, replacing, write_json

FILE = "documents.parquet"


@dataclass(frozen=True)
class Document:
    """A docstring in prose. Summary and code are "" where it has none, or where an earlier split has the same."""

    name: str  # qualified, e.g. scipy.linalg.solve
    package: str
    split: str  # train, val or test
    text: str  # paragraphs, with blank lines between
    summary: str  # its first sentence
    code: str  # signature and beginning of the body, if it documents a function


def write_documents(directory: Path, documents: list[Document], origin: dict, skipped: list[str]) -> None:
    """Writes documents.parquet, one row per document, and manifest.json: `origin`, the packages and their licenses, and
    `skipped`, the modules of the packages that do not parse."""
    schema = pa.schema([(field.name, pa.string()) for field in fields(Document)])
    with replacing(directory / FILE) as temporary:
        pq.write_table(pa.Table.from_pylist(list(map(vars, documents)), schema=schema), temporary)
    write_json(directory / "manifest.json", {**origin, "skipped": skipped})


def read_documents(directory: Path) -> tuple[list[Document], dict, list[str]]:
    """The documents, the origin and the skipped modules that `write_documents` wrote."""
    manifest = read_json(directory / "manifest.json")
    skipped = manifest.pop("skipped")
    return [Document(**row) for row in pq.read_table(directory / FILE).to_pylist()], manifest, skipped


def rows_manifest(origin: dict, splits: dict[str, Sized]) -> dict:
    """The manifest of rows made from documents of an origin: the origin, and the number of rows in each split."""
    return {**origin, "splits": {split: len(rows) for split, rows in splits.items()}}
