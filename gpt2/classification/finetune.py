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
from gpt2.training.card import Card, Metric, shape
from gpt2.training.history import History
from gpt2.training.optim import fine_tuning
from gpt2.training.trainer import Trainer
from gpt2.training.work import trainable_parameters

CODE = """\
from transformers import pipeline

classifier = pipeline("text-classification", model=".")  # the folder of this file
print(classifier("Draws the nodes of a graph.", truncation=True))"""


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
        evaluate=lambda model, batch_size: loss_and_accuracy(model, val, batch_size, world),
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


def card(done: Classified, labels: list[str], params: ClassificationParams, made_from: list[dict]) -> Card:
    """The model card."""
    config, metrics = done.model.transformer.config, done.metrics
    trained = f"{metrics['trainable_parameters']:,} parameters (`trainable: {params.trainable}`)"
    return Card(
        title="GPT-2, a classifier",
        about=f"{shape(done.model, config)} A linear head on the last token predicts one of {len(labels)} labels: "
        f"{', '.join(labels)}. Fine-tuning changed {trained} in {done.history.step:,} steps of {params.batch_size} "
        f"texts. The weights are those of step {metrics['best_step']:,}, which had the lowest validation loss.",
        task="text-classification",
        code=CODE,
        advice=f"It reads at most the first {config.block_size:,} tokens of a text.",
        made_from=made_from,
        metrics=[
            Metric("accuracy", "accuracy", metrics["val_accuracy"]),
            Metric("loss", "validation loss, nats per text", metrics["val_loss"]),
        ],
    )


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


def loss_and_accuracy(model: GPTClassifier, data: LabeledTexts, batch_size: int, world: World) -> dict[str, float]:
    """Mean loss in nats per text, and the share of texts whose label is predicted correctly.

    The processes share the work: each predicts m of the texts.
    """
    mine = slice(world.rank, None, world.size)
    log_probs, labels = predict(model, data.ids[mine], batch_size), data.labels[mine]  # (m, K), (m,)
    nats = -log_probs[np.arange(len(labels)), labels].sum(dtype=np.float64)
    correct = (log_probs.argmax(axis=1) == labels).sum()
    loss, accuracy = (total / len(data) for total in world.sum([float(nats), float(correct)]))
    return {"loss": loss, "accuracy": accuracy}
