"""Labelled sets from tables: texts with their labels, instructions with their answers."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from gpt2.data_config import (
    ClassificationColumns,
    ClassificationDataParams,
    ExamplesParams,
    InstructionColumns,
    InstructionsDataParams,
)
from gpt2.errors import InputError
from gpt2.progress import bar
from gpt2.sources.origin import Origin, file_record, locate
from gpt2.sources.splits import SPLITS, Example, divide
from gpt2.sources.tables import Table, label_names

EMPTY, UNLABELLED = "empty", "without a label"  # why a row is dropped
NUMBER = re.compile("-?[0-9]{1,18}")
Rows = dict[str, list[dict]]  # by split


def read_classification(params: ClassificationDataParams, directory: Path) -> tuple[Rows, list[str], dict]:
    """Rows {"text", "label"} of each split, the labels in the order of their numbers, and the manifest.

    A label is called what `params.names`, else the data set, calls its number, else it stays as it is. Then labels that
    are whole numbers are in their order, others in the alphabet's. Raises InputError for a row that is malformed, a
    split that is empty or without labels, and a label that train lacks.
    """
    key, columns = "data.classification", params.columns
    origin = locate(params, key, directory)
    examples, names = Examples(key), None
    with closing(origin.tables()) as tables:
        for split, path, table in tables:
            names = _names(params, origin, table) if names is None else names
            examples.read(split, path, table, (columns.text, columns.label), partial(_classified, columns, names))
    labels = _labels(examples, params, names)
    rows, manifest = examples.finish(params, origin.record)
    return rows, labels, manifest


def read_instructions(params: InstructionsDataParams, directory: Path) -> tuple[Rows, dict]:
    """Rows {"instruction", "input", "output"} of each split, and the manifest; an input that is null becomes "".

    Raises InputError for a row that is malformed, and for a split that is empty.
    """
    columns = params.columns
    origin = locate(params, "data.instructions", directory)
    examples = Examples("data.instructions")
    wanted = [column for column in (columns.instruction, columns.input, columns.output) if column is not None]
    with closing(origin.tables()) as tables:
        for split, path, table in tables:
            examples.read(split, path, table, wanted, partial(_instructed, columns))
    return examples.finish(params, origin.record)


class Examples:
    """What is read of a labelled set, by split, and what of it is dropped."""

    def __init__(self, key: str):
        """`key`: the section of the params, which messages name."""
        self.key = key
        self.given: dict[str, list[Example]] = {}
        self.dropped = {split: Counter() for split in SPLITS}
        self.files: list[dict] = []

    def read(
        self,
        split: str,
        path: str,
        table: Table,
        columns: Sequence[str],
        example: Callable[[str, dict], Example | str],
    ) -> None:
        """Adds a file to a split. `example` makes one of place and row, or says why it is none."""
        own = self.given.setdefault(split, [])
        rows = 0
        for place, row in bar(table.rows(columns), desc=path, unit="row"):
            made = example(place, row)
            if isinstance(made, Example):
                own.append(made)
            else:
                self.dropped[split][made] += 1
            rows += 1
        self.files.append({"split": split, **file_record(path, table, rows)})

    def finish(self, params: ExamplesParams, record: dict) -> tuple[Rows, dict]:
        """The rows of each split, and the manifest that begins with `record`."""
        rows, dropped = divide(self.given, params)
        dropped = {split: {**self.dropped[split], **dropped[split]} for split in SPLITS}
        for split in SPLITS:
            if not rows[split]:
                why = ", ".join(f"{n} {reason}" for reason, n in dropped[split].items())
                raise InputError(f"{self.key}: no example is left for {split}{why and f': {why}'}")
        counts = {split: len(own) for split, own in rows.items()}
        return rows, {**record, "files": self.files, "splits": counts, "dropped": dropped}


def _classified(columns: ClassificationColumns, names: list[str], place: str, row: dict) -> Example | str:
    text = _text(row, columns.text, place)
    label = _label(row[columns.label], names, f"{place}: {columns.label}")
    if label is None:
        return UNLABELLED
    return Example(text, {"text": text, "label": label}) if text.strip() else EMPTY


def _instructed(columns: InstructionColumns, place: str, row: dict) -> Example | str:
    instruction, output = _text(row, columns.instruction, place), _text(row, columns.output, place)
    blank = columns.input is None or row[columns.input] is None
    input = "" if blank else _text(row, columns.input, place)
    if not instruction.strip() or not output.strip():
        return EMPTY
    return Example(json.dumps([instruction, input]), {"instruction": instruction, "input": input, "output": output})


def _text(row: dict, column: str, place: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise InputError(f"{place}: {column} = {value!r}: expected a text")
    return value


def _names(params: ClassificationDataParams, origin: Origin, table: Table) -> list[str]:
    """What the labels 0, 1, ... are called; none if nobody says."""
    if params.names:
        return list(params.names)
    names = label_names(table, params.columns.label)
    if names is None and params.source == "hub":
        names = origin.source.label_names(params.hub.config, params.columns.label)
    return names or []


def _label(value: object, names: list[str], where: str) -> str | None:
    """A label's name; None for a row that has none, for which sets whose numbers have names say -1."""
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float):
        raise InputError(f"{where} = {value!r}: expected a text or a number")
    if isinstance(value, float) and value.is_integer():  # what many tools make of whole numbers beside nulls
        value = int(value)
    if not names:
        return json.dumps(value) if isinstance(value, bool) else str(value)
    number = int(value) if isinstance(value, int) or NUMBER.fullmatch(str(value)) else None
    if number is None and value in names:
        return value
    if number == -1:
        return None
    if number is None or not 0 <= number < len(names):
        raise InputError(f"{where} = {value!r}: expected 0 to {len(names) - 1} for {', '.join(names)}")
    return names[number]


def _labels(examples: Examples, params: ClassificationDataParams, names: list[str]) -> list[str]:
    """The labels in order. Raises InputError for a split without labels, and for labels that train lacks."""
    found = {split: {example.row["label"] for example in own} for split, own in examples.given.items()}
    for split, labels in found.items():
        if labels <= {"-1"} and (labels or examples.dropped[split][UNLABELLED]):
            where = f"{examples.key}.{params.source}.{split} = {getattr(getattr(params, params.source), split)!r}"
            instead = "another split" if split == "train" else "another split, or to null to hold it out of train"
            raise InputError(f"{where}: its labels are hidden (-1 or none at all); set it to {instead}")
        for label in sorted(labels - found["train"]):
            raise InputError(f"{examples.key}: label {label!r} of {split} does not occur in train")
    if len(found["train"]) < 2:
        alone = ", ".join(map(repr, found["train"])) or "none"
        raise InputError(f"{examples.key}: expected at least two different labels in train, found {alone}")
    if names:
        return names
    numbers = all(NUMBER.fullmatch(label) for label in found["train"])
    return sorted(found["train"], key=int if numbers else None)
