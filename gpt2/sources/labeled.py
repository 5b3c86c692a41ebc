"""Labeled sets from tables: texts with their labels, instructions with their answers."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.config.data import ClassificationDataParams, ExamplesParams, InstructionColumns, InstructionsDataParams
from gpt2.sources.files import Source, file_record, locate
from gpt2.sources.splits import SPLITS, Example, divide
from gpt2.sources.tables import check_columns, label_names, read_rows, text_of

EMPTY, UNLABELED = "empty", "without a label"  # why a row is dropped
UNORDERED, UNANSWERED = "not user and assistant in turn", "without an answer"
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
NUMBER = re.compile(r"-?\d+(\.\d+)?")
Rows = dict[str, list[dict]]  # by split


def read_classification(params: ClassificationDataParams, directory: Path) -> tuple[Rows, list[str], dict]:
    """Rows {"text", "label"} of each split, the labels in the order of their numbers, and the manifest.

    `params.names`, or else the data set, names the labels 0, 1, ...; without names, labels stay as they are, numbers
    in their order and others in that of the alphabet. Raises InputError for a malformed row, a split that is
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
    by_number = all(map(NUMBER.fullmatch, found["train"]))
    return rows, names or sorted(found["train"], key=float if by_number else None), manifest


def read_instructions(params: InstructionsDataParams, directory: Path) -> tuple[Rows, dict]:
    """Rows {"instruction", "input", "output"} of each split, and the manifest; an input that is missing becomes "".

    A conversation of more than one question and answer, or with a system turn, is a row {"messages"} instead: a list of
    turns {"role", "content"} that ends with an answer. Raises InputError for a malformed row, and for a split that is
    empty.
    """
    key, columns = "data.instructions", params.columns
    if columns.messages:
        wanted, example = [columns.messages], partial(_conversation, columns.messages)
    else:
        wanted, example = [columns.instruction, columns.output], partial(_instruction, columns)
        if columns.input not in (None, InstructionColumns().input):  # a set may lack the column unless it is named
            wanted.append(columns.input)
    return _read(locate(params, key, directory), key, params, wanted, example)


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
                why = "too few in train to hold one out"
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


def _conversation(column: str, place: str, row: dict) -> Example | str:
    """A conversation as far as its last answer, as an instruction with its answer where it is just that."""
    place, turns = f"{place}: {column}", row.get(column)
    if turns is None or turns != turns:  # NaN
        return EMPTY
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"{place} = {turns!r}: expected a list of turns {{role, content}} or {{from, value}}")
    messages = []
    for number, turn in enumerate(turns, start=1):
        role, content = ("from", "value") if turn.get("role") is None else ("role", "content")
        check_columns(f"{place}, turn {number}", turn, [role, content])
        text = text_of(turn, content, f"{place}, turn {number}")
        messages.append({"role": ROLES.get(str(turn[role]).lower(), "other"), "content": text})
    if messages and messages[0]["role"] == "system" and not messages[0]["content"].strip():
        del messages[0]
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        return UNANSWERED
    del messages[len(roles) - roles[::-1].index("assistant") :]  # questions without an answer
    system = messages[: roles[0] == "system"]
    asked, answers = messages[len(system) :: 2], messages[len(system) + 1 :: 2]
    if {turn["role"] for turn in asked} != {"user"} or {turn["role"] for turn in answers} != {"assistant"}:
        return UNORDERED
    if not all(message["content"].strip() for message in messages):
        return EMPTY
    plain = {"instruction": asked[0]["content"], "input": "", "output": answers[0]["content"]}
    made = plain if len(messages) == 2 else {"messages": messages}
    return Example(json.dumps(messages[:-1]), made)


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

    A number is an index of `names`, and so is a text that is a number, unless names are numbers too. Whole numbers are
    the same label however a file writes them: 1, 1.0, "1" or "1.0".
    """
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, str) and value.strip().lower() in ("true", "false") and value.strip() not in names:
        value = value.strip().lower() == "true"  # csv spells booleans as texts
    if not isinstance(value, str | int | float):
        raise InputError(f"{where} = {value!r}: expected a text or a number")
    text = str(value).strip()
    label = re.sub(r"^(-?\d+)\.0+$", r"\1", text)
    if isinstance(value, bool):
        spelled = [name for name in names if name.lower() == text.lower()]
        label = spelled[0] if spelled else str(int(value)) if names else text.lower()
    if not names or not label:
        return label
    if isinstance(value, str | bool) or "-1" in names:
        for name in (text, label):
            if name in names:
                return name
    if label == "-1":
        return None
    numbered = not isinstance(value, str) or not any(name.isdecimal() for name in names)
    if not numbered or not label.isdecimal() or int(label) >= len(names):
        raise InputError(f"{where} = {value!r}: expected one of {', '.join(names)}, or its number from 0")
    return names[int(label)]
