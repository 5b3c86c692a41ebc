"""Metrics of classification with standard errors, and a baseline that needs no GPT-2.

Shapes: n texts, K labels. `actual` and `predicted` (n,) hold labels by number.
"""

import math
from functools import partial

import numpy as np
from scipy.stats import bootstrap
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support
from sklearn.pipeline import make_pipeline

RESAMPLES = 1000  # number of bootstrap resamples
WEIGHTS = 5_000_000  # maximum number of weights of the baseline; its solver stores about twenty numbers per weight
WORDS = r"\w+|[^\w\s]"  # words and punctuation marks: a text that is not empty has at least one


def scores(actual: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy and macro F1 with their standard errors.

    Macro F1 is the mean over the labels that occur. Its standard error is the spread of a seeded bootstrap over the
    texts (Efron 1979).
    """
    n, accuracy = len(actual), float(np.mean(actual == predicted))
    labels = np.union1d(actual, predicted)
    numbered = [np.searchsorted(labels, numbers) for numbers in (actual, predicted)]
    macro_f1 = partial(_macro_f1, n_labels=len(labels))
    options = {"n_resamples": RESAMPLES, "paired": True, "vectorized": True, "method": "percentile"}
    f1_stderr = bootstrap(numbered, macro_f1, rng=seed, **options).standard_error if n > 1 else 0.0
    return {
        "accuracy": accuracy,
        "accuracy_stderr": stderr(accuracy, n),
        "f1": float(macro_f1(*numbered)),
        "f1_stderr": float(f1_stderr),
    }


def _macro_f1(actual: np.ndarray, predicted: np.ndarray, axis: int = -1, *, n_labels: int) -> np.ndarray:
    """Macro F1 over the last axis: of all resamples (R, n) at once, because scikit-learn's takes one at a time."""
    n, shape = actual.shape[-1], actual.shape[:-1]
    place = (n_labels + 1) * np.arange(math.prod(shape))[:, None]  # of the counts of a resample

    def counts(numbers: np.ndarray) -> np.ndarray:
        """How often each number below n_labels occurs in each resample, (R, K)."""
        flat = (numbers.reshape(-1, n) + place).ravel()
        return np.bincount(flat, minlength=place.size * (n_labels + 1)).reshape(-1, n_labels + 1)[:, :-1]

    right = counts(np.where(actual == predicted, actual, n_labels))
    f1 = 2 * right / np.maximum(counts(actual) + counts(predicted), 1)  # 0 for a label that a resample lacks
    return f1.mean(axis=1).reshape(shape)


def by_class(actual: np.ndarray, predicted: np.ndarray, labels: list[str]) -> list[dict]:
    """One row per label: the number of texts that have it and that are predicted to have it, precision and recall with
    their standard errors, and F1. A ratio over no texts is None."""
    numbers = np.arange(len(labels))
    table = precision_recall_fscore_support(actual, predicted, labels=numbers, zero_division=np.nan)
    made = np.bincount(predicted, minlength=len(labels))
    rows = []
    for label, precision, recall, f1, n, n_predicted in zip(labels, *table, made, strict=True):
        precision, recall, f1 = (None if math.isnan(ratio) else float(ratio) for ratio in (precision, recall, f1))
        rows.append(
            {
                "label": label,
                "n": int(n),
                "predicted": int(n_predicted),
                "precision": precision,
                "precision_stderr": stderr(precision, n_predicted),
                "recall": recall,
                "recall_stderr": stderr(recall, n),
                "f1": f1,
            }
        )
    return rows


def stderr(share: float | None, n: int) -> float | None:
    """Standard error of a share of n texts, sqrt(p (1 - p) / (n - 1)); 0 for one text, None if the share is None."""
    return None if share is None else math.sqrt(share * (1 - share) / max(n - 1, 1))


def bag_of_words_accuracy(train: list[dict], test: list[dict]) -> float:
    """Accuracy of a logistic regression on word counts, trained on the same texts.

    It shows which accuracy is possible without GPT-2 and without word order. The regularization is scikit-learn's
    default. The words are those of the training texts, or the most common of them if there are thousands of labels.
    """
    labels = [row["label"] for row in train]
    words = CountVectorizer(token_pattern=WORDS, max_features=max(1, WEIGHTS // len(set(labels))))
    model = make_pipeline(words, LogisticRegression(max_iter=1000))
    model.fit([row["text"] for row in train], labels)
    return float(model.score([row["text"] for row in test], [row["label"] for row in test]))
