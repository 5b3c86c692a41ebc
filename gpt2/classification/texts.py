"""Labeled texts as samples.

Shapes: B batch, T time, n texts.
"""

import numpy as np
import torch
from torch import Tensor

from gpt2.adapters.classifier import padded
from gpt2.tokenizer.tokenizer import Tokenizer


class LabeledTexts:
    """Texts and labels as samples. Texts longer than the context are cut and counted in `truncated`."""

    def __init__(self, rows: list[dict], labels: list[str], tokenizer: Tokenizer, block_size: int):
        self.pad = tokenizer.eot
        ids = [tokenizer.encode(row["text"]) for row in rows]
        self.truncated = sum(len(text) > block_size for text in ids)
        self.ids = [text[:block_size] for text in ids]
        self.labels = np.array([labels.index(row["label"]) for row in rows])  # (n,)
        self.lengths = np.array([len(ids) for ids in self.ids])

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        """Token ids (B, T), padded on the right to the longest, and labels (B,)."""
        return padded([self.ids[i] for i in ids], self.pad), torch.tensor(self.labels[ids])

    def targets(self, ids: np.ndarray) -> int:
        """One label per text."""
        return len(ids)
