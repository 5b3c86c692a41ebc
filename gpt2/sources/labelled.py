"""Labelled sets from tables: texts with their labels, instructions with their answers."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.progress import bar
from gpt2.config.data import (
    ClassificationColumns,
    ClassificationDataParams,
    ExamplesParams,
    InstructionColumns,
    InstructionsDataParams,
)
from gpt2.sources.origin import Origin, file_record, locate
from gpt2.sources.splits import SPLITS, Example, divide
from gpt2.sources.tables import Table, label_names

EMPTY, UNLABELLED = "empty", "without a label"  # why a row is dropped
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NUMBER = re.compile("-?[0-9]{1,18}")
FRACTION = re.compile(r"(-?[0-9]{1,18})\.0+")  # what many tools make of whole numbers beside nulls
Rows = dict[str, list[dict]]  # by split


def read_classification(params: ClassificationDataParams, directory: Path) -> tuple[Rows, list[str], dict]:
    """Rows {"text", "label"} of each split, the labels in the order of their numbers, and the manifest.

    A label is called what `params.names`, else the data set, calls its number, else it stays as it is. Then labels that
    are whole numbers are in their order, others in the alphabet's. Raises InputError for a row that is malformed, files
    that call their labels differently, a split that is empty or without labels, and a label that train lacks.
    """
    key, columns = "data.classification", params.columns
    origin = locate(params, key, directory)
    with closing(origin.tables()) as arriving:
        tables = list(arriving)
    names = _names(params, origin, [table for _, _, table in tables])
    examples = Examples(key)
    for split, path, table in tables:
        examples.read(split, path, table, (columns.text, columns.label), partial(_classified, columns, names))
    _check_labelled(examples, params)
    rows, manifest = examples.finish(params, origin.record)
    return rows, _labels(examples, rows, params, names), manifest


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
        for place, row in bar(table.rows(columns), desc=ascii(path)[1:-1], unit="row"):
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
                if self.given["train"] and (split not in self.given or (split == "train" and not why)):
                    why = f"heldout = {params.heldout} of {len(self.given['train'])} in all; change it or add examples"
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


def _names(params: ClassificationDataParams, origin: Origin, tables: Sequence[Table]) -> list[str]:
    """What the labels 0, 1, ... are called; none if nobody says. Raises InputError for files that do not agree."""
    said = [(table.where, names) for table in tables if (names := label_names(table, params.columns.label))]
    for where, names in said[1:]:
        first, expected = said[0]
        if names != expected:
            found, wanted = ", ".join(names), ", ".join(expected)
            raise InputError(f"{where}: its labels are called {found}; expected {wanted}, as in {first}")
    if params.names:
        return list(params.names)
    if said:
        return said[0][1]
    asked = params.source == "hub" and origin.source.label_names(params.hub.config, params.columns.label)
    return asked or []


def _label(value: object, names: list[str], where: str) -> str | None:
    """A label's name; None for a row that has none, for which sets whose numbers have names say -1.

    A text that is a name is that name. A number counts the names from 0, as does a text unless names are numbers too.
    """
    if value is None or value != value:  # NaN
        return None
    if not isinstance(value, str | int | float):
        raise InputError(f"{where} = {value!r}: expected a text or a number")
    label = json.dumps(value) if isinstance(value, bool) else str(value).strip()
    known = names if isinstance(value, str) else []  # what a text may be
    if label not in known and (whole := FRACTION.fullmatch(label)):
        label = whole[1]
    if CONTROL.search(label):
        raise InputError(f"{where} = {value!r}: expected a label without line breaks and other control characters")
    if not label or not names:
        return label or None
    if label in known:
        return label
    number = int(value) if isinstance(value, bool) else int(label) if NUMBER.fullmatch(label) else None
    if number == -1:
        return None
    if any(map(NUMBER.fullmatch, known)):
        raise InputError(f"{where} = {value!r}: expected one of {', '.join(names)}")
    if number is None or not 0 <= number < len(names):
        raise InputError(f"{where} = {value!r}: expected 0 to {len(names) - 1} for {', '.join(names)}")
    return names[number]


def _check_labelled(examples: Examples, params: ClassificationDataParams) -> None:
    """Raises InputError for a split whose labels are hidden."""
    for split, own in examples.given.items():
        if {example.row["label"] for example in own} <= {"-1"} and (own or examples.dropped[split][UNLABELLED]):
            where = f"{examples.key}.{params.source}.{split} = {getattr(getattr(params, params.source), split)!r}"
            instead = "another split" if split == "train" else "another split, or to null to hold it out of train"
            raise InputError(f"{where}: its labels are hidden (-1 or none at all); set it to {instead}")


def _labels(examples: Examples, rows: Rows, params: ClassificationDataParams, names: list[str]) -> list[str]:
    """The labels in order. Raises InputError unless train has every one, and at least two."""
    key, found = examples.key, {row["label"] for row in rows["train"]}
    given = {split: {example.row["label"] for example in own} for split, own in examples.given.items()}
    for split, labels in given.items():
        for label in sorted(labels - given["train"]):
            raise InputError(f"{key}: label {label!r} of {split} does not occur in train")
        for label in sorted(labels - found):
            limits = f"max_train = {params.max_train} and heldout = {params.heldout}"
            raise InputError(f"{key}: {limits} leave train no example of label {label!r}; change them or add examples")
    if len(found) < 2:
        raise InputError(f"{key}: expected at least two different labels in train, found {', '.join(map(repr, found))}")
    if names:
        return names
    return sorted(found, key=int if all(NUMBER.fullmatch(label) for label in found) else None)
