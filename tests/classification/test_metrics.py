"""Figures of classification: beside scikit-learn's, by hand where it has none."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from gpt2.classification import metrics
from gpt2.classification.metrics import RESAMPLES, bag_of_words_accuracy, by_class, macro_f1, scores

RANDOM = np.random.default_rng(3)
ACTUAL = RANDOM.integers(4, size=60)
PREDICTED = np.where(RANDOM.random(60) < 0.6, ACTUAL, RANDOM.integers(4, size=60))


def test_scores_are_those_of_scikit_learn():
    figures = scores(ACTUAL, PREDICTED, seed=0)
    accuracy = np.mean(ACTUAL == PREDICTED)
    assert figures["accuracy"] == accuracy
    assert figures["accuracy_stderr"] == pytest.approx((accuracy * (1 - accuracy) / 60) ** 0.5)
    assert figures["f1"] == pytest.approx(f1_score(ACTUAL, PREDICTED, average="macro"))


@pytest.mark.parametrize(("actual", "predicted"), [([0, 0, 2], [0, 3, 3]), ([1, 1], [1, 1]), ([0], [5])])
def test_macro_f1_is_over_the_labels_that_occur(actual, predicted):
    expected = f1_score(actual, predicted, average="macro")
    assert macro_f1(np.array(actual), np.array(predicted), np.union1d(actual, predicted)) == pytest.approx(expected)


def test_the_standard_error_of_f1_is_that_of_a_bootstrap():
    generator, found = np.random.default_rng(7), []
    for _ in range(200):
        own = generator.integers(60, size=60)
        found.append(f1_score(ACTUAL[own], PREDICTED[own], average="macro"))
    stderr = scores(ACTUAL, PREDICTED, seed=0)["f1_stderr"]
    assert stderr == pytest.approx(np.std(found), rel=0.2)
    assert stderr == scores(ACTUAL, PREDICTED, seed=0)["f1_stderr"] != scores(ACTUAL, PREDICTED, seed=1)["f1_stderr"]
    assert RESAMPLES >= 200


def test_a_label_that_a_resample_lacks_still_counts():
    """One text of a hundred has the second label, rightly: its F1 is 0 where a resample leaves it out."""
    actual = np.array([0] * 99 + [1])
    left_out = (1 - 1 / 100) ** 100
    spread = 0.5 * (left_out * (1 - left_out)) ** 0.5  # of a mean of 1 and a figure that is 0 or 1
    assert scores(actual, actual, seed=0)["f1_stderr"] == pytest.approx(spread, rel=0.1)


def test_classes_have_the_figures_of_scikit_learn():
    rows = by_class(ACTUAL, PREDICTED, ["a", "b", "c", "d"])
    precision, recall, f1, n = precision_recall_fscore_support(ACTUAL, PREDICTED)
    for i, row in enumerate(rows):
        assert (row["label"], row["n"], row["predicted"]) == ("abcd"[i], n[i], np.sum(i == PREDICTED))
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx([precision[i], recall[i], f1[i]])
        assert row["recall_stderr"] == pytest.approx((recall[i] * (1 - recall[i]) / n[i]) ** 0.5)
        made = row["predicted"]
        assert row["precision_stderr"] == pytest.approx((precision[i] * (1 - precision[i]) / made) ** 0.5)


def test_a_share_of_no_texts_is_none():
    never, absent, both = by_class(np.array([0, 2]), np.array([2, 2]), ["never predicted", "absent", "both"])
    assert (never["precision"], never["precision_stderr"], never["recall"], never["f1"]) == (None, None, 0.0, 0.0)
    assert {absent[name] for name in ("precision", "recall", "recall_stderr", "f1")} == {None}
    assert (both["precision"], both["recall"]) == (0.5, 1.0)


def test_thousands_of_labels_take_no_more_memory_than_few(monkeypatch):
    monkeypatch.setattr(metrics, "WEIGHTS", 12)
    rows = [{"text": f"common word{i}", "label": str(i)} for i in range(4)]
    assert bag_of_words_accuracy(rows, rows) == 0.75  # 3 words of 5 are known; the fourth label's is not


def test_words_of_any_script_and_marks_are_counted():
    texts = [
        ("ja !", "up"),
        ("nein ?", "down"),
        ("да", "up"),
        ("нет", "down"),
        ("🙂", "up"),
        ("🙁", "down"),
        ("x", "up"),
    ]
    rows = [{"text": text, "label": label} for text, label in texts]
    assert bag_of_words_accuracy(rows, rows) == 1.0
    assert bag_of_words_accuracy(rows, [{"text": "never seen", "label": "up"}]) in (0.0, 1.0)
