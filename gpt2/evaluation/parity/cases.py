"""The table of parity: what one case is, how far apart numbers may be, and what the metrics say of all cases."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch

# float32 sums taken in another order. Each of an output's few hundred roundings is of half a unit in the last place or
# less, and they mostly cancel: so many units, in the largest number of the tensor, are far above what is seen.
UNITS = 16
LOGIT_TOLERANCE = 1e-4  # largest absolute difference, of logits up to 50 or so; OpenAI's weights give larger ones
RESIDUAL_TOLERANCE = 1e-5  # largest difference in a share of the largest number: of the residual stream
LOSS_TOLERANCE = 1e-5  # nats a token
GRADIENT_TOLERANCE = 1e-4  # |g - g'| / |g'| of one parameter

Kind = Literal[  # what is compared: metrics and the report's claims are about all cases of a kind
    "shapes",
    "weights",
    "token ids",
    "residual stream",
    "logits",
    "loss",
    "gradients",
    "bfloat16",
    "greedy tokens",
    "sampled tokens",
    "texts",
]


def logit_tolerance(largest: float) -> float:
    """How far apart float32 logits may be, of which the largest is `largest`."""
    return max(LOGIT_TOLERANCE, UNITS * torch.finfo(torch.float32).eps * largest)


def worst(differences: Sequence[float]) -> float:
    """The largest, or NaN if one is: Python's `max` would pass over it."""
    return torch.tensor(differences, dtype=torch.float64).max().item()


@dataclass(frozen=True)
class Case:
    """One comparison: of which model, what, how many numbers; the value must not exceed the tolerance."""

    case: str
    kind: Kind
    quantity: str
    compared: int
    value: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """False also where the value or its tolerance is no finite number."""
        return math.isfinite(self.tolerance) and self.value <= self.tolerance

    def row(self) -> dict:
        """The columns of the table."""
        return {**asdict(self), "passed": self.passed}


def metrics(cases: Sequence[Case]) -> dict:
    """`max_abs_logit_diff`, `loss_diff`, `max_gradient_diff` and `max_residual_diff`, the largest of all cases in
    float32; `greedy_match` and `sampled_match`, the shares of tokens that are equal; `cases` and `cases_passed`.
    """

    def of_kind(kind: Kind) -> list[Case]:
        return [case for case in cases if case.kind == kind]

    def largest(kind: Kind) -> float:
        return worst([case.value for case in of_kind(kind)])

    def match(kind: Kind) -> float:
        of = of_kind(kind)
        return 1 - sum(case.value * case.compared for case in of) / sum(case.compared for case in of)

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
