"""Cases and the metrics over them."""

import math

import pytest

from gpt2.evaluation.parity.cases import LOGIT_TOLERANCE, Case, logit_tolerance, metrics, worst

CASES = [
    Case("a", "logits", "logits", 10, 2e-5, 1e-4),
    Case("b", "logits", "a padded batch", 10, 3e-5, 1e-4),
    Case("a", "bfloat16", "bfloat16 weights, logits", 10, 0.2, 0.3),
    Case("a", "residual stream", "residual stream after every layer", 10, 1e-6, 1e-5),
    Case("a", "loss", "loss", 4, 1e-7, 1e-5),
    Case("a", "gradients", "gradients by all parameters", 4, 2e-4, 1e-4),
    Case("a", "greedy tokens", "greedy tokens", 30, 0.1, 0.0),
    Case("b", "greedy tokens", "greedy tokens", 10, 0.0, 0.0),
    Case("a", "sampled tokens", "sampled tokens, top-k", 10, 0.0, 0.0),
]


def test_metrics_are_the_worst_of_all_cases_and_the_share_of_all_tokens():
    assert metrics(CASES) == {
        "max_abs_logit_diff": 3e-5,
        "max_residual_diff": 1e-6,
        "loss_diff": 1e-7,
        "max_gradient_diff": 2e-4,
        "greedy_match": pytest.approx(37 / 40),
        "sampled_match": 1.0,
        "cases": 9,
        "cases_passed": 7,
    }


def test_a_value_that_is_not_finite_fails():
    assert not Case("a", "logits", "logits", 1, math.nan, 1.0).row()["passed"]
    assert not Case("a", "logits", "logits", 1, math.inf, logit_tolerance(math.inf)).row()["passed"]
    assert math.isnan(worst([0.1, math.nan, 0.2])) and worst([0.1, 0.2]) == 0.2
    assert math.isnan(metrics([*CASES, Case("c", "logits", "logits", 1, math.nan, 1.0)])["max_abs_logit_diff"])


def test_larger_logits_may_differ_by_more_and_small_ones_by_the_stated_tolerance():
    assert logit_tolerance(3.0) == LOGIT_TOLERANCE
    assert logit_tolerance(200.0) == pytest.approx(16 * 2**-23 * 200)
