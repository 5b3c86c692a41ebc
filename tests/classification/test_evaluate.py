"""The evaluation of a classifier: its figures are those of its predictions, beside the baselines."""

import numpy as np
import pytest

from gpt2.adapters.classifier import GPTClassifier, predict
from gpt2.classification.evaluate import Evaluated, evaluate, predictions
from tests.small import byte_tokenizer, small_model

LABELS = ["cold", "hot"]
TOKENIZER = byte_tokenizer()
TRAIN = [{"text": "ice", "label": "cold"}] * 5 + [{"text": "sun", "label": "hot"}] * 6
TEST = [{"text": f"{word} {i}", "label": label} for i in range(6) for word, label in (("ice", "cold"), ("sun", "hot"))]
LONG = {"text": "sun" * 20, "label": "hot"}


def classifier() -> GPTClassifier:
    return GPTClassifier(small_model(vocab_size=257), len(LABELS), TOKENIZER.eot).eval()


def evaluated(model: GPTClassifier, batch_size: int = 4) -> Evaluated:
    return evaluate(model, TOKENIZER, LABELS, TRAIN, [*TEST, LONG], batch_size=batch_size, seed=0)


def test_the_figures_are_those_of_the_predictions():
    model = classifier()
    done = evaluated(model)
    found = [row["prediction"] for row in done.predictions]
    log_probs = predict(model, [TOKENIZER.encode(row["text"])[:16] for row in [*TEST, LONG]], batch_size=1)
    assert found == [LABELS[number] for number in log_probs.argmax(axis=1)]
    probabilities = [row["probability"] for row in done.predictions]
    assert probabilities == pytest.approx(np.exp(log_probs.max(axis=1)).tolist(), abs=1e-3)
    right = np.mean([row["prediction"] == row["label"] for row in done.predictions])
    assert done.metrics["accuracy"] == pytest.approx(right) and 0 < right < 1
    assert [(row["label"], row["predicted"]) for row in done.classes] == [(name, found.count(name)) for name in LABELS]
    assert done.metrics["n"] == 13 and done.metrics["truncated_test"] == 1


def test_the_baselines_learn_from_the_training_texts():
    metrics = evaluated(classifier()).metrics
    assert metrics["majority_accuracy"] == 7 / 13 and metrics["bag_of_words_accuracy"] == 1.0


def test_a_model_is_evaluated_the_same_each_time():
    model = classifier()
    assert evaluated(model) == evaluated(model)


def test_what_is_predicted_is_what_the_metrics_read():
    low = np.float32(-0.6931472)
    found = np.array([[low, np.nextafter(low, np.float32(0))]])
    assert found.argmax() == 1 and np.exp(found).argmax() == 0  # as probabilities they are one number
    assert predictions(found, [{"text": "x"}], LABELS) == [{"text": "x", "prediction": "hot", "probability": 0.5}]
