"""Log-likelihoods of several endings of one context, which the model reads only once (tree attention).

A sequence is the context followed by every ending without its last token, which the model only has to predict. The
mask lets each ending see the context and itself, and each ending's positions continue from the context. So every token
gets the logits that it would get in a separate sequence. With one sequence per ending, half of the tokens that
HellaSwag feeds to the model would be repetitions of the context.

Shapes: B trees in a batch, T time (tokens of the longest tree), C channels, V vocabulary, N tokens of all endings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from gpt2.model.gpt import GPT, causal_mask

CONTEXT, PADDING = 0, -1  # segment ids; endings are 1, 2, ...
HEAD_TOKENS = 256  # tokens whose logits are in memory at a time; larger values are not faster


@dataclass(frozen=True)
class PrefixTree:
    """A context and the endings that share it, as token ids. None of them is empty."""

    context: list[int]
    endings: list[list[int]]

    def __len__(self) -> int:
        """The number of tokens that the model reads."""
        return len(self.context) + sum(len(ending) - 1 for ending in self.endings)

    def tokens(self) -> list[int]:
        """The tokens that the model reads."""
        return self.context + [token for ending in self.endings for token in ending[:-1]]

    def positions(self) -> list[int]:
        """The position of each token: every ending continues from the context."""
        start = len(self.context)
        return [*range(start), *(start + i for ending in self.endings for i in range(len(ending) - 1))]

    def segments(self) -> list[int]:
        """The segment of each token: CONTEXT, or the number of its ending, from 1."""
        endings = (number for number, ending in enumerate(self.endings, start=1) for _ in ending[:-1])
        return [CONTEXT] * len(self.context) + list(endings)

    def predictors(self) -> list[int]:
        """For each token of each ending, the index in `tokens` of the token that predicts it."""
        indices, start = [], len(self.context)
        for ending in self.endings:
            indices += [len(self.context) - 1, *range(start, start + len(ending) - 1)]
            start += len(ending) - 1
        return indices


def build_trees(context: list[int], endings: list[list[int]], block_size: int) -> list[PrefixTree]:
    """Builds one tree, or one per ending if the context with the longest ending does not fit `block_size`.

    A tree per ending is cut on the left until it fits. If an ending alone does not fit, only its last `block_size`
    tokens are scored.
    """
    if len(context) + max(map(len, endings)) <= block_size + 1:  # the model does not read the last token
        return [PrefixTree(context, endings)]
    rows = [((context + ending)[-block_size - 1 :], min(len(ending), block_size)) for ending in endings]
    return [PrefixTree(tokens[:-scored], [tokens[-scored:]]) for tokens, scored in rows]


def length_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Groups indices of items into batches of at most `max_tokens` tokens, padding included, the longest items first.

    An item longer than `max_tokens` is a batch by itself.
    """
    batches: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


@torch.no_grad()  # not inference_mode: see autocast
def log_likelihoods(model: GPT, trees: list[PrefixTree]) -> list[list[float]]:
    """Returns for each tree the log-likelihood in nats of each ending given its context, summed in float64.

    Under autocast the model computes in autocast's type. Only hidden states that predict a token of an ending are
    multiplied with the vocabulary.
    """
    assert not model.training
    device = model.wte.weight.device
    tokens = _padded([tree.tokens() for tree in trees], 0).to(device)  # (B, T)
    positions = _padded([tree.positions() for tree in trees], 0).to(device)  # (B, T)
    segments = _padded([tree.segments() for tree in trees], PADDING).to(device)  # (B, T)
    hidden = model.hidden(tokens, positions=positions, mask=tree_attention_mask(segments))  # (B, T, C)

    endings = [ending for tree in trees for ending in tree.endings]
    targets = torch.tensor([token for ending in endings for token in ending], device=device)  # (N,)
    places = [i * tokens.size(1) + place for i, tree in enumerate(trees) for place in tree.predictors()]
    predictors = hidden.flatten(0, 1)[torch.tensor(places, device=device)]  # (N, C)
    scores = torch.cat(
        [
            _log_probabilities(model.logits(rows), row_targets)
            for rows, row_targets in zip(predictors.split(HEAD_TOKENS), targets.split(HEAD_TOKENS), strict=True)
        ]
    )  # (N,)
    sums = iter([ending.sum().item() for ending in scores.cpu().double().split([len(e) for e in endings])])
    return [[next(sums) for _ in tree.endings] for tree in trees]


def tree_attention_mask(segments: Tensor) -> Tensor:
    """Maps segment ids (B, T) to a boolean mask (B, 1, T, T), true where a token may attend.

    A token sees itself and the earlier tokens that belong to the context or to its own segment.
    """
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    visible = same | (segments == CONTEXT)[:, None, :]
    return (visible & causal_mask(segments.size(1), segments.size(1), segments.device))[:, None]


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Maps logits (N, V) and targets (N,) to log-probabilities (N,), in float32 or wider."""
    return -F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none")


def _padded(rows: list[list[int]], fill: int) -> Tensor:
    """Lists of numbers as one tensor (rows, longest), padded on the right."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=fill)
