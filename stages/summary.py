"""Prints where the report is and the headline metrics: `python -m stages.summary`."""

import sys
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.files import read_json

REPORT = Path("reports/index.html")


def headline() -> str:
    """The address of the report, then one line per metric of `reports/metrics.json`."""
    lines = [
        f"{section + '.' + name:<45}{value:>14,.4g}"
        for section, part in read_json(REPORT.with_name("metrics.json")).items()
        for name, value in part.items()
        if isinstance(value, (int, float))
    ]
    return "\n".join([f"report: {REPORT.resolve().as_uri()}", *lines])


if __name__ == "__main__":
    try:
        print(headline())
    except InputError as error:
        sys.exit(str(error))
