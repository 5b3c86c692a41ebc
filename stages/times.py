"""Where the minutes go: `python -m stages.times` prints the seconds that each stage took, and each part of it.

The times are those of a stage's last success here. DVC skips a stage that is up to date and may restore one from its
cache; then the stage does not run, and the time of its last run stays. The column `ended` tells such times apart.
"""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.stopwatch import PARTS
from stages.params import read_yaml
from stages.stage import SECONDS, root, seconds_of_stages


def table(seconds: dict[str, dict[str, float]], ended: dict[str, str]) -> Iterator[str]:
    """The lines: one per stage with its parts, its share of the total, and when it `ended`; then the total."""
    columns = {part: sum(parts.get(part, 0) for parts in seconds.values()) for part in PARTS}
    total, width = sum(columns.values()), max(map(len, seconds))
    widths = {part: 2 + max(7, len(part)) for part in PARTS}
    head = "".join(f"{part:>{widths[part]}}" for part in PARTS)
    yield f"{'stage':<{width}}{'seconds':>9}{'share':>7}{head}  ended"
    for stage, parts in [*seconds.items(), ("total", columns)]:
        took = sum(parts.values())
        cells = "".join(f"{f'{parts[part]:.1f}' if part in parts else '':>{widths[part]}}" for part in PARTS)
        yield f"{stage:<{width}}{took:9.1f}{took / total:7.1%}{cells}  {ended.get(stage, '')}".rstrip()


def times() -> Iterator[str]:
    """The table of the stages that have run here. Raises InputError if none has."""
    seconds, order = seconds_of_stages(), read_yaml(Path("dvc.yaml"))["stages"]
    if not (stages := [stage for stage in order if stage in seconds]):
        raise InputError("no stage has run here yet: run `dvc repro`")
    files = {stage: root() / SECONDS / f"{stage}.json" for stage in stages}
    ended = {stage: f"{datetime.fromtimestamp(file.stat().st_mtime):%Y-%m-%d %H:%M}" for stage, file in files.items()}
    yield from table({stage: seconds[stage] for stage in stages}, ended)
    if never := [stage for stage in order if stage not in seconds]:
        yield f"not run here: {', '.join(never)}"


if __name__ == "__main__":
    try:
        print(*times(), sep="\n")
    except InputError as error:
        sys.exit(str(error))
