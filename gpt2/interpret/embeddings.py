"""What training does to the embeddings: positions go from noise to smooth curves, tokens find their neighbours.

Shapes: T positions (block_size), V vocabulary, C channels, N rows of either.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch.nn import functional as F

from gpt2.interpret.scores import label
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

WORDS = 8  # distinct tokens whose neighbours are listed
NEIGHBOURS = 5  # of each
EXTREMES = 5  # tokens of smallest and of largest norm


@dataclass(frozen=True)
class Embeddings:
    """What is kept of one model's embeddings."""

    wpe: np.ndarray  # (T, C) in float64
    norms: np.ndarray  # of the tokens, (V,)


def embeddings(model: GPT) -> Embeddings:
    """The position embedding, and the Euclidean norms of the token embedding."""
    wte = model.wte.weight.detach()
    return Embeddings(model.wpe.weight.detach().double().numpy(), wte.norm(dim=1).double().numpy())


# --- positions -----------------------------------------------------------------------------------------------------


def smoothness(w: np.ndarray, axis: int | None = None) -> np.ndarray | float:
    """Σ (w[t + 1] - w[t])² / Σ (w[t] - w̄)² over positions t, with w̄ the mean of a channel: about 2 where neighbours
    have nothing to do with each other, toward 0 where w is a smooth curve (von Neumann 1941).

    Maps (T, C) to one number, the sums running over channels too; with axis=0 to one number a channel, (C,).
    """
    steps = (np.diff(w, axis=0) ** 2).sum(axis)
    spread = ((w - w.mean(axis=0)) ** 2).sum(axis)
    return steps / spread


def widest(w: np.ndarray, count: int) -> list[int]:
    """The channels of (T, C) that vary most over positions, the widest first."""
    return [int(channel) for channel in np.argsort(-w.var(axis=0), kind="stable")[:count]]


def cosines(w: np.ndarray) -> np.ndarray:
    """The cosine of the angle between each two rows: maps (N, C) to (N, N)."""
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    return unit @ unit.T


# --- tokens --------------------------------------------------------------------------------------------------------


def words(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
    """The first eight distinct tokens that are words of three letters or more; a space may stand before."""
    found = (id for id in dict.fromkeys(ids) if _is_word(tokenizer.token_bytes(id)))
    return list(islice(found, WORDS))


def _is_word(token: bytes) -> bool:
    text = token.decode("utf-8", "replace").removeprefix(" ")
    return len(text) >= 3 and text.isalpha()


@torch.inference_mode()
def neighbour_rows(name: str, model: GPT, tokenizer: Tokenizer, ids: list[int]) -> list[dict]:
    """For each token the five others whose embeddings are nearest by cosine, the nearest first: a row each."""
    unit = F.normalize(model.wte.weight, dim=1)  # (V, C)
    cosine = unit[ids] @ unit.t()  # (N, V)
    cosine[torch.arange(len(ids)), ids] = -torch.inf
    values, others = (each[:, :NEIGHBOURS].tolist() for each in cosine.sort(dim=1, descending=True, stable=True))
    return [
        {
            "model": name,
            "id": id,
            "token": label(tokenizer.token_bytes(id)),
            "rank": rank,
            "neighbour_id": other,
            "neighbour": label(tokenizer.token_bytes(other)),
            "cosine": round(value, 6),
        }
        for id, *nearest in zip(ids, others, values, strict=True)
        for rank, (other, value) in enumerate(zip(*nearest, strict=True), start=1)
    ]


def norm_rows(name: str, norms: np.ndarray, tokenizer: Tokenizer) -> list[dict]:
    """The tokens of smallest and of largest norm (V,), a row each; the most extreme first."""
    order = np.argsort(norms, kind="stable")
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
    """The smoothness of the position embedding and the mean norm of the tokens', beside those of random weights."""
    return {
        "wpe_smoothness_initial": round(float(smoothness(initial.wpe)), 6),
        "wpe_smoothness": round(float(smoothness(trained.wpe)), 6),
        "wte_norm_initial": round(float(initial.norms.mean()), 6),
        "wte_norm": round(float(trained.norms.mean()), 6),
    }
