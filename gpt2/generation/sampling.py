"""Chooses the next token: greedily, or by sampling with temperature, top-k, top-p and repetition penalty.

The steps, their order and their random numbers are those of transformers' `generate`, so that the same seed gives the
same text.

Shapes: B rows, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_TEMPERATURE = 1e-6  # the lowest temperature that float32 logits are divided by


@dataclass(frozen=True)
class Sampling:
    """The settings. With the defaults, tokens are drawn from the model's own distribution."""

    temperature: float = 1.0  # divides logits; below MIN_TEMPERATURE the likeliest token is taken
    top_k: int = 0  # keep this many of the likeliest tokens; 0: all
    top_p: float = 1.0  # keep the smallest set of likeliest tokens with at least this probability
    repetition_penalty: float = 1.0  # above 1 makes tokens that the text already contains less likely


GREEDY = Sampling(temperature=0)


def choose(logits: Tensor, sampling: Sampling, generators: list[torch.Generator], seen: Tensor) -> Tensor:
    """Chooses the next token of each row of `logits` (B, V): (B,).

    Each row has its own generator, so that its tokens do not depend on the rest of the batch. `seen` (B, V) is true for
    the tokens that a row's text already contains.
    """
    logits = warp(logits.float(), sampling, seen)  # (B, V)
    if sampling.temperature < MIN_TEMPERATURE:
        return logits.argmax(dim=1)
    noise = torch.empty_like(logits)
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    return (logits.softmax(dim=1) / noise).argmax(dim=1)  # what torch.multinomial does, without waiting for the device


def warp(logits: Tensor, sampling: Sampling, seen: Tensor) -> Tensor:
    """Returns logits (B, V) whose softmax is the distribution that tokens are drawn from.

    The repetition penalty comes first: it divides the positive logits of seen tokens and multiplies the negative ones
    (Keskar et al. 2019, §4.1). Then the temperature divides the logits, `top_k` removes all but the likeliest tokens,
    and `top_p` removes those outside the nucleus (Holtzman et al. 2019, §3.1).
    """
    if (penalty := sampling.repetition_penalty) != 1:
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if sampling.temperature >= MIN_TEMPERATURE:
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.size(1):
        smallest = logits.topk(sampling.top_k, dim=1).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < smallest, -math.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=1)  # from the least to the most likely
        outside = ordered.softmax(dim=1).cumsum(dim=1) <= 1 - sampling.top_p
        outside[:, -1] = False
        logits = logits.masked_fill(outside.scatter(1, order, outside), -math.inf)
    return logits
