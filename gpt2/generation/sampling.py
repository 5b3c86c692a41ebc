"""How the next token is chosen: greedily, or drawn by temperature, top-k, top-p and repetition penalty.

The steps, their order and their random numbers are those of transformers' `generate`, so that the same seed gives the
same text.

Shapes: B rows, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLDEST = 1e-6  # a temperature at which float32 logits can still be divided by it


@dataclass(frozen=True)
class Sampling:
    """The settings. As they stand here a token is drawn from the model's own distribution."""

    temperature: float = 1.0  # logits are divided by it; 0 takes the likeliest token, and so does less than COLDEST
    top_k: int = 0  # only so many of the likeliest tokens; 0: all
    top_p: float = 1.0  # only the smallest set of likeliest tokens that holds so much of the probability
    repetition_penalty: float = 1.0  # above 1 makes the tokens that a text has already less likely


GREEDY = Sampling(temperature=0)


def choose(logits: Tensor, sampling: Sampling, generators: list[torch.Generator], seen: Tensor) -> Tensor:
    """The next token of each row of `logits` (B, V): (B,).

    Each row draws from a generator of its own, so that its tokens do not depend on what else is in the batch. `seen`
    (B, V) is true for the tokens that a row's text has already.
    """
    logits = warp(logits.float(), sampling, seen)  # (B, V)
    if sampling.temperature < COLDEST:
        return logits.argmax(dim=1)
    shares = logits.softmax(dim=1)
    drawn = [
        torch.multinomial(row, num_samples=1, generator=generator)
        for row, generator in zip(shares, generators, strict=True)
    ]
    return torch.cat(drawn)


def warp(logits: Tensor, sampling: Sampling, seen: Tensor) -> Tensor:
    """Logits (B, V) whose softmax is what tokens are drawn from.

    First the penalty, which divides positive logits of seen tokens and multiplies negative ones (Keskar et al. 2019,
    §4.1); then the temperature; then all but the `top_k` likeliest are left out, and of these all that stand behind the
    nucleus, which holds `top_p` of the probability (Holtzman et al. 2019, §3.1).
    """
    if (penalty := sampling.repetition_penalty) != 1:
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if sampling.temperature >= COLDEST:
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.size(1):
        least = logits.topk(sampling.top_k, dim=1).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < least, -math.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=1)  # the least likely first
        outside = ordered.softmax(dim=1).cumsum(dim=1) <= 1 - sampling.top_p
        outside[:, -1] = False
        logits = logits.masked_fill(outside.scatter(1, order, outside), -math.inf)
    return logits
