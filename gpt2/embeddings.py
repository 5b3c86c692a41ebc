"""What training does to the position embedding: from noise to smooth curves.

Shapes: T positions (block_size), C channels.
"""

import numpy as np
import torch

from gpt2.config import GPTConfig
from gpt2.model import GPT


def positions(model: GPT) -> np.ndarray:
    """The position embedding wpe, (T, C) in float64."""
    return model.wpe.weight.detach().double().cpu().numpy()


def initial_positions(config: GPTConfig, seed: int) -> np.ndarray:
    """The position embedding (T, C) of a fresh model of this shape.

    With the seed of pretraining it is the very one that training began with.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return positions(GPT(config))


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


def metrics(initial: np.ndarray, trained: np.ndarray) -> dict[str, float]:
    """The smoothness of the position embedding before and after training."""
    return {
        "wpe_smoothness_initial": round(float(smoothness(initial)), 6),
        "wpe_smoothness": round(float(smoothness(trained)), 6),
    }
