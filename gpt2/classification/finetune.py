"""Fine-tuning GPT-2 to classify texts.

Shapes: n texts, K labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gpt2.adapters import lora
from gpt2.adapters.classifier import GPTClassifier, predict
from gpt2.classification.texts import LabeledTexts
from gpt2.config.params import ClassificationParams, MachineParams
from gpt2.model.gpt import GPT
from gpt2.runtime.world import World
from gpt2.tokenizer.tokenizer import Tokenizer
from gpt2.training.history import History
from gpt2.training.optim import fine_tuning
from gpt2.training.trainer import Trainer, trainable_parameters


@dataclass
class Classified:
    """A finished fine-tuning."""

    model: GPTClassifier  # adapters merged
    history: History
    metrics: dict


def finetune(
    base: GPT,
    tokenizer: Tokenizer,
    rows: dict[str, list[dict]],
    labels: list[str],
    params: ClassificationParams,
    *,
    machine: MachineParams,
    world: World,
    seed: int,
    scratch: Path,
    code: dict[str, str],
    log: Callable[[str, dict], None],
) -> Classified:
    """Trains a head, and the part of `base` that `params` names, on `rows["train"]`.

    The model ends with the weights of the lowest loss of `rows["val"]`, the mean over texts. Raises InputError if
    training diverges.
    """
    train, val = (LabeledTexts(rows[split], labels, tokenizer, base.config.block_size) for split in ("train", "val"))
    torch.manual_seed(seed)
    model = GPTClassifier(base, len(labels), tokenizer.eot)
    freeze(model, params)
    sizes = trainable_parameters(model)
    history = Trainer(
        model,
        train,
        fine_tuning(params),
        machine=machine,
        world=world,
        seed=seed,
        scratch=scratch,
        code=code,
        evaluate=lambda model, batch_size: loss_and_accuracy(model, val, batch_size),
        log=log,
        keep_best=True,
        patience=params.patience,
    ).fit()
    if params.trainable == "lora":
        lora.merge(model.transformer)
    best = history.best
    metrics = {
        "best_step": best["step"],
        "val_loss": best["loss"],
        "val_accuracy": best["accuracy"],
        "truncated_train": train.truncated,
        "truncated_val": val.truncated,
        **sizes,
    }
    return Classified(model, history, metrics)


def freeze(model: GPTClassifier, params: ClassificationParams) -> None:
    """Freezes all but the head and what `params.trainable` names; for LoRA it adds the adapters."""
    body = model.transformer
    if params.trainable == "lora":
        lora.add_lora(body, params.lora)
    elif params.trainable != "all":
        body.requires_grad_(False)
    if params.trainable == "last_blocks":
        body.ln_f.requires_grad_(True)
        body.h[-params.last_blocks :].requires_grad_(True)  # every block, if the model has no more


def loss_and_accuracy(model: GPTClassifier, data: LabeledTexts, batch_size: int) -> dict[str, float]:
    """Mean loss in nats per text, and the share of texts whose label is predicted correctly."""
    log_probs = predict(model, data.ids, batch_size)  # (n, K)
    correct = log_probs.argmax(axis=1) == data.labels
    return {"loss": -float(log_probs[np.arange(len(data)), data.labels].mean()), "accuracy": float(correct.mean())}
