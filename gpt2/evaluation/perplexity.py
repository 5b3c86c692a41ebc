"""Measures how likely texts are under a model. A sliding window scores every token once.

Each document follows <|endoftext|>, as in training, so that its first token is scored too; <|endoftext|> itself is not.
Documents are independent. The windows are those of transformers' guide "Perplexity of fixed-length models": each is as
long as the model's context, starts `stride` tokens after the previous one, and scores the tokens that are new in it.

Shapes: B windows, T time (tokens), N scored tokens, C channels, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from gpt2.model.gpt import GPT
from gpt2.model.loss import IGNORE, linear_cross_entropy
from gpt2.runtime.precision import computing
from gpt2.tokenizer.tokenizer import Tokenizer

BATCH_TOKENS = 8192  # tokens that go through the model together, padding included
SORTED_WINDOWS = 256  # windows held in memory and sorted by length


class Window(NamedTuple):
    """Consecutive tokens. The last `scored` of them are scored, each given the tokens before it."""

    tokens: list[int]
    scored: int


@dataclass(frozen=True)
class Likelihood:
    """The likelihood of texts under a model."""

    nats: float  # negative log-likelihood, summed over all tokens
    tokens: int
    bytes: int  # of the texts in UTF-8
    documents: int

    @property
    def nats_per_token(self) -> float:
        """The mean loss."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """The size of the texts if the model compressed them ideally; comparable between any vocabularies."""
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """exp(nats per token). Comparable only between models with the same vocabulary."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf


@torch.no_grad()  # not inference_mode: see autocast
def score(
    model: GPT,
    tokenizer: Tokenizer,
    documents: Iterable[str],
    stride: int,
    precision: str,
    progress: tqdm,
) -> Likelihood:
    """Scores documents; `progress` counts bytes.

    After the first `block_size` tokens of a document, every token is scored given at least `block_size - stride`
    earlier ones. `precision`: a key of `runtime.precision.DTYPES`.
    """
    assert not model.training and 0 < stride < model.config.block_size
    device = model.wte.weight.device
    lengths = torch.tensor([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)], device=device)
    nats, tokens, size, count = 0.0, 0, 0, 0

    def all_windows() -> Iterator[Window]:
        nonlocal count
        for document in documents:
            count += 1
            yield from windows([tokenizer.eot, *tokenizer.encode(document)], model.config.block_size, stride)

    with computing(precision, device):
        for batch in batches(all_windows(), BATCH_TOKENS):
            inputs, targets = (tensor.to(device) for tensor in padded(batch))
            nats += negative_log_likelihood(model, inputs, targets)
            scored = targets[targets != IGNORE]
            n_bytes = int(lengths[scored].sum())
            tokens, size = tokens + len(scored), size + n_bytes
            progress.update(n_bytes)
    return Likelihood(nats, tokens, size, count)


def windows(tokens: Iterable[int], length: int, stride: int) -> Iterator[Window]:
    """Yields windows of at most `length` tokens that together score every token but the first once."""
    tokens = iter(tokens)
    window = list(islice(tokens, length))
    new = window[1:]
    while new:
        yield Window(window, len(new))
        new = list(islice(tokens, stride))
        window = window[stride:] + new


def batches(windows: Iterator[Window], limit: int) -> Iterator[list[Window]]:
    """Groups windows of similar lengths, at most `limit` tokens with padding. A longer window is a batch by itself."""
    while held := sorted(islice(windows, SORTED_WINDOWS), key=lambda window: len(window.tokens)):
        while held:
            size = max(1, limit // len(held[-1].tokens))
            yield held[-size:]
            del held[-size:]


def padded(batch: list[Window]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (B, T) each, padded on the right, where causal attention hides the padding."""
    rows = [torch.tensor(window.tokens) for window in batch]
    inputs = pad_sequence([row[:-1] for row in rows], batch_first=True)
    targets = pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=IGNORE)
    for row, window in zip(targets, batch, strict=True):
        row[: len(window.tokens) - 1 - window.scored] = IGNORE
    return inputs, targets


def negative_log_likelihood(model: GPT, inputs: Tensor, targets: Tensor) -> float:
    """Sums over the targets (B, T) other than IGNORE, in nats. Only their logits are computed."""
    scored = targets != IGNORE
    hidden = model.hidden(inputs)[scored]  # (N, C)
    return linear_cross_entropy(hidden, model.wte.weight, targets[scored]).item()
