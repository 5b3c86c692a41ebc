"""One comparison with transformers: the numbers compared, the tolerance, and the metrics over all comparisons."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

# Both models compute in float32 but add up in different orders. An output collects a few hundred roundings of at most
# half a unit in the last place, which mostly cancel. The bound of 16 such units of the largest logit is far above the
# differences that occur.
UNITS = 16
LOGIT_TOLERANCE = 1e-4  # largest absolute difference, for logits up to about 50; OpenAI's weights give larger ones
RESIDUAL_TOLERANCE = 1e-5  # largest difference in the residual stream, relative to its largest number
LOSS_TOLERANCE = 1e-5  # nats per token
GRADIENT_TOLERANCE = 1e-4  # |g - g'| / |g'| of one parameter


def logit_tolerance(largest: float) -> float:
    """The tolerance of float32 logits whose largest absolute value is `largest`."""
    return max(LOGIT_TOLERANCE, UNITS * torch.finfo(torch.float32).eps * largest)


def worst(differences: Sequence[float]) -> float:
    """The largest difference, or NaN if any is NaN, which Python's `max` may skip."""
    return torch.tensor(differences, dtype=torch.float64).max().item()


@dataclass(frozen=True)
class Case:
    """One comparison: the model, the quantity, how many numbers were compared, and the result.

    `value` must not exceed `tolerance`.
    """

    case: str
    kind: str  # metrics and the report's claims cover all cases of a kind
    quantity: str
    compared: int
    value: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """False also if the value or its tolerance is not finite."""
        return math.isfinite(self.tolerance) and self.value <= self.tolerance

    def row(self) -> dict:
        """The case as a row of the table."""
        return {**asdict(self), "passed": self.passed}


def metrics(cases: Sequence[Case]) -> dict:
    """Summarizes all cases.

    `max_abs_logit_diff`, `loss_diff`, `max_gradient_diff` and `max_residual_diff` are the largest of all float32 cases;
    `greedy_match` and `sampled_match` the shares of equal tokens; `cases` and `cases_passed` are counts.
    """

    def largest(kind: str) -> float:
        return worst([case.value for case in cases if case.kind == kind])

    def match(kind: str) -> float:
        group = [case for case in cases if case.kind == kind]
        return 1 - math.fsum(case.value * case.compared for case in group) / sum(case.compared for case in group)

    return {
        "max_abs_logit_diff": largest("logits"),
        "max_residual_diff": largest("residual stream"),
        "loss_diff": largest("loss"),
        "max_gradient_diff": largest("gradients"),
        "greedy_match": match("greedy tokens"),
        "sampled_match": match("sampled tokens"),
        "cases": len(cases),
        "cases_passed": sum(case.passed for case in cases),
    }
