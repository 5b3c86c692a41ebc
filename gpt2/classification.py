"""Fine-tuning GPT-2 to classify texts: a linear head on the last real token.

The result is a `transformers.GPT2ForSequenceClassification` checkpoint. Shapes: B batch, T time, C channels, K labels.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn

from gpt2 import weights
from gpt2.config import ClassificationParams
from gpt2.errors import InputError
from gpt2.files import read_json
from gpt2.model import GPT, summed_cross_entropy
from gpt2.runtime import World, move
from gpt2.tokenizer import Tokenizer
from gpt2.train import History, Trainer


class GPTClassifier(nn.Module):
    """GPT-2 whose residual stream at the last real token goes through a linear layer without bias."""

    def __init__(self, transformer: GPT, n_labels: int, pad: int):
        super().__init__()
        self.transformer, self.pad = transformer, pad
        self.score = nn.Linear(transformer.config.n_embd, n_labels, bias=False)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> Tensor:
        """Maps token ids (B, T), padded on the right, to logits (B, K), or with labels (B,) to the summed loss."""
        T = idx.size(1)
        places = torch.arange(T, device=idx.device).expand_as(idx)
        last = places.masked_fill(idx == self.pad, 0).argmax(dim=1)  # (B,) the last token that is not padding
        hidden = self.transformer.hidden(idx)  # (B, T, C)
        logits = self.score(hidden[torch.arange(len(idx), device=idx.device), last])  # (B, K)
        return logits if targets is None else summed_cross_entropy(logits, targets)


class LabelledTexts:
    """Texts and labels as samples; texts longer than the context keep their beginning."""

    def __init__(self, rows: list[dict], labels: list[str], tokenizer: Tokenizer, block_size: int, where: str):
        """Raises InputError naming `where` and the row whose text is empty or whose label is not in `labels`."""
        self.pad = tokenizer.eot
        self.ids, self.labels = [], []
        numbers = {label: number for number, label in enumerate(labels)}
        for line, row in enumerate(rows, start=1):
            text, label = row.get("text"), row.get("label")
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{where}, line {line}: text = {text!r}: expected a text that is not empty")
            if not isinstance(label, str) or label not in numbers:
                raise InputError(f"{where}, line {line}: label = {label!r}: expected one of {', '.join(labels)}")
            self.ids.append(tokenizer.encode(text)[:block_size])
            self.labels.append(numbers[label])
        if not self.ids:
            raise InputError(f"{where}: holds no examples")
        self.lengths = np.array([len(ids) for ids in self.ids])

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Token ids (B, T), padded on the right to the longest, and labels (B,)."""
        texts = [torch.tensor(self.ids[i]) for i in ids]
        padded = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self.pad)
        return padded, torch.tensor([self.labels[i] for i in ids])

    def targets(self, ids: np.ndarray) -> int:
        """One label a text."""
        return len(ids)


def read_labels(path: Path) -> list[str]:
    """The labels in the order of their numbers. Raises InputError unless they are two texts or more, all different."""
    labels = read_json(path)
    texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not texts or len(set(labels)) < max(2, len(labels)):
        raise InputError(f"{path}: expected a list of at least two texts, all different")
    return labels


def freeze(model: GPTClassifier, params: ClassificationParams) -> None:
    """Leaves trainable what `params.trainable` says; the head always is.

    Raises InputError if the model has fewer blocks than `params.last_blocks`.
    """
    if params.trainable == "all":
        return
    body = model.transformer.requires_grad_(False)
    if params.trainable == "last_blocks":
        if params.last_blocks > len(body.h):
            raise InputError(f"classification.last_blocks = {params.last_blocks}: the model has {len(body.h)} blocks")
        body.ln_f.requires_grad_(True)
        body.h[-params.last_blocks :].requires_grad_(True)


@torch.inference_mode()
def predict(model: GPTClassifier, data: LabelledTexts, batch_size: int, world: World) -> np.ndarray:
    """Probabilities (n, K) in float32 for every text, in order."""
    model.eval()
    shares = []
    for first in range(0, len(data), batch_size):
        inputs, _ = data.batch(np.arange(first, min(first + batch_size, len(data))))
        shares.append(model(move(inputs, world.device)).float().softmax(dim=1).cpu())
    return torch.cat(shares).numpy()


@dataclass
class Classified:
    """A finished fine-tuning."""

    model: GPTClassifier
    history: History
    metrics: dict
    predictions: list[dict]  # one a test text: text, label, prediction, probability


def finetune(
    base: GPT,
    tokenizer: Tokenizer,
    rows: dict[str, list[dict]],
    labels: list[str],
    params: ClassificationParams,
    *,
    source: Path,
    seed: int,
    scratch: Path,
    world: World,
) -> Classified:
    """Trains a head, and as much of `base` as `params` says, on `rows["train"]`; reports on `rows["test"]`.

    `source`: the folder that the rows were read from, which messages name. Raises InputError for rows that are
    malformed, and for training that diverges.
    """
    data = {
        split: LabelledTexts(rows[split], labels, tokenizer, base.config.block_size, f"{source}/{split}.jsonl")
        for split in ("train", "val", "test")
    }
    torch.manual_seed(seed)
    model = GPTClassifier(base, len(labels), tokenizer.eot)
    freeze(model, params)

    def evaluate(model: nn.Module) -> dict[str, float]:
        probabilities = predict(model, data["val"], params.micro_batch_size, world)
        actual = data["val"].labels
        loss = -np.log(probabilities[np.arange(len(actual)), actual]).mean()
        return {"loss": float(loss), "accuracy": float(accuracy_score(actual, probabilities.argmax(axis=1)))}

    history = Trainer(model, data["train"], params, world=world, seed=seed, scratch=scratch, evaluate=evaluate).fit()
    probabilities = predict(model, data["test"], params.micro_batch_size, world)
    return Classified(model, history, metrics(probabilities, data), predictions(probabilities, rows["test"], labels))


def metrics(probabilities: np.ndarray, data: dict[str, LabelledTexts]) -> dict:
    """Accuracy with its standard error, macro F1, and what always answering the commonest training label scores."""
    actual, predicted = data["test"].labels, probabilities.argmax(axis=1)
    accuracy, n = float(accuracy_score(actual, predicted)), len(actual)
    majority = Counter(data["train"].labels).most_common(1)[0][0]
    return {
        "accuracy": accuracy,
        "accuracy_stderr": math.sqrt(accuracy * (1 - accuracy) / n),
        "f1": float(f1_score(actual, predicted, average="macro")),
        "majority_accuracy": actual.count(majority) / n,
        "n": n,
    }


def predictions(probabilities: np.ndarray, rows: list[dict], labels: list[str]) -> list[dict]:
    """For each text its label, the label predicted and the probability given to that."""
    return [
        {**row, "prediction": labels[share.argmax()], "probability": round(float(share.max()), 4)}
        for row, share in zip(rows, probabilities, strict=True)
    ]


def save(model: GPTClassifier, labels: list[str], directory: Path) -> None:
    """Writes the model as a checkpoint that `transformers.GPT2ForSequenceClassification.from_pretrained` reads."""
    body = model.transformer
    config = {
        **weights.hf_config(body.config),
        "architectures": ["GPT2ForSequenceClassification"],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        "pad_token_id": model.pad,
    }
    state = {**weights.to_hf(body.state_dict()), "score.weight": model.score.weight.detach().cpu().contiguous()}
    weights.save_checkpoint(directory, config, state)
