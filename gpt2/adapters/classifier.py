"""GPT-2 with a linear head on the last real token: the model, its predictions, and its checkpoints.

The checkpoints are those of `transformers.GPT2ForSequenceClassification`.

Shapes: B batch, T time, C channels, K labels, n texts.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2.common.errors import InputError
from gpt2.common.model_files import check_settings
from gpt2.model import checkpoint
from gpt2.model.gpt import GPT
from gpt2.runtime.device import move


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
        positions = torch.arange(T, device=idx.device).expand_as(idx)
        last = positions.masked_fill(idx == self.pad, 0).argmax(dim=1)  # (B,) the last token that is not padding
        hidden = self.transformer.hidden(idx)  # (B, T, C)
        logits = self.score(hidden[torch.arange(len(idx), device=idx.device), last])  # (B, K)
        if targets is None:
            return logits
        return F.cross_entropy(logits.float(), targets, reduction="sum")


def padded(texts: list[list[int]], pad: int) -> Tensor:
    """Token ids of B texts as one tensor (B, T), padded on the right to the longest."""
    return nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in texts], batch_first=True, padding_value=pad)


@torch.no_grad()  # not inference_mode: see autocast
def predict(model: GPTClassifier, texts: list[list[int]], batch_size: int) -> np.ndarray:
    """Log-probabilities (n, K) of texts of token ids, in float32; texts of similar length share a batch."""
    model.eval()
    weight = model.score.weight
    order = np.argsort([len(ids) for ids in texts], kind="stable")
    log_probs = np.empty((len(texts), len(weight)), dtype=np.float32)
    for first in range(0, len(texts), batch_size):
        chunk = order[first : first + batch_size]
        inputs = padded([texts[i] for i in chunk], model.pad)
        log_probs[chunk] = model(move(inputs, weight.device)).float().log_softmax(dim=1).cpu()
    return log_probs


# --- checkpoints ---------------------------------------------------------------------------------------------------


def save(model: GPTClassifier, labels: list[str], directory: Path) -> None:
    """Writes the model as a checkpoint for `transformers.GPT2ForSequenceClassification.from_pretrained`."""
    body = model.transformer
    config = {
        **checkpoint.hf_config(body.config, model.pad),
        "architectures": ["GPT2ForSequenceClassification"],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    state = {**checkpoint.to_hf(body.state_dict()), "score.weight": model.score.weight.detach().cpu().contiguous()}
    checkpoint.save_checkpoint(directory, config, state)


def load(directory: Path) -> tuple[GPTClassifier, list[str]]:
    """Reads a `GPT2ForSequenceClassification` checkpoint: the model, in eval mode, and the labels.

    As in transformers, a label without a name in `config.json` is LABEL_0, LABEL_1 and so on. Raises InputError if
    there is no checkpoint or it has no classification head.
    """
    config, raw = checkpoint.read_config(directory)
    state, weights = checkpoint.from_hf(checkpoint.read_state(directory)), checkpoint.weights_path(directory)
    head = state.pop("score.weight", None)
    if head is None:
        raise InputError(f"{directory}: no classifier: its {weights.name} has no tensor score.weight")
    path = directory / "config.json"
    check_settings(path, raw, {"problem_type": (None, "single_label_classification")})
    if head.ndim != 2 or len(head) < 2:
        shape = f"{tuple(head.shape)}, expected one row per label and at least two labels"
        raise InputError(f"{weights}: tensor score.weight has shape {shape}")
    checkpoint.check_depth(config, state, weights)
    pad, names = raw.get("pad_token_id"), raw.get("id2label") or {}
    pad = config.vocab_size - 1 if pad is None else pad
    if not (isinstance(pad, int) and 0 <= pad < config.vocab_size):
        raise InputError(f"{path}: pad_token_id = {pad!r}: expected the id of a token")
    if not (isinstance(names, dict) and all(isinstance(name, str) for name in names.values())):
        raise InputError(f"{path}: id2label = {names!r}: expected an object of strings")
    with checkpoint.without_weights():
        model = GPTClassifier(GPT(config), len(head), pad)
    state = {f"transformer.{name}": tensor for name, tensor in state.items()} | {"score.weight": head}
    checkpoint.load_state(model, state, weights)
    return model.eval(), [names.get(str(number), f"LABEL_{number}") for number in range(len(head))]
