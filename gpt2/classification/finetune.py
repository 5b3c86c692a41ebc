"""Fine-tuning GPT-2 to classify texts.

Shapes: B batch, T time, K labels, n texts.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt2.adapters import lora
from gpt2.adapters.classifier import GPTClassifier, padded, predict
from gpt2.classification.metrics import bag_of_words_accuracy, by_class, scores, stderr
from gpt2.common.errors import InputError
from gpt2.config.params import ClassificationParams
from gpt2.model.gpt import GPT
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.optim import fine_tuning
from gpt2.training.trainer import History, Trainer, trainable_parameters

# --- data ----------------------------------------------------------------------------------------------------------


class LabeledTexts:
    """Texts and labels as samples. Texts longer than the context are cut and counted in `truncated`."""

    def __init__(self, rows: list[dict], labels: list[str], tokenizer: Tokenizer, block_size: int):
        self.pad = tokenizer.eot
        ids = [tokenizer.encode(row["text"]) for row in rows]
        self.truncated = sum(len(text) > block_size for text in ids)
        self.ids = [text[:block_size] for text in ids]
        self.labels = [labels.index(row["label"]) for row in rows]
        self.lengths = np.array([len(ids) for ids in self.ids])

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Token ids (B, T), padded on the right to the longest, and labels (B,)."""
        return padded([self.ids[i] for i in ids], self.pad), torch.tensor([self.labels[i] for i in ids])

    def targets(self, ids: np.ndarray) -> int:
        """One label per text."""
        return len(ids)


# --- training ------------------------------------------------------------------------------------------------------


def freeze(model: GPTClassifier, params: ClassificationParams) -> None:
    """Freezes all but the head and what `params.trainable` names; for LoRA it adds the adapters.

    Raises InputError if the model has fewer blocks than `params.last_blocks`.
    """
    body = model.transformer
    if params.trainable == "lora":
        lora.add_lora(body, params.lora)
    elif params.trainable != "all":
        body.requires_grad_(False)
    if params.trainable == "last_blocks":
        if params.last_blocks > len(body.h):
            raise InputError(f"classification.last_blocks = {params.last_blocks}: the model has {len(body.h)} blocks")
        body.ln_f.requires_grad_(True)
        body.h[-params.last_blocks :].requires_grad_(True)


@dataclass
class Classified:
    """A finished fine-tuning."""

    model: GPTClassifier  # adapters merged
    history: History
    metrics: dict
    classes: list[dict]  # per label: precision, recall, F1
    predictions: list[dict]  # per test text: text, label, prediction, probability


def finetune(
    base: GPT,
    tokenizer: Tokenizer,
    rows: dict[str, list[dict]],
    labels: list[str],
    params: ClassificationParams,
    *,
    seed: int,
    scratch: Path,
    world: World,
) -> Classified:
    """Trains a head, and the part of `base` that `params` names, on `rows["train"]`; evaluates on `rows["test"]`.

    The model ends with the weights of the lowest validation loss, the mean over texts. Raises InputError if training
    diverges.
    """
    data = {
        split: LabeledTexts(rows[split], labels, tokenizer, base.config.block_size)
        for split in ("train", "val", "test")
    }
    torch.manual_seed(seed)
    model = GPTClassifier(base, len(labels), tokenizer.eot)
    freeze(model, params)
    sizes = trainable_parameters(model)
    bag_of_words = bag_of_words_accuracy(rows["train"], rows["test"])  # first, so that a failure wastes no training
    history = Trainer(
        model,
        data["train"],
        fine_tuning(params),
        world=world,
        seed=seed,
        scratch=scratch,
        evaluate=lambda model, step: loss_and_accuracy(model, data["val"], params.micro_batch_size),
        keep_best=True,
        patience=params.patience,
    ).fit()
    if params.trainable == "lora":
        lora.merge(model.transformer)
    log_probs = predict(model, data["test"].ids, params.micro_batch_size)
    actual, predicted = np.array(data["test"].labels), log_probs.argmax(axis=1)
    n, majority = len(actual), float(np.mean(actual == np.bincount(data["train"].labels).argmax()))
    metrics = {
        **scores(actual, predicted, seed),
        "majority_accuracy": majority,
        "majority_accuracy_stderr": stderr(majority, n),
        "bag_of_words_accuracy": bag_of_words,
        "bag_of_words_accuracy_stderr": stderr(bag_of_words, n),
        "n": n,
        "best_step": history.best_step,
        "truncated": sum(part.truncated for part in data.values()),
        **sizes,
    }
    classes = by_class(actual, predicted, labels)
    return Classified(model, history, metrics, classes, predictions(log_probs, rows["test"], labels))


def loss_and_accuracy(model: GPTClassifier, data: LabeledTexts, batch_size: int) -> dict[str, float]:
    """Mean loss in nats per text, and the share of texts whose label is predicted correctly."""
    log_probs, actual = predict(model, data.ids, batch_size), np.array(data.labels)
    correct = log_probs.argmax(axis=1) == actual
    return {"loss": -float(log_probs[np.arange(len(actual)), actual].mean()), "accuracy": float(correct.mean())}


def predictions(log_probs: np.ndarray, rows: list[dict], labels: list[str]) -> list[dict]:
    """Each row with the predicted label and its probability, from the log-probabilities (n, K).

    The prediction is the maximum of the log-probabilities, as in the metrics: two probabilities may round to the same
    number where their logarithms differ.
    """
    return [
        {**row, "prediction": labels[values.argmax()], "probability": round(math.exp(values.max()), 4)}
        for row, values in zip(rows, log_probs, strict=True)
    ]
