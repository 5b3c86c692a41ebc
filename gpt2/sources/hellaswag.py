"""HellaSwag, and sets in its form, from tables."""

from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from gpt2.common.errors import InputError
from gpt2.config.data import HellaSwagDataParams
from gpt2.config.schema import Section, Text, parse
from gpt2.sources.files import file_record, locate
from gpt2.sources.tables import read_rows

ENDINGS = 4


def _whole(value: object) -> object:
    """The hub has labels as text, which is empty where they are hidden, as in the test split."""
    if value == "":
        raise ValueError("expected a whole number; a split whose labels are hidden cannot be scored")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class Completion(Section):
    """A row of the data set. Other columns are left out."""

    model_config = ConfigDict(extra="ignore")

    ind: Whole
    activity_label: str
    ctx: Text
    endings: Annotated[list[str], Field(min_length=ENDINGS, max_length=ENDINGS)]
    label: Annotated[Whole, Field(ge=0, lt=ENDINGS)]  # index of the true ending
    split: str = "val"
    ctx_a: object = None
    ctx_b: object = None
    split_type: object = None
    source_id: object = None


def table_completions(path: Path, where: str, limit: int | None = None) -> list[dict]:
    """The first `limit` rows of a table in HellaSwag's own schema, with the label as a number.

    Raises InputError with `where`, the name of the file, and the row, counted from 1, if one is malformed.
    """
    rows = enumerate(islice(read_rows(path, where), limit), start=1)
    return [parse(Completion, row, f"{where}, row {n}").model_dump(exclude_unset=True) for n, row in rows]


def read_completions(params: HellaSwagDataParams, directory: Path) -> tuple[list[dict], dict]:
    """The first `params.max_examples` rows in HellaSwag's own schema, with the label as a number; and the manifest.

    `directory` holds the files of source local. Raises InputError for a malformed row, and if there is none.
    """
    source = locate(params, "data.hellaswag", directory)
    rows: list[dict] = []
    files = []
    for _, path, file in source.files():
        where = source.where(path)
        room = None if params.max_examples is None else params.max_examples - len(rows)
        found = table_completions(file, where, room)
        rows += found
        files.append(file_record(path, file, len(found)))
        if len(rows) == params.max_examples:
            break
    if not rows:
        raise InputError(f"data.hellaswag: no examples in {where}")
    return rows, {**source.record, "files": files, "splits": {"val": len(rows)}}
