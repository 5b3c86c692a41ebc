"""Tests a classifier on texts that it was not trained on, beside two baselines that need no GPT-2.

Shapes: n texts, K labels.
"""

import math
from dataclasses import dataclass

import numpy as np

from gpt2.adapters.classifier import GPTClassifier, predict
from gpt2.classification.metrics import bag_of_words_accuracy, by_class, scores, stderr
from gpt2.classification.texts import LabeledTexts
from gpt2.tokenizer.tokenizer import Tokenizer


@dataclass
class Evaluated:
    """What a classifier predicts for the test texts, and how well."""

    metrics: dict
    classes: list[dict]  # per label: precision, recall, F1
    predictions: list[dict]  # per text: text, label, prediction, probability


def evaluate(
    model: GPTClassifier,
    tokenizer: Tokenizer,
    labels: list[str],
    train: list[dict],
    test: list[dict],
    *,
    batch_size: int,
    seed: int,
) -> Evaluated:
    """Predicts the labels of the rows `test`. The baselines learn from the rows `train`; `seed` is the bootstrap's."""
    data = LabeledTexts(test, labels, tokenizer, model.transformer.config.block_size)
    log_probs = predict(model, data.ids, batch_size)  # (n, K)
    predicted, n = log_probs.argmax(axis=1), len(data)
    most_common = np.bincount([labels.index(row["label"]) for row in train]).argmax()
    majority, bag_of_words = float(np.mean(data.labels == most_common)), bag_of_words_accuracy(train, test)
    metrics = {
        **scores(data.labels, predicted, seed),
        "majority_accuracy": majority,
        "majority_accuracy_stderr": stderr(majority, n),
        "bag_of_words_accuracy": bag_of_words,
        "bag_of_words_accuracy_stderr": stderr(bag_of_words, n),
        "n": n,
        "truncated_test": data.truncated,
    }
    return Evaluated(metrics, by_class(data.labels, predicted, labels), predictions(log_probs, test, labels))


def predictions(log_probs: np.ndarray, rows: list[dict], labels: list[str]) -> list[dict]:
    """Each row with the predicted label and its probability, from the log-probabilities (n, K).

    The prediction is the maximum of the log-probabilities, as in the metrics: two probabilities may round to the same
    number where their logarithms differ.
    """
    return [
        {**row, "prediction": labels[values.argmax()], "probability": round(math.exp(values.max()), 4)}
        for row, values in zip(rows, log_probs, strict=True)
    ]
