"""HellaSwag, and sets in its form, from tables."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from gpt2.common.errors import InputError
from gpt2.config.data import HellaSwagDataParams
from gpt2.config.schema import Section, Text, parse
from gpt2.sources.origin import file_record, locate

ENDINGS = 4
COLUMNS = ("ind", "activity_label", "ctx", "endings", "label")
MORE = ("split", "ctx_a", "ctx_b", "split_type", "source_id")  # are kept where the source has them


def _whole(value: object) -> object:
    """The hub has the label as text; where it is hidden, as in the test split, that is empty."""
    if value == "":
        raise ValueError("expected a whole number; a split whose labels are hidden cannot be scored")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class Completion(Section):
    """A row of the data set."""

    model_config = ConfigDict(extra="allow")

    ind: Whole
    activity_label: str
    ctx: Text
    endings: Annotated[list[str], Field(min_length=ENDINGS, max_length=ENDINGS)]
    label: Annotated[Whole, Field(ge=0, lt=ENDINGS)]  # which ending is the true one
    split: str = "val"


def read_completions(params: HellaSwagDataParams, directory: Path) -> tuple[list[dict], dict]:
    """The first `params.max_examples` rows in HellaSwag's own schema, with the label as a number; and the manifest.

    `directory` holds the files of source local. Raises InputError for a row that is malformed, and if there is none.
    """
    origin = locate(params, "data.hellaswag", directory)
    rows: list[dict] = []
    files = []
    with closing(origin.tables()) as tables:
        for _, path, table in tables:
            room = None if params.max_examples is None else params.max_examples - len(rows)
            if room == 0:
                break
            found = islice(table.rows(COLUMNS, MORE), room)
            taken = [parse(Completion, row, place).model_dump() for place, row in found]
            rows += taken
            files.append(file_record(path, table, len(taken)))
    if not rows:
        raise InputError(f"data.hellaswag: no examples in {origin}")
    return rows, {**origin.record, "files": files, "splits": {"val": len(rows)}}
