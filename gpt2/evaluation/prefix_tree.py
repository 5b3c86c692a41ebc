"""Endings of a shared context, scored as a tree: the context goes through the model once, and the endings beside it.

A sequence holds the context and after it every ending, less its last token, which is only predicted. A mask lets an
ending see the context and itself, and its positions go on where the context ends: so each token is computed as in a row
of its own. Of these rows, one an ending, half of HellaSwag's tokens would be context again.

Shapes: B trees in a batch, T time (tokens of the longest), C channels, V vocabulary, N positions at which something is
predicted, E endings of a tree at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2.model.gpt import GPT, causal_mask

CONTEXT, PADDING = 0, -1  # segments; the endings are 1, 2 ...
ROWS = 256  # of N that are multiplied with the vocabulary together: more would only take more memory


@dataclass(frozen=True)
class Tree:
    """A context and its endings in tokens, none of them empty."""

    context: list[int]
    endings: list[list[int]]

    def __len__(self) -> int:
        """Tokens that the model reads."""
        return len(self.context) + sum(len(ending) - 1 for ending in self.endings)


def grow(context: list[int], endings: list[list[int]], block_size: int) -> list[Tree]:
    """One tree, or where the context with an ending is longer than the model's, one tree an ending.

    Those then lose tokens from the left until they fit, each as many as it has to: of an ending that fits in no
    context, the last `block_size` tokens are scored.
    """
    if len(context) + max(map(len, endings)) <= block_size + 1:  # the last token is not read
        return [Tree(context, endings)]
    rows = [((context + ending)[-block_size - 1 :], min(len(ending), block_size)) for ending in endings]
    return [Tree(tokens[:-scored], [tokens[-scored:]]) for tokens, scored in rows]


def batched(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Numbers of items of these lengths, the longest first, in batches of at most `most` tokens with their padding.

    An item that is longer than that makes a batch alone.
    """
    batches: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= most:
            batches[-1].append(item)
        else:
            batches.append([item])
    return batches


@torch.no_grad()  # not inference_mode: see autocast_dtype
def log_likelihoods(model: GPT, trees: list[Tree]) -> list[list[float]]:
    """The log-likelihood in nats of every ending given its context, by tree; summed in float64.

    Under autocast the model computes in its type. Only what predicts an ending's token is multiplied with the
    vocabulary: a context's last token once, for the first token of every ending.
    """
    assert not model.training
    device = model.wte.weight.device
    tokens = _padded([tree.context + [t for e in tree.endings for t in e[:-1]] for tree in trees], 0)  # (B, T)
    positions = _padded([list(_positions(tree)) for tree in trees], 0)  # (B, T)
    segments = _padded([list(_segments(tree)) for tree in trees], PADDING)  # (B, T)
    predicts = _padded([[0] * (len(tree.context) - 1) + [1] * _predicting(tree) for tree in trees], 0).bool()  # (B, T)
    targets, owners = _targets(trees)  # (N, E)
    mask = tree_mask(segments.to(device))
    hidden = model.hidden(tokens.to(device), positions=positions.to(device), mask=mask)[predicts.to(device)]  # (N, C)
    scores = _log_probabilities(model, hidden, targets.to(device)).double().cpu()  # (N, E)
    n = sum(len(tree.endings) for tree in trees)
    totals = torch.zeros(n + 1, dtype=torch.float64).index_add(0, owners.flatten(), scores.flatten())[:n]
    return [part.tolist() for part in totals.split([len(tree.endings) for tree in trees])]


def tree_mask(segments: Tensor) -> Tensor:
    """Who sees whom, (B, 1, T, T) boolean: what stands before and is context or of the same segment of (B, T)."""
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    visible = same | (segments == CONTEXT)[:, None, :]
    return (visible & causal_mask(segments.size(1), segments.size(1), segments.device))[:, None]


def _positions(tree: Tree) -> Iterator[int]:
    yield from range(len(tree.context))
    for ending in tree.endings:
        yield from range(len(tree.context), len(tree.context) + len(ending) - 1)


def _segments(tree: Tree) -> Iterator[int]:
    yield from [CONTEXT] * len(tree.context)
    for number, ending in enumerate(tree.endings, start=1):
        yield from [number] * (len(ending) - 1)


def _predicting(tree: Tree) -> int:
    """Tokens that predict something: the context's last and all that follow."""
    return len(tree) - len(tree.context) + 1


def _targets(trees: list[Tree]) -> tuple[Tensor, Tensor]:
    """What each of the N positions predicts, and the number of the ending that this is part of: (N, E) each.

    Where a position predicts fewer than E tokens, token 0 of no ending, which has the number after the last, fills up.
    """
    targets, owners, n = [], [], 0
    for tree in trees:
        numbers = list(range(n, n + len(tree.endings)))
        n += len(numbers)
        targets += [[ending[0] for ending in tree.endings], *([t] for e in tree.endings for t in e[1:])]
        owners += [numbers, *([i] for i, e in zip(numbers, tree.endings, strict=True) for _ in e[1:])]
    return _padded(targets, 0), _padded(owners, n)


def _log_probabilities(model: GPT, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of `targets` (N, E) after the positions of `hidden` (N, C): (N, E) in float32 or more."""
    parts = []
    for some, wanted in zip(hidden.split(ROWS), targets.split(ROWS), strict=True):
        logits = model.logits(some)  # (rows, V)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        parts.append(logits.gather(1, wanted) - logits.logsumexp(dim=1, keepdim=True))
    return torch.cat(parts)


def _padded(rows: list[list[int]], fill: int) -> Tensor:
    """Lists of ids as one tensor (rows, longest), filled up on the right."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=fill)
