"""Compares what was computed here with what is committed: `python -m stages.verify`; `make verify` computes it first.

For each stage `dvc.lock` holds the command, the params and the hash of every input and output. The file that
`dvc repro` leaves is compared with the one of the last commit, stage by stage in the order of the chain.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from gpt2.common.errors import InputError
from gpt2.config.schema import Section, parse
from gpt2.report.lineage import environment, flat
from stages.params import parse_yaml, read_yaml

LOCK = Path("dvc.lock")
THROUGHPUT = "reports/pretrain/throughput.json"
MACHINE = (THROUGHPUT, "reports/index.html")  # differ from run to run: figures of speed, and the page that shows them


class Recorded(Section):
    """A part of dvc.lock. What else DVC writes there, such as sizes, says nothing more."""

    model_config = ConfigDict(extra="ignore")


class File(Recorded):
    """An input or output."""

    path: str
    md5: str


class Record(Recorded):
    """A stage."""

    cmd: str
    params: dict[str, dict[str, object]] = Field(default_factory=dict)  # by file
    deps: tuple[File, ...] = Field(default=(), strict=False)
    outs: tuple[File, ...] = Field(default=(), strict=False)

    def facts(self) -> dict[tuple[str, str], object]:
        """All that is compared, by kind and name."""
        params = {("param", name): value for file in self.params.values() for name, value in flat(file)}
        files = {(kind, f.path): f.md5 for kind, own in (("dep", self.deps), ("out", self.outs)) for f in own}
        return {("command", "cmd"): self.cmd, **params, **{k: md5 for k, md5 in files.items() if k[1] not in MACHINE}}


class Lock(Recorded):
    """A whole dvc.lock."""

    stages: dict[str, Record]


@dataclass(frozen=True)
class Difference:
    """A stage that is not recorded alike: by kind and name, what is committed and what is here (None: not there)."""

    stage: str
    inputs: dict[tuple[str, str], tuple]  # command, params and deps, but for those of which an earlier difference tells
    outs: dict[tuple[str, str], tuple]
    inherited: bool  # inputs differ that an earlier stage has made, or that differ there too

    @property
    def explained(self) -> bool:
        """Whether this follows from what differs before it."""
        return self.inherited and not self.inputs


def read_lock(content: bytes, where: str) -> dict[str, Record]:
    """The stages of a dvc.lock. Raises InputError where it is not in DVC's schema 2.0."""
    raw = parse_yaml(content, where)
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema != "2.0":
        raise InputError(f"{where}: schema = {schema!r}: expected '2.0', which is that of DVC 3")
    return parse(Lock, raw, where).stages


def compare(committed: dict[str, Record], here: dict[str, Record], order: Iterable[str]) -> list[Difference]:
    """What differs, stage by stage in the given order, but for the files in MACHINE."""
    found: list[Difference] = []
    for stage in order:
        before, after = (lock[stage].facts() if stage in lock else {} for lock in (committed, here))
        if bool(before) != bool(after):  # one alone has the stage: its parts say no more
            before, after = ({("stage", stage): "recorded"} if facts else {} for facts in (before, after))
        pairs = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
        differing = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        made = {path for earlier in found for _, path in earlier.outs}
        told = {key for earlier in found for key in earlier.inputs}
        follows = {k for k in differing if k[0] == "dep" and any(Path(k[1]).is_relative_to(out) for out in made)}
        follows |= told & differing.keys()
        outs = {key: pair for key, pair in differing.items() if key[0] == "out"}
        inputs = {key: pair for key, pair in differing.items() if key not in follows and key not in outs}
        if differing:
            found.append(Difference(stage, inputs, outs, inherited=bool(follows)))
    return found


def describe(differences: list[Difference]) -> Iterator[str]:
    """Lines for a reader: the first stage that differs, others that differ of themselves, those that follow."""
    for number, difference in enumerate(differences):
        if difference.explained:
            continue
        kinds = ", ".join(dict.fromkeys(kind for kind, _ in difference.inputs))
        which = "the first stage that differs" if number == 0 else "differs of itself too"
        why = f"another {kinds} than committed" if kinds else "from the same command, params and inputs came other outs"
        yield f"{difference.stage}: {which}: {why}"
        for (kind, name), (committed, here) in {**difference.inputs, **difference.outs}.items():
            yield f"  {kind} {name}: committed {_shown(committed)}, here {_shown(here)}"
    if follow := [difference.stage for difference in differences if difference.explained]:
        yield f"what differs in these follows from what differs before them: {', '.join(follow)}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return str(value) if str(value).isprintable() else repr(value)


def read_committed(path: str) -> bytes:
    """A file as the last commit has it. Raises InputError where there is no git, no commit or no such file in it."""
    try:
        done = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True)
    except FileNotFoundError:
        raise InputError(f"{path}: git, which has the committed one, is not installed") from None
    if done.returncode:
        raise InputError(f"{path}: no committed one to compare with: {_first_line(done.stderr)}")
    return done.stdout


def check_up_to_date(order: Iterable[str]) -> None:
    """Raises InputError naming the first stage whose record in dvc.lock is not of what lies here now."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True)
    if done.returncode:
        raise InputError(f"dvc status: {_first_line(done.stderr or done.stdout)}")
    stale = [stage for stage in order if stage in json.loads(done.stdout)]
    if stale:
        raise InputError(f"{stale[0]} has not been run on what is here (`dvc status` says why): run `dvc repro` first")


def _first_line(output: bytes) -> str:
    return next(iter(output.decode(errors="replace").strip().splitlines()), "it said nothing")


def conditions() -> Iterator[str]:
    """What decides how arithmetic is rounded: at the committed run, as far as it is told there, and here."""
    told = {"here": Path(THROUGHPUT).read_bytes()}
    with suppress(InputError):
        told = {"committed": read_committed(THROUGHPUT), **told}
    for which, content in told.items():
        facts = json.loads(content)
        device, precision, compiled = (facts.get(key, "not told") for key in ("device", "precision", "compiled"))
        yield f"{which}: pretrained on {device}, {precision}, compiled: {compiled}"
    yield "here: " + ", ".join(f"{name} {value}" for name, value in environment().items())
    yield "On another kind of processor figures agree within a tolerance: README.md, Reproducing it"


def verify() -> list[str]:
    """Lines that say what differs; none where nothing does. Raises InputError where there is nothing to compare."""
    if not LOCK.exists():
        raise InputError(f"{LOCK}: no such file: nothing has been run here; `dvc repro` runs it")
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
    print("\n".join(lines) or f"equal: {LOCK} is the committed one, but for {' and '.join(MACHINE)}")
    sys.exit(bool(lines))
