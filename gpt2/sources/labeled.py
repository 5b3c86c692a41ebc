"""Labeled sets from tables: texts with their labels, instructions with their answers."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.config.data import ClassificationDataParams, ExamplesParams, InstructionColumns, InstructionsDataParams
from gpt2.sources.files import Source, file_record, locate
from gpt2.sources.splits import HELDOUT, SPLITS, Example, divide
from gpt2.sources.tables import check_columns, label_names, read_rows, text_of

EMPTY, UNLABELED = "empty", "without a label"  # why a row is dropped
Rows = dict[str, list[dict]]  # by split


def read_classification(params: ClassificationDataParams, directory: Path) -> tuple[Rows, list[str], dict]:
    """Rows {"text", "label"} of each split, the labels in the order of their numbers, and the manifest.

    `params.names`, or else the data set, names the labels 0, 1, ...; without names, labels stay as they are, whole
    numbers in their order and others in that of the alphabet. Raises InputError for a malformed row, a split that is
    empty or without labels, and a label that train lacks.
    """
    key, columns = "data.classification", params.columns
    source = locate(params, key, directory)
    names = _names(params, source)
    wanted, example = [columns.text, columns.label], partial(_labeled, columns.text, columns.label, names)
    rows, manifest = _read(source, key, params, wanted, example)
    found = {split: {row["label"] for row in rows[split]} for split in SPLITS}
    for split in ("val", "test"):
        for label in sorted(found[split] - found["train"]):
            limit = f" (max_train = {params.max_train})" if params.max_train else ""
            raise InputError(f"{key}: label {label!r} of {split} does not occur in train{limit}")
    if len(found["train"]) < 2:
        raise InputError(f"{key}: expected at least two different labels, found {', '.join(found['train'])!r}")
    by_number = all(label.removeprefix("-").isdecimal() for label in found["train"])
    return rows, names or sorted(found["train"], key=int if by_number else None), manifest


def read_instructions(params: InstructionsDataParams, directory: Path) -> tuple[Rows, dict]:
    """Rows {"instruction", "input", "output"} of each split, and the manifest; an input that is null becomes "".

    Raises InputError for a malformed row, and for a split that is empty.
    """
    key, columns = "data.instructions", params.columns
    wanted = [column for column in (columns.instruction, columns.input, columns.output) if column]
    return _read(locate(params, key, directory), key, params, wanted, partial(_instruction, columns))


def _read(
    source: Source,
    key: str,
    params: ExamplesParams,
    columns: Sequence[str],
    example: Callable[[str, dict], Example | str],
) -> tuple[Rows, dict]:
    """The rows of each split, and the manifest. `example` turns a row into an Example, or returns why it is dropped."""
    given: dict[str, list[Example]] = {}
    reasons = {split: Counter() for split in SPLITS}
    files = []
    for split, path, file in source.files():
        where = source.where(path)
        rows = list(read_rows(file, where))
        check_columns(where, dict.fromkeys(name for row in rows for name in row), columns if rows else [])
        for number, row in enumerate(rows, start=1):
            made = example(f"{where}, row {number}", row)
            if isinstance(made, Example):
                given.setdefault(split, []).append(made)
            else:
                reasons[split][made] += 1
        given.setdefault(split, [])
        files.append({"split": split, **file_record(path, file, len(rows))})
    for split, counts in reasons.items():
        if counts[UNLABELED] and not given[split]:
            raise InputError(f"{key}.{split} = {getattr(params, split)!r}: its labels are hidden; name another split")
    rows, dropped = divide(given, params)
    dropped = {split: {**reasons[split], **dropped[split]} for split in SPLITS}
    for split in SPLITS:
        if not rows[split]:
            why = ", ".join(f"{n} {reason}" for reason, n in dropped[split].items())
            if split not in given:
                why = f"{HELDOUT:.0%} of {len(given['train'])} are none; add examples"
            raise InputError(f"{key}: no example is left for {split}{why and f': {why}'}")
    counts = {split: len(examples) for split, examples in rows.items()}
    return rows, {**source.record, "files": files, "splits": counts, "dropped": dropped}


def _labeled(text_column: str, label_column: str, names: Sequence[str], place: str, row: dict) -> Example | str:
    text = text_of(row, text_column, place)
    label = _label(row.get(label_column), names, f"{place}: {label_column}")
    if not label:
        return UNLABELED
    return Example(text, {"text": text, "label": label}) if text.strip() else EMPTY


def _instruction(columns: InstructionColumns, place: str, row: dict) -> Example | str:
    instruction, output = text_of(row, columns.instruction, place), text_of(row, columns.output, place)
    input = text_of(row, columns.input, place) if columns.input else ""
    if not instruction.strip() or not output.strip():
        return EMPTY
    return Example(json.dumps([instruction, input]), {"instruction": instruction, "input": input, "output": output})


def _names(params: ClassificationDataParams, source: Source) -> list[str]:
    """The names of the labels 0, 1, ...: those of the params, or else of the data set's card or of its files; or [].

    Raises InputError if the files name the labels differently.
    """
    column = params.columns.label
    if names := params.names or getattr(source.features.get(column), "names", None):
        return list(map(str, names))
    names = []
    for _, path, file in source.files():
        found = list(map(str, label_names(file, source.where(path), column) or []))
        if found and names and found != names:
            raise InputError(f"{source.where(path)}: names its labels {found}; expected {names}, as in another file")
        names = names or found
    return names


def _label(value: object, names: Sequence[str], where: str) -> str | None:
    """The name of a label; None for a row without one, which sets with named labels mark by -1.

    A number is an index of `names`; so is a text that is a number, unless names are numbers too.
    """
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, float) and value.is_integer():  # pandas writes whole numbers so where some are missing
        value = int(value)
    if not isinstance(value, str | int | float):
        raise InputError(f"{where} = {value!r}: expected a text or a number")
    label = json.dumps(value) if isinstance(value, bool) else str(value).strip()
    if not names or not label or (isinstance(value, str) and label in names):
        return label
    if label == "-1":
        return None
    numbered = isinstance(value, int) or (label.isdecimal() and not any(name.isdecimal() for name in names))
    if not numbered or not 0 <= int(value) < len(names):
        raise InputError(f"{where} = {value!r}: expected one of {', '.join(names)}, or its number from 0")
    return names[int(value)]
