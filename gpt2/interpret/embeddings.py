"""What training does to embeddings: positions turn from noise into smooth curves, and tokens get similar neighbors.

Shapes: T positions (block_size), V vocabulary, C channels, N rows of wpe or wte.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from gpt2.interpret.scores import label
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

WORDS = 8  # distinct tokens whose neighbors are listed
NEIGHBORS = 5  # per token
EXTREMES = 5  # tokens with the smallest norms, and as many with the largest


@dataclass(frozen=True)
class Embeddings:
    """The position embedding of one model, and the norms of its token embedding."""

    wpe: np.ndarray  # (T, C) in float64
    norms: np.ndarray  # (V,) Euclidean norms of the rows of wte


def embeddings(model: GPT) -> Embeddings:
    """Reads them from a model."""
    wte = model.wte.weight.detach()
    return Embeddings(model.wpe.weight.detach().double().numpy(), wte.norm(dim=1).double().numpy())


# --- positions -----------------------------------------------------------------------------------------------------


def smoothness(w: np.ndarray, axis: int | None = None) -> np.ndarray | float:
    """Σ (w[t + 1] - w[t])² / Σ (w[t] - w̄)² over positions t, where w̄ is the mean of a channel (von Neumann 1941).

    It is about 2 if neighboring positions are independent, and near 0 if w is a smooth curve. Maps (T, C) to one number
    by summing over channels too, or with axis=0 to one number per channel, (C,).
    """
    steps = (np.diff(w, axis=0) ** 2).sum(axis)
    spread = ((w - w.mean(axis=0)) ** 2).sum(axis)
    return steps / spread


def widest(w: np.ndarray, count: int) -> list[int]:
    """The channels of w (T, C) with the largest variance over positions, the largest first."""
    return [int(channel) for channel in np.argsort(-w.var(axis=0), kind="stable")[:count]]


def cosines(w: np.ndarray) -> np.ndarray:
    """Cosine similarity of all pairs of rows: maps (N, C) to (N, N)."""
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    return unit @ unit.T


# --- tokens --------------------------------------------------------------------------------------------------------


def words(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """The first eight distinct tokens that are words of at least three letters, with or without a leading space."""
    texts = {id: tokenizer.decode([id]).removeprefix(" ") for id in dict.fromkeys(ids)}
    return [id for id, text in texts.items() if len(text) >= 3 and text.isalpha()][:WORDS]


@torch.inference_mode()
def neighbor_rows(name: str, model: GPT, tokenizer: Tokenizer, ids: list[int]) -> list[dict]:
    """One row for each of the five nearest neighbors of each token by cosine similarity, the nearest first."""
    unit = F.normalize(model.wte.weight[: tokenizer.vocab_size], dim=1)  # (V, C), without rows that pad the table
    cosine = unit[ids] @ unit.t()  # (N, V)
    cosine[torch.arange(len(ids)), ids] = -torch.inf
    values, others = (part[:, :NEIGHBORS].tolist() for part in cosine.sort(dim=1, descending=True, stable=True))
    return [
        {
            "model": name,
            "id": id,
            "token": label(tokenizer.token_bytes(id)),
            "rank": rank,
            "neighbor_id": other,
            "neighbor": label(tokenizer.token_bytes(other)),
            "cosine": round(value, 6),
        }
        for id, *nearest in zip(ids, others, values, strict=True)
        for rank, (other, value) in enumerate(zip(*nearest, strict=True), start=1)
    ]


def norm_rows(name: str, norms: np.ndarray, tokenizer: Tokenizer) -> list[dict]:
    """One row for each of the tokens with the smallest and the largest norms (V,), the most extreme first."""
    order = np.argsort(norms[: tokenizer.vocab_size], kind="stable")
    return [
        {
            "model": name,
            "end": end,
            "rank": rank,
            "id": id,
            "token": label(tokenizer.token_bytes(id)),
            "norm": round(float(norms[id]), 6),
        }
        for end, ids in (("smallest", order[:EXTREMES]), ("largest", order[::-1][:EXTREMES]))
        for rank, id in enumerate(ids.tolist(), start=1)
    ]


def metrics(trained: Embeddings, initial: Embeddings) -> dict[str, float]:
    """Smoothness of the position embedding and mean norm of the token embedding, also for random weights."""
    return {
        "wpe_smoothness_initial": round(float(smoothness(initial.wpe)), 6),
        "wpe_smoothness": round(float(smoothness(trained.wpe)), 6),
        "wte_norm_initial": round(float(initial.norms.mean()), 6),
        "wte_norm": round(float(trained.norms.mean()), 6),
    }
