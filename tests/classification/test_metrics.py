"""Metrics of classification, computed by hand or by definition."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from gpt2.classification import metrics
from gpt2.classification.metrics import bag_of_words_accuracy, by_class, scores

RANDOM = np.random.default_rng(3)
ACTUAL = RANDOM.integers(4, size=60)
PREDICTED = np.where(RANDOM.random(60) < 0.6, ACTUAL, RANDOM.integers(4, size=60))


def test_metrics_of_four_texts_by_hand():
    found = scores(np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2]), seed=0)
    assert found["accuracy"] == 0.75
    assert found["accuracy_stderr"] == pytest.approx((0.75 * 0.25 / 3) ** 0.5)
    assert found["f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)  # label 1 does not occur
    first, _, last = by_class(np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2]), ["a", "b", "c"])
    assert first == {
        **{"label": "a", "n": 2, "predicted": 1, "precision": 1.0, "precision_stderr": 0.0},
        **{"recall": 0.5, "recall_stderr": 0.5, "f1": pytest.approx(2 / 3)},
    }
    assert (last["precision"], last["precision_stderr"]) == pytest.approx((2 / 3, (2 / 9 / 2) ** 0.5))


def test_one_text_has_no_spread():
    assert scores(np.array([0]), np.array([5]), seed=0) == dict.fromkeys(
        ("accuracy", "accuracy_stderr", "f1", "f1_stderr"), 0.0
    )


def test_the_standard_error_of_f1_is_that_of_a_seeded_bootstrap(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 300)
    generator, found = np.random.default_rng(7), []
    for _ in range(200):
        rows = generator.integers(60, size=60)
        found.append(f1_score(ACTUAL[rows], PREDICTED[rows], average="macro"))
    stderr = scores(ACTUAL, PREDICTED, seed=0)["f1_stderr"]
    assert stderr == pytest.approx(np.std(found), rel=0.2)
    assert stderr == scores(ACTUAL, PREDICTED, seed=0)["f1_stderr"] != scores(ACTUAL, PREDICTED, seed=1)["f1_stderr"]


def test_a_label_that_a_resample_lacks_still_counts():
    """One text of a hundred has the second label. A resample without it gives that label an F1 of 0."""
    actual = np.array([0] * 99 + [1])
    left_out = (1 - 1 / 100) ** 100
    spread = 0.5 * (left_out * (1 - left_out)) ** 0.5  # of the mean of 1 and a number that is 0 or 1
    assert scores(actual, actual, seed=0)["f1_stderr"] == pytest.approx(spread, rel=0.1)


def test_a_share_of_no_texts_is_none():
    never, absent, both = by_class(np.array([0, 2]), np.array([2, 2]), ["never predicted", "absent", "both"])
    assert (never["precision"], never["precision_stderr"], never["recall"], never["f1"]) == (None, None, 0.0, 0.0)
    assert {absent[name] for name in ("precision", "recall", "recall_stderr", "f1")} == {None}
    assert (both["precision"], both["recall"]) == (0.5, 1.0)


def test_the_baseline_s_memory_is_bounded_for_many_labels(monkeypatch):
    monkeypatch.setattr(metrics, "WEIGHTS", 12)
    rows = [{"text": f"common word{i}", "label": str(i)} for i in range(4)]
    assert bag_of_words_accuracy(rows, rows) == 0.75  # 3 words of 5 are kept, and the fourth label's is not


def test_the_baseline_counts_words_of_any_script_and_punctuation():
    texts = {"up": ("ja !", "да", "🙂", "x"), "down": ("nein ?", "нет", "🙁")}
    rows = [{"text": text, "label": label} for label in texts for text in texts[label]]
    assert bag_of_words_accuracy(rows, rows) == 1.0
    assert bag_of_words_accuracy(rows, [{"text": "never seen", "label": "up"}]) in (0.0, 1.0)
