"""Compares the results here with the committed ones: `python -m stages.verify`. `make verify` runs the chain first.

`dvc.lock` records the command, the params and the hashes of all inputs and outputs of each stage. This compares the
`dvc.lock` that `dvc repro` leaves with that of the last commit, stage by stage in the order of the chain. If only
outputs differ and another kind of processor made them, each metric may differ by its tolerance in stages/tolerance.py.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt2.common.errors import InputError
from gpt2.common.files import read_json
from gpt2.common.mappings import flat
from gpt2.report.lineage import environment
from stages.params import parse_yaml, read_yaml
from stages.tolerance import Difference, metric_differences, table, verdict_differences

LOCK = Path("dvc.lock")
VERDICTS = "reports/metrics.json"  # repeats the metrics of the other files, and adds the verdicts
THROUGHPUT = "reports/pretrain/throughput.json"
MACHINE = (THROUGHPUT, "reports/index.html")  # differ from run to run: the measured speed, and the page that shows it

# Facts of THROUGHPUT. Runs in which the first are equal must have the same bits.
CONDITIONS = ("device", "processes", "threads", "precision", "compiled", "recompute", "micro_batch_size")
CHANGED, MIXED = "code_changed_at_step", "conditions_changed_at_step"

EXACT = ("data/raw", "data/tokenizer", "data/tokens", "data/models/gpt2")  # text, tokens, copies: no rounding in them

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


class Change(NamedTuple):
    """A stage whose facts are not those of the committed run."""

    stage: str
    new: list[tuple[str, str]]  # inputs whose difference no earlier stage explains
    outs: list[tuple[str, str]]
    explained: bool  # whether inputs differ, and earlier stages explain all of them


def compare(committed: dict[str, Facts], here: dict[str, Facts], order: Iterable[str]) -> Iterator[Change]:
    """Yields the stages that differ, in the order of the chain. A fact is new only in the first stage that has it."""
    known: list[str] = []  # names of the inputs and outs that differ in earlier stages
    for stage in order:
        before, after = committed.get(stage, {}), here.get(stage, {})
        differing = [fact for fact in {**before, **after} if before.get(fact) != after.get(fact)]
        inputs = [(kind, name) for kind, name in differing if kind != "out"]
        new = [(kind, name) for kind, name in inputs if not any(Path(name).is_relative_to(other) for other in known)]
        if differing:
            outs = [fact for fact in differing if fact not in inputs]
            yield Change(stage, new, outs, explained=bool(inputs) and not new)
        known += [name for _, name in differing]


def describe(changes: list[Change], committed: dict[str, Facts], here: dict[str, Facts]) -> Iterator[str]:
    """Describes each difference at the first stage that has it. Names the stages that differ only because of others."""
    for stage, new, outs, explained in changes:
        if explained:
            continue
        which = "also differs by itself" if stage != changes[0].stage else "the first stage that differs"
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in new))
        yield f"{stage}: {which}: {f'different {kinds}' if kinds else 'same inputs, different outputs'}"
        for kind, name in [*new, *outs]:
            values = (facts.get(stage, {}).get((kind, name), "nothing") for facts in (committed, here))
            yield "  {} {}: committed {}, here {}".format(kind, name, *values)
    if any(change.explained for change in changes):
        names = ", ".join(change.stage for change in changes if change.explained)
        yield f"the differences above explain these: {names}"


def read_committed(path: str, revision: str = "HEAD") -> bytes:
    """Reads a file as it is in a commit. Raises InputError if there is no commit, or no such file in it."""
    try:
        done = subprocess.run(["git", "show", f"{revision}:./{path}"], capture_output=True)
    except FileNotFoundError:
        raise InputError(f"{path}: git is not installed, so there is no committed version to compare with") from None
    if done.returncode:
        raise InputError(f"{path}: no committed version to compare with: {first_line(done.stderr)}")
    return done.stdout


def stale_stages(order: Iterable[str]) -> list[str]:
    """The stages whose record in dvc.lock is out of date."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True)
    if done.returncode:
        raise InputError(f"dvc status: {first_line(done.stderr or done.stdout)}")
    return [stage for stage in order if stage in json.loads(done.stdout)]


