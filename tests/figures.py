"""Figures that pages quote from reports/: a number that links to its file, with its key as the title of the link.

    [4.349](../reports/pretrain/metrics.json "val_loss")                     in JSON: keys, joined by dots
    [5.186](../reports/pretrain/val.csv "loss, step=150")                    in CSV: the column, and the row

`python -m tests.figures` rewrites the figures of all pages from the files of reports/.
"""

import csv
import io
import json
import re
import subprocess
from functools import reduce

from tests.conftest import ROOT
from tests.pages import PAGES, read

FIGURE = re.compile(r"\[([-\d.,e]+)\]\((?:\.\./)?(reports/[\w/]+\.(?:json|csv)) \"([^\"]+)\"\)")


def staged(path: str) -> str:
    """A file as git would commit it: the work tree may hold the results of another profile."""
    return subprocess.run(["git", "show", f":{path}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def value(text: str, path: str, key: str) -> float:
    """The number under a key of a report's text. Raises KeyError if there is none."""
    if path.endswith(".json"):
        number = reduce(lambda section, name: section[name], key.split("."), json.loads(text))
        if not isinstance(number, int | float):
            raise KeyError(f"{path}: {key} is {number!r}, expected a number")
        return float(number)
    column, *conditions = key.split(", ")
    where = dict(condition.split("=") for condition in conditions)
    rows = [row for row in csv.DictReader(io.StringIO(text)) if where.items() <= row.items()]
    if len(rows) != 1:
        raise KeyError(f"{path}: {len(rows)} rows with {where}")
    return float(rows[0][column])


def formatted_like(written: str, number: float) -> str:
    """A number in the format of `written`: as many digits, thousands marked or not, with an exponent or without."""
    digits = len(written.split("e")[0].partition(".")[2])
    return f"{number:.{digits}e}" if "e" in written else f"{number:{',' if ',' in written else ''}.{digits}f}"


def updated(page: str, read_report=staged) -> str:
    """The text of a page with the figures that its reports have now."""

    def replace(match: re.Match) -> str:
        written, path, key = match.groups()
        return match[0].replace(f"[{written}]", f"[{formatted_like(written, value(read_report(path), path, key))}]")

    return FIGURE.sub(replace, page)


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / name).write_text(updated(read(name), read), encoding="utf-8")
