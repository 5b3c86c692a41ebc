"""How the next token is chosen from logits: greedily, or drawn as transformers draws it.

Shapes: B rows, S tokens so far, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Temperature 0 is greedy; top_k 0, top_p 1 and repetition_penalty 1 change nothing."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float


def choose(logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """The next token (B,) of each row of logits (B, V) that follows `seen` (B, S)."""
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        scores = logits.gather(1, seen)
        penalty = sampling.repetition_penalty
        logits = logits.scatter(1, seen, torch.where(scores < 0, scores * penalty, scores / penalty))
    if sampling.temperature == 0:
        return logits.argmax(dim=1)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.size(1):
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k, dim=1).values[:, -1:], -math.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=1)  # the least likely first
        outside = ordered.softmax(dim=1).cumsum(dim=1) <= 1 - sampling.top_p
        outside[:, -1] = False
        logits = logits.masked_fill(outside.scatter(1, order, outside), -math.inf)
    return torch.multinomial(logits.softmax(dim=1), num_samples=1, generator=generator)[:, 0]