def check_up_to_date(order: Iterable[str]) -> None:
    """Raises InputError that names the first stage whose record in dvc.lock is out of date."""
    if stale := stale_stages(order):
        raise InputError(f"{stale[0]} is out of date (`dvc status` lists the changes): run `dvc repro` first")


def first_line(output: bytes) -> str:
    return next(iter(output.decode(errors="replace").strip().splitlines()), "no message")


def throughput() -> tuple[dict, dict]:
    """How the committed run and the one here pretrained."""
    return json.loads(read_committed(THROUGHPUT)), read_json(Path(THROUGHPUT))


def changes_on_resume(committed: dict, here: dict) -> list[str]:
    """A line for each run whose pretraining was resumed with other code, or in other conditions."""
    what = {CHANGED: "the code of pretraining", MIXED: "the conditions of pretraining"}
    runs = {"committed": committed, "here": here}.items()
    return [f"{run}: {what[key]} changed at step {facts[key]}" for run, facts in runs for key in what if facts.get(key)]


def conditions(committed: dict, here: dict) -> Iterator[str]:
    """What affects rounding: in the committed run, as far as it is recorded, and here."""
    yield from changes_on_resume(committed, here)
    for run, facts in (("committed", committed), ("here", here)):
        values = ", ".join(f"{name} {facts[name]}" for name in CONDITIONS if name in facts)
        yield f"{run}: pretrained with {values}"
    yield "here: " + ", ".join(f"{name} {value}" for name, value in environment().items())


def metric_changes(stages: dict[str, dict]) -> Iterator[tuple[str, Difference]]:
    """Yields the stage and each of its metrics that differs, then the report's verdicts that do."""
    outside = set()
    for stage, spec in stages.items():
        for metrics in spec.get("metrics", []):
            path = metrics if isinstance(metrics, str) else next(iter(metrics))
            if path in MACHINE:
                continue
            committed, here = json.loads(read_committed(path)), read_json(Path(path))
            if path == VERDICTS:
                differences = verdict_differences(committed["claims"], here["claims"], outside)
            else:
                differences = metric_differences(Path(path).parent.name, flat(committed), flat(here))
            for difference in differences:
                yield stage, difference
                outside |= set() if difference.within else {difference.name}


def judge(stages: dict[str, dict], committed: dict[str, Facts], here: dict[str, Facts]) -> tuple[bool, list[str]]:
    """Whether the results count as equal, and lines that say why. `stages` are those of dvc.yaml."""
    changes = list(compare(committed, here, stages))
    facts = throughput()
    if not changes:
        first = f"equal: {LOCK} matches the last commit, except {' and '.join(MACHINE)}"
        return True, [first, *changes_on_resume(*facts)]
    alike = all(facts[0].get(name) == facts[1].get(name) for name in CONDITIONS)
    alike = alike and not any(run.get(MIXED) for run in facts)
    pretrained = not any(change.stage == "pretrain" and change.outs for change in changes)
    exact = any(Path(name).is_relative_to(place) for change in changes for _, name in change.outs for place in EXACT)
    if (alike and not pretrained) or exact or any(change.new for change in changes):
        return False, ["differs", *describe(changes, committed, here), *conditions(*facts)]
    differences = list(metric_changes(stages))
    outside = [(stage, difference) for stage, difference in differences if not difference.within]
    if outside:
        first = f"differs: {outside[0][0]} is the first stage with a metric outside its tolerance"
        return False, [first, *table(difference for _, difference in outside), *conditions(*facts)]
    same = "the text, the tokens and the pretrained model are" if pretrained else "the text and the tokens are"
    first = f"equal within tolerance: rounding differs, {same} the same"
    return True, [first, *table(difference for _, difference in differences), *conditions(*facts)]


def verify() -> tuple[bool, list[str]]:
    """Compares the results. Raises InputError if there is nothing to compare."""
    if not LOCK.exists():
        raise InputError(f"{LOCK}: no such file: run `dvc repro` first")
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    committed, here = read_lock(read_committed(str(LOCK)), f"HEAD:{LOCK}"), read_lock(LOCK.read_bytes(), str(LOCK))
    check_up_to_date(stages)
    return judge(stages, committed, here)


if __name__ == "__main__":
    try:
        equal, lines = verify()
    except InputError as error:
        sys.exit(str(error))
    print("\n".join(lines))
    sys.exit(not equal)
