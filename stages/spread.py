"""How much the metrics vary with the seed: `python -m stages.spread ['pretrain.*' ...] [--json]`.

Prints mean, standard deviation and n of metrics over the results here, those of the last commit, and the experiments
that DVC has. A run counts if it differs from the results here only in its seed: its params, its code and all other
files that no stage writes are the same. `dvc.lock` records them with each run. Runs of the same seed count once.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from gpt2.common.errors import InputError
from gpt2.common.mappings import flat
from stages.verify import LOCK, VERDICTS, Facts, first_line, read_committed, read_lock

HEADLINE = (  # shown unless others are asked for
    "pretrain.val_loss",
    "pretrain.val_bits_per_byte",
    "classification.accuracy",
    "classification.f1",
    "classification.bag_of_words_accuracy",
    "instruction.test_loss",
    "instruction.test_bits_per_byte",
    "instruction.rouge_l",
    "hellaswag.acc_norm",
    "attention.previous_token",
    "attention.induction",
    "attention.mean_entropy",
)
SEED = ("param", "seed")


class Run(NamedTuple):
    """A run of the chain."""

    seed: int
    inputs: Facts  # what decided it, besides the seed
    metrics: dict[str, float]  # by dotted name


class Spread(NamedTuple):
    """A metric over runs."""

    mean: float
    std: float  # with n - 1
    n: int


def read_run(read: Callable[[str], bytes]) -> Run:
    """The run whose files `read` returns. Raises InputError if one is missing, KeyError if `report` has not run."""
    lock = read_lock(read(str(LOCK)), str(LOCK))
    seed = lock["report"][SEED]  # which `reports/metrics.json` belongs to, also where other stages ran alone later
    metrics = flat(json.loads(read(VERDICTS)))
    return Run(seed, inputs(lock), {name: value for name, value in metrics.items() if type(value) in (int, float)})


def inputs(lock: dict[str, Facts]) -> Facts:
    """Commands, params other than the seed, and the hashes of the deps that no stage writes."""
    facts = {fact: value for stage in lock.values() for fact, value in stage.items() if fact != SEED}
    outs = [name for kind, name in facts if kind == "out"]
    written = {("dep", name) for kind, name in facts if any(Path(name).is_relative_to(out) for out in outs)}
    return {fact: value for fact, value in facts.items() if fact[0] != "out" and fact not in written}


def experiments() -> list[str]:
    """The commits of DVC's experiments. Raises InputError where DVC can list none, such as without git."""
    command = [sys.executable, "-m", "dvc", "experiments", "list", "--all-commits", "--sha-only"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise InputError(f"dvc exp list: {first_line(done.stderr)}")
    return done.stdout.decode().split()


def comparable() -> tuple[dict[int, Run], int]:
    """The runs that differ only in their seed, by seed, and how many other ones there are.

    Raises InputError if there are no results here.
    """
    try:
        here = read_run(lambda path: Path(path).read_bytes())
    except (FileNotFoundError, KeyError):
        raise InputError("no results here: run `dvc repro` first") from None
    runs, others = {here.seed: here}, 0
    for revision in ("HEAD", *experiments()):
        try:
            run = read_run(partial(read_committed, revision=revision))
        except (InputError, KeyError):  # a part of the chain, such as `dvc exp run pretrain`
            run = None
        if run and run.inputs == here.inputs:
            runs.setdefault(run.seed, run)
        else:
            others += 1
    return dict(sorted(runs.items())), others


def spread(runs: Iterable[Run], patterns: Iterable[str]) -> dict[str, Spread]:
    """The spread of each metric whose name matches a pattern, in the order of the report's metrics.

    A metric that fewer than two runs have has none.
    """
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    values = {
        name: [run.metrics[name] for run in runs if name in run.metrics]
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    return {name: Spread(mean(some), stdev(some), len(some)) for name, some in values.items() if len(some) > 1}


def table(spreads: dict[str, Spread]) -> Iterator[str]:
    """A line per metric below a header."""
    width = max(map(len, spreads))
    yield f"{'metric':<{width}}{'mean':>12}{'std':>12}{'n':>5}"
    for name, (average, deviation, n) in spreads.items():
        yield f"{name:<{width}}{average:12.4g}{deviation:12.2g}{n:5}"


def main(patterns: list[str], as_json: bool) -> None:
    """Prints the spread of the metrics that match `patterns`."""
    runs, others = comparable()
    if len(runs) < 2:
        raise InputError(
            "no experiment differs from the results here only in its seed; make some: "
            "`dvc exp run --queue -S 'seed=1,2,3'`, then `dvc exp run --run-all`"
        )
    spreads = spread(runs.values(), patterns)
    if not spreads:
        raise InputError(f"no metric of {VERDICTS} matches {' or '.join(patterns)}")
    if as_json:
        print(json.dumps({"seeds": list(runs), "metrics": {name: row._asdict() for name, row in spreads.items()}}))
        return
    left_out = f"; not counted: {others} with other params, code or data" if others else ""
    print(f"seeds {', '.join(map(str, runs))}{left_out}", *table(spreads), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.spread", description=__doc__)
    text = "patterns of names such as 'pretrain.*', or '*' for all (default: headline metrics)"
    parser.add_argument("metrics", nargs="*", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON with all digits")
    arguments = parser.parse_args()
    try:
        main(arguments.metrics or list(HEADLINE), arguments.json)
    except InputError as error:
        sys.exit(str(error))
