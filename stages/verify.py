"""Compares the results here with the committed ones: `python -m stages.verify`. `make verify` runs the chain first.

`dvc.lock` records the command, the params and the hashes of all inputs and outputs of each stage. This compares the
`dvc.lock` that `dvc repro` leaves with that of the last commit, stage by stage in the order of the chain.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.common.mappings import flat
from gpt2.report.lineage import environment
from stages.params import parse_yaml, read_yaml

LOCK = Path("dvc.lock")
THROUGHPUT = "reports/pretrain/throughput.json"
MACHINE = (THROUGHPUT, "reports/index.html")  # differ from run to run: the measured speed, and the page that shows it

Facts = dict[tuple[str, str], object]  # of a stage, by kind (command, param, dep, out) and name


def read_lock(content: bytes, where: str) -> dict[str, Facts]:
    """Reads the facts of every stage in a dvc.lock. Raises InputError unless DVC 3 wrote it."""
    lock = parse_yaml(content, where)
    schema = lock.get("schema") if isinstance(lock, dict) else None
    if schema != "2.0":
        raise InputError(f"{where}: schema = {schema!r}: expected '2.0', the schema of DVC 3")
    return {stage: _facts(stage, record) for stage, record in lock["stages"].items()}


def _facts(stage: str, record: dict) -> Facts:
    """All facts except the hashes of the files in MACHINE and of the folders that hold them."""
    values = flat(record.get("params", {}).get("params.yaml", {}))
    params = {("param", name): value for name, value in values.items()}
    hashes = {
        (kind, file["path"]): file["md5"]
        for kind in ("dep", "out")
        for file in record.get(f"{kind}s", [])
        if not any(Path(name).is_relative_to(file["path"]) for name in MACHINE)
    }
    return {("command", stage): record["cmd"], **params, **hashes}


def compare(committed: dict[str, Facts], here: dict[str, Facts], order: Iterable[str]) -> Iterator[str]:
    """Describes each difference at the first stage that has it. Names the stages that differ only because of others."""
    known: list[str] = []  # names of the inputs and outs that differ in earlier stages
    explained = []
    for stage in order:
        before, after = committed.get(stage, {}), here.get(stage, {})
        differing = [fact for fact in {**before, **after} if before.get(fact) != after.get(fact)]
        inputs = [(kind, name) for kind, name in differing if kind != "out"]
        new = [(kind, name) for kind, name in inputs if not any(Path(name).is_relative_to(other) for other in known)]
        if inputs and not new:
            explained.append(stage)
        elif differing:
            which = "also differs by itself" if known else "the first stage that differs"
            kinds = ", ".join(dict.fromkeys(kind for kind, _ in new))
            yield f"{stage}: {which}: {f'different {kinds}' if kinds else 'same inputs, different outputs'}"
            for kind, name in [*new, *(fact for fact in differing if fact not in inputs)]:
                values = (facts.get((kind, name), "nothing") for facts in (before, after))
                yield "  {} {}: committed {}, here {}".format(kind, name, *values)
        known += [name for _, name in differing]
    if explained:
        yield f"the differences above explain these: {', '.join(explained)}"


def read_committed(path: str) -> bytes:
    """Reads a file as it is in the last commit. Raises InputError if there is no commit, or no such file in it."""
    try:
        done = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True)
    except FileNotFoundError:
        raise InputError(f"{path}: git is not installed, so there is no committed version to compare with") from None
    if done.returncode:
        raise InputError(f"{path}: no committed version to compare with: {_first_line(done.stderr)}")
    return done.stdout


def check_up_to_date(order: Iterable[str]) -> None:
    """Raises InputError that names the first stage whose record in dvc.lock is out of date."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True)
    if done.returncode:
        raise InputError(f"dvc status: {_first_line(done.stderr or done.stdout)}")
    stale = [stage for stage in order if stage in json.loads(done.stdout)]
    if stale:
        raise InputError(f"{stale[0]} is out of date (`dvc status` lists the changes): run `dvc repro` first")


def _first_line(output: bytes) -> str:
    return next(iter(output.decode(errors="replace").strip().splitlines()), "no message")


def conditions() -> Iterator[str]:
    """What affects rounding: in the committed run, as far as it is recorded, and here."""
    for which, content in (("committed", read_committed(THROUGHPUT)), ("here", Path(THROUGHPUT).read_bytes())):
        facts = json.loads(content)
        device, precision, compiled = (facts.get(key, "unknown") for key in ("device", "precision", "compiled"))
        yield f"{which}: pretrained on {device}, {precision}, compiled: {compiled}"
    yield "here: " + ", ".join(f"{name} {value}" for name, value in environment().items())
    yield "On another kind of processor metrics agree within a tolerance: README.md, Reproducing it"


def verify() -> list[str]:
    """Lines that describe the differences, if any. Raises InputError if there is nothing to compare."""
    if not LOCK.exists():
        raise InputError(f"{LOCK}: no such file: run `dvc repro` first")
    order = list(read_yaml(Path("dvc.yaml"))["stages"])
    committed, here = read_lock(read_committed(str(LOCK)), f"HEAD:{LOCK}"), read_lock(LOCK.read_bytes(), str(LOCK))
    check_up_to_date(order)
    differences = list(compare(committed, here, order))
    return [*differences, *conditions()] if differences else []


if __name__ == "__main__":
    try:
        lines = verify()
    except InputError as error:
        sys.exit(str(error))
    print("\n".join(lines) or f"equal: {LOCK} matches the last commit, except {' and '.join(MACHINE)}")
    sys.exit(bool(lines))
