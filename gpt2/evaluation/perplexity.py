"""How likely a model finds texts, by a sliding window: every token is scored once.

A document begins after <|endoftext|>, as in training, so that its first token is scored too, and <|endoftext|> is not.
Documents do not see one another. The windows are those of transformers' guide "Perplexity of fixed-length models": each
holds as many tokens as the model's context, begins `stride` tokens after the one before, and scores what is new in it.

Shapes: B windows, T time (tokens), N scored tokens, C channels, V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from gpt2.model.gpt import GPT, IGNORE, summed_cross_entropy
from gpt2.tokenizer.tokenizer import Tokenizer

BATCH_TOKENS = 8192  # that go through the model together, padding included
SORTED_WINDOWS = 256  # in memory, to find those of like lengths
HEAD_TOKENS = 1024  # multiplied with the vocabulary at a time: logits take 4 V bytes each


class Window(NamedTuple):
    """Consecutive tokens, of which the last `scored` are scored, each given those before it."""

    tokens: list[int]
    scored: int


@dataclass(frozen=True)
class Likelihood:
    """What a model makes of texts."""

    nats: float  # negative log-likelihood of all tokens
    tokens: int
    bytes: int  # of the texts, as UTF-8

    @property
    def nats_per_token(self) -> float:
        """The mean loss."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """What an ideal coder with this model would take: it compares models whose vocabularies differ."""
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """exp(nats a token); it compares models of one vocabulary."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf


@torch.no_grad()  # not inference_mode: see autocast_dtype
def score(
    model: GPT,
    tokenizer: Tokenizer,
    documents: Iterable[Iterable[str]],
    stride: int,
    dtype: torch.dtype | None,
    progress: tqdm,
) -> Likelihood:
    """The likelihood of documents, each in parts that follow one another; `progress` counts bytes.

    All tokens but the first `block_size` of a document have at least `block_size - stride` before them. `dtype` is that
    of matrix products, None for the model's own. A few windows are in memory at a time, however long the documents.
    """
    assert not model.training and 0 < stride < model.config.block_size
    device = model.wte.weight.device
    lengths = torch.tensor([len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)], device=device)
    streams = (chain([tokenizer.eot], tokenizer.encode_parts(document)) for document in documents)
    found = chain.from_iterable(windows(stream, model.config.block_size, stride) for stream in streams)
    nats, tokens, size = 0.0, 0, 0
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        for batch in batches(found, BATCH_TOKENS):
            inputs, targets = (tensor.to(device) for tensor in padded(batch))
            nats += negative_log_likelihood(model, inputs, targets)
            scored = targets[targets != IGNORE]
            spelt = int(lengths[scored].sum())
            tokens, size = tokens + len(scored), size + spelt
            progress.update(spelt)
    return Likelihood(nats, tokens, size)


def windows(tokens: Iterable[int], length: int, stride: int) -> Iterator[Window]:
    """The windows of at most `length` tokens in which every token but the first is scored once."""
    tokens = iter(tokens)
    window = list(islice(tokens, length))
    fresh = window[1:]
    while fresh:
        yield Window(window, len(fresh))
        fresh = list(islice(tokens, stride))
        window = window[stride:] + fresh


def batches(windows: Iterator[Window], limit: int) -> Iterator[list[Window]]:
    """Windows of like lengths together, at most `limit` tokens with their padding; a longer window is alone."""
    while held := sorted(islice(windows, SORTED_WINDOWS), key=lambda window: len(window.tokens)):
        while held:
            size = max(1, limit // len(held[-1].tokens))
            yield held[-size:]
            del held[-size:]


def padded(batch: list[Window]) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (B, T) each, padded on the right, where causal attention keeps padding from being seen."""
    rows = [torch.tensor(window.tokens) for window in batch]
    inputs = pad_sequence([row[:-1] for row in rows], batch_first=True)
    targets = pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=IGNORE)
    for row, window in zip(targets, batch, strict=True):
        row[: len(window.tokens) - 1 - window.scored] = IGNORE
    return inputs, targets


def negative_log_likelihood(model: GPT, inputs: Tensor, targets: Tensor) -> float:
    """The sum over the targets (B, T) that are not IGNORE, in nats; only these are multiplied with the vocabulary."""
    scored = targets != IGNORE
    hidden = model.hidden(inputs)[scored]  # (N, C)
    return sum(
        summed_cross_entropy(model.logits(some), wanted).item()
        for some, wanted in zip(hidden.split(HEAD_TOKENS), targets[scored].split(HEAD_TOKENS), strict=True)
    )
