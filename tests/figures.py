"""Figures that pages of docs/ quote from reports/: a number that is a link to its file, and its key as the title.

    [4.349](../reports/pretrain/metrics.json "val_loss")                     of JSON: keys, joined by dots
    [5.186](../reports/pretrain/val.csv "loss, step=150")                    of CSV: the column, and which row

As a command (`python -m tests.figures`) it puts into the pages what the files of reports/ now say.
"""

import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path

from tests.conftest import ROOT

FIGURE = re.compile(r"\[([-\d.,e]+)\]\(\.\./(reports/[\w/]+\.(?:json|csv)) \"([^\"]+)\"\)")


def versions(path: str) -> Iterator[str]:
    """A file as it lies here, which may be of another run, and as the last commit has it."""
    if (ROOT / path).exists():
        yield (ROOT / path).read_text(encoding="utf-8")
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode == 0:
        yield shown.stdout


def value(text: str, path: str, key: str) -> float:
    """The number under a key of a report's text. Raises KeyError if there is none."""
    if path.endswith(".json"):
        found = reduce(lambda section, name: section[name], key.split("."), json.loads(text))
        if not isinstance(found, int | float):
            raise KeyError(f"{path}: {key} is {found!r}, expected a number")
        return float(found)
    column, *wanted = key.split(", ")
    where = dict(condition.split("=") for condition in wanted)
    rows = [row for row in csv.DictReader(io.StringIO(text)) if where.items() <= row.items()]
    if len(rows) != 1:
        raise KeyError(f"{len(rows)} rows with {where}")
    return float(rows[0][column])


def like(written: str, number: float) -> str:
    """A number as `written` writes its own: as many digits, thousands marked or not, with an exponent or without."""
    digits = len(written.split("e")[0].partition(".")[2])
    return f"{number:.{digits}e}" if "e" in written else f"{number:{',' if ',' in written else ''}.{digits}f}"


def known(written: str, path: str, key: str) -> list[str]:
    """What a figure may read: the numbers of the file's versions that have the key, written like `written`."""
    numbers = set()
    for text in versions(path):
        with suppress(KeyError):
            numbers.add(like(written, value(text, path, key)))
    return sorted(numbers)


def mended(page: str) -> str:
    """The text of a page with the numbers that reports/ has now."""

    def put(match: re.Match) -> str:
        written, path, key = match.groups()
        text = (ROOT / path).read_text(encoding="utf-8")
        return match[0].replace(f"[{written}]", f"[{like(written, value(text, path, key))}]")

    return FIGURE.sub(put, page)


if __name__ == "__main__":
    for place in sorted(Path(ROOT / "docs").glob("*.md")):
        place.write_text(mended(place.read_text(encoding="utf-8")), encoding="utf-8")
