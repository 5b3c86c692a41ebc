"""How well texts are classified: figures with standard errors, and what needs no GPT-2 to reach.

Shapes: n texts, K labels. `actual` and `predicted` (n,) are labels by number.
"""

import math

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

RESAMPLES = 1000  # of the bootstrap
WEIGHTS = 5_000_000  # of the baseline, at most: its solver takes some twenty times as many numbers
WORDS = r"\w+|[^\w\s]"  # and marks of punctuation: a text that is not empty has at least one


def scores(actual: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy and macro F1 with their standard errors; that of F1 is the spread of a seeded bootstrap over the texts
    (Efron 1979)."""
    n, occurring = len(actual), np.union1d(actual, predicted)
    accuracy = float(np.mean(actual == predicted))
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(RESAMPLES):
        own = generator.integers(n, size=n)
        resampled.append(macro_f1(actual[own], predicted[own], occurring))
    return {
        "accuracy": accuracy,
        "accuracy_stderr": stderr(accuracy, n),
        "f1": macro_f1(actual, predicted, occurring),
        "f1_stderr": float(np.std(resampled, ddof=1)),
    }


def macro_f1(actual: np.ndarray, predicted: np.ndarray, among: np.ndarray) -> float:
    """Mean F1 over the labels in `among`, 0 for one that does not occur: scikit-learn's `f1_score`, which is slow for a
    bootstrap."""
    right, given, made = _counts(actual, predicted, among.max() + 1)[:, among]
    return float(np.mean(2 * right / np.maximum(given + made, 1)))


def by_class(actual: np.ndarray, predicted: np.ndarray, labels: list[str]) -> list[dict]:
    """A row for each label: how many texts have it and how many were predicted to, precision and recall with standard
    errors, F1. What would be a share of no texts is None."""
    rows = []
    for label, right, given, made in zip(labels, *_counts(actual, predicted, len(labels)).tolist(), strict=True):
        precision, recall = (right / n if n else None for n in (made, given))
        rows.append(
            {
                "label": label,
                "n": given,
                "predicted": made,
                "precision": precision,
                "precision_stderr": stderr(precision, made),
                "recall": recall,
                "recall_stderr": stderr(recall, given),
                "f1": 2 * right / (given + made) if given + made else None,
            }
        )
    return rows


def _counts(actual: np.ndarray, predicted: np.ndarray, n_labels: int) -> np.ndarray:
    """For each label how many texts are rightly predicted to have it, have it, are predicted to have it: (3, K)."""
    groups = (actual[actual == predicted], actual, predicted)
    return np.stack([np.bincount(group, minlength=n_labels) for group in groups])


def stderr(share: float | None, n: int) -> float | None:
    """Standard error of a share of n texts."""
    return None if share is None else math.sqrt(share * (1 - share) / n)


def bag_of_words_accuracy(train: list[dict], test: list[dict]) -> float:
    """Accuracy of a logistic regression on word counts, trained on the same texts: what their order and GPT-2 must add
    to. The regularization is scikit-learn's default, the words those of the training texts; where there are thousands
    of labels, the commonest of them."""
    labels = [row["label"] for row in train]
    words = CountVectorizer(token_pattern=WORDS, max_features=max(1, WEIGHTS // len(set(labels))))
    model = make_pipeline(words, LogisticRegression(max_iter=1000))
    model.fit([row["text"] for row in train], labels)
    return float(model.score([row["text"] for row in test], [row["label"] for row in test]))
