"""Compares the results here with the committed ones: `python -m stages.verify`. `make verify` runs the chain first.

`dvc.lock` records the command, the params and the hashes of all inputs and outputs of each stage. This compares the
`dvc.lock` that `dvc repro` leaves with that of the last commit, stage by stage in the order of the chain.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2.common.errors import InputError
from gpt2.report.lineage import environment
from stages.params import flat, parse_yaml, read_yaml

LOCK = Path("dvc.lock")
THROUGHPUT = "reports/pretrain/throughput.json"
MACHINE = (THROUGHPUT, "reports/index.html")  # differ from run to run: the measured speed, and the page that shows it

Facts = dict[tuple[str, str], object]  # of a stage, by kind (command, param, dep, out) and name


@dataclass(frozen=True)
class Difference:
    """A stage with different records. Each fact that differs has a pair: the committed value and the one here."""

    stage: str
    inputs: dict[tuple[str, str], tuple]  # command, params and deps that differ for the first time in the chain
    outs: dict[tuple[str, str], tuple]
    inherited: bool  # other inputs differ too: outs of an earlier stage, or what an earlier stage also reads

    @property
    def explained(self) -> bool:
        """Whether the differences before it explain this one."""
        return self.inherited and not self.inputs


def read_lock(content: bytes, where: str) -> dict[str, Facts]:
    """Reads the facts of every stage in a dvc.lock. Raises InputError unless DVC 3 wrote it."""
    lock = parse_yaml(content, where)
    schema = lock.get("schema") if isinstance(lock, dict) else None
    if schema != "2.0":
        raise InputError(f"{where}: schema = {schema!r}: expected '2.0', the schema of DVC 3")
    return {stage: _facts(record) for stage, record in lock["stages"].items()}


def _facts(record: dict) -> Facts:
    """All facts except the hashes of the files in MACHINE and of the folders that hold them."""
    values = flat(record.get("params", {}).get("params.yaml", {}))
    params = {("param", name): value for name, value in values.items()}
    hashes = {
        (kind, file["path"]): file["md5"]
        for kind in ("dep", "out")
        for file in record.get(f"{kind}s", [])
        if not any(Path(name).is_relative_to(file["path"]) for name in MACHINE)
    }
    return {("command", "cmd"): record["cmd"], **params, **hashes}


def compare(committed: dict[str, Facts], here: dict[str, Facts], order: Iterable[str]) -> list[Difference]:
    """The stages that differ, in the given order."""
    differences: list[Difference] = []
    for stage in order:
        before, after = committed.get(stage), here.get(stage)
        if before is None or after is None:
            before, after = ({("stage", stage): facts and "recorded"} for facts in (before, after))
        pairs = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
        differing = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        made = {path for earlier in differences for _, path in earlier.outs}
        known = {key for earlier in differences for key in earlier.inputs}
        known |= {key for key in differing if key[0] == "dep" and any(Path(key[1]).is_relative_to(out) for out in made)}
        outs = {key: pair for key, pair in differing.items() if key[0] == "out"}
        inputs = {key: pair for key, pair in differing.items() if key not in known and key not in outs}
        if differing:
            differences.append(Difference(stage, inputs, outs, inherited=bool(known & differing.keys())))
    return differences


def describe(differences: list[Difference]) -> Iterator[str]:
    """Lines for a reader: the first stage that differs, other stages with differences of their own, and the rest."""
    for number, difference in enumerate(differences):
        if difference.explained:
            continue
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in difference.inputs))
        which = "the first stage that differs" if number == 0 else "also differs by itself"
        yield f"{difference.stage}: {which}: {f'different {kinds}' if kinds else 'same inputs, different outputs'}"
        for (kind, name), (committed, here) in {**difference.inputs, **difference.outs}.items():
            yield f"  {kind} {name}: committed {_shown(committed)}, here {_shown(here)}"
    if explained := [difference.stage for difference in differences if difference.explained]:
        yield f"the differences above explain these: {', '.join(explained)}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value) if str(value).isprintable() else repr(value)


def read_committed(path: str) -> bytes:
    """Reads a file as it is in the last commit. Raises InputError if there is no commit, or no such file in it."""
    done = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True)
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
    differences = compare(committed, here, order)
    computed = any(not difference.inputs and not difference.inherited for difference in differences)
    return [*describe(differences), *(conditions() if computed else ())]


if __name__ == "__main__":
    try:
        lines = verify()
    except InputError as error:
        sys.exit(str(error))
    print("\n".join(lines) or f"equal: {LOCK} matches the last commit, except {' and '.join(MACHINE)}")
    sys.exit(bool(lines))
