"""How much each metric may differ between two kinds of processor, which round differently.

The values rest on the sample's runs on an AMD EPYC and on an Intel Xeon with AMX, with the same tokens. They differed
by 0.006 (val_loss of pretraining), 0.011 (val_loss of the tuned model), 0.07 (test_loss before tuning), 1.2 standard
errors (f1) and 12% (attention). Without torch.compile, on one Xeon, they differed by 0.002 (val_loss), 0.9 standard
errors (acc_norm) and 2.1 (ROUGE-L before tuning).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

Leaves = dict[str, object]  # values by dotted name


class Tolerance(NamedTuple):
    """How far two values may be apart. The parts add up."""

    absolute: float = 0
    relative: float = 0  # of the larger value
    standard_errors: float = 0  # of the larger `<metric>_stderr`; nothing if there is none


# The first pattern that a name matches decides. None: the metric is not compared. The names are <section>.<metric>.
RULES: dict[str, Tolerance | None] = {
    "*_stderr": None,  # follows from its score
    "parity.*_diff": None,  # is rounding itself; each case has its own tolerance, and cases_passed must be equal
    "*.best_step": None,  # this and the next two: a choice between near equals, whose value is compared
    "attention.*.layer": None,
    "attention.*.head": None,
    "*.loss_spikes": None,  # counts steps beyond a threshold
    "instruction.judge_*": Tolerance(absolute=5),  # points of 100, or answers: the judge is another program
    "instruction.rouge_l_before*": Tolerance(standard_errors=3),  # as for the next: 2.1 apart without torch.compile
    "instruction.rouge_l*": Tolerance(standard_errors=2),
    "*_before": Tolerance(absolute=0.15),  # an untuned model on a format that it has not seen: differences grow
    "*loss": Tolerance(absolute=0.02),  # nats per token, or per text for the classifier
    "*.unigram_entropy": Tolerance(absolute=0.02),  # nats per token
    "*bits_per_byte": Tolerance(absolute=0.02),
    "classification.val_accuracy": Tolerance(absolute=0.03),  # two standard errors of 800 texts
    "attention.*": Tolerance(relative=0.25),  # chance settles early in training which head learns what
    "instruction.exact_match": Tolerance(absolute=0.05),  # of the answers: one is 0.01 in the sample
    "*": Tolerance(standard_errors=2),  # scores; counts, sizes and texts have no standard error and must be equal
}

# The metrics that decide each claim of the report. Claims about parity are not here: they may not flip.
DECIDES = {
    "initial_loss": ("pretrain.initial_loss",),
    "context": ("pretrain.val_loss",),
    "classification": ("classification.accuracy",),
    "instructions": ("instruction.test_loss", "instruction.test_loss_before"),
    "completions": ("hellaswag.acc_norm",),
    "induction_head": ("attention.induction",),
    "openai_completion": ("hellaswag.acc_norm",),
    "openai_harness": ("hellaswag.harness_acc_norm",),
}


@dataclass(frozen=True)
class Difference:
    """A metric or a verdict that is not the same in both runs."""

    name: str
    committed: str
    here: str
    difference: str
    tolerance: str
    within: bool


def metric_differences(section: str, committed: Leaves, here: Leaves) -> Iterator[Difference]:
    """The differences between the metrics of two runs. `section` is the folder of their file in `reports/`."""
    for metric in {**committed, **here}:
        name, old, new = f"{section}.{metric}", committed.get(metric, "nothing"), here.get(metric, "nothing")
        tolerance = _tolerance(name, metric, committed, here)
        if old == new or tolerance is None:
            continue
        numbers = all(isinstance(value, (int, float)) for value in (old, new))
        distance = abs(new - old) if numbers else float("nan")
        texts = (f"{value:.6g}" if isinstance(value, float) else str(value) for value in (old, new))
        yield Difference(name, *texts, f"{distance:.3g}" if numbers else "", f"{tolerance:.3g}", distance <= tolerance)


def _tolerance(name: str, metric: str, committed: Leaves, here: Leaves) -> float | None:
    """The tolerance of a metric as a number, or None if it is not compared."""
    rule = next(rule for pattern, rule in RULES.items() if fnmatchcase(name, pattern))
    if rule is None:
        return None

    def largest(metric: str) -> float:
        values = (run.get(metric) for run in (committed, here))
        return max((abs(value) for value in values if isinstance(value, (int, float))), default=0)

    return rule.absolute + rule.relative * largest(metric) + rule.standard_errors * largest(f"{metric}_stderr")


def verdict_differences(committed: Leaves, here: Leaves, outside: set[str]) -> Iterator[Difference]:
    """The claims with another verdict. A flip counts as equal if no metric that decides the claim is in `outside`."""
    for claim in {**committed, **here}:
        old, new = (str(run.get(claim, "nothing")) for run in (committed, here))
        if old != new:
            metrics = DECIDES.get(claim, ())
            within = {old, new} == {"pass", "fail"} and bool(metrics) and not outside & set(metrics)
            yield Difference(f"verdict.{claim}", old, new, "", f"that of {' and '.join(metrics) or 'none'}", within)


def table(differences: Iterable[Difference]) -> Iterator[str]:
    """The rows of a table with aligned columns, below a header."""
    header = ("metric", "committed", "here", "difference", "tolerance")
    rows = [header, *((row.name, row.committed, row.here, row.difference, row.tolerance) for row in differences)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
