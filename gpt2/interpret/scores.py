"""Attention weights of a model, and scores of how much each head behaves like a known kind of head.

Layers and heads are numbered from 0, as in the checkpoint: h.0 is the first block.

Shapes: L layers, H heads, T time (tokens), P tokens of a random sequence before it repeats, N random sequences.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2.model.gpt import GPT

RANDOM_SEQUENCES = 8
RANDOM_TOKENS = 50  # before they repeat


@torch.inference_mode()
def capture(model: GPT, idx: Tensor) -> Tensor:
    """Returns the attention of every layer and head for token ids (B, T): (L, B, H, T, T), float32 on the CPU."""
    assert not model.training, "dropout would disturb the measurement"
    return torch.stack(model.attentions(idx)).float().cpu()


def label(token: bytes) -> str:
    """A printable name of a token: · for a space, ↵ for a newline, and hex for bytes that are not whole characters."""
    try:
        text = token.decode("utf-8").replace(" ", "·").replace("\n", "↵")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


# --- scores --------------------------------------------------------------------------------------------------------
# A is a head's attention: A[t, s] is the weight with which position t attends to position s. Every score is between 0
# and 1, and maps (..., T, T) to (...).


def stripe(weights: Tensor, offset: int, start: int) -> Tensor:
    """Mean of A[t, t - offset] over t >= start."""
    return weights.diagonal(-offset, -2, -1)[..., start - offset :].mean(-1)


def entropy(weights: Tensor) -> Tensor:
    """Mean over t >= 1 of -Σ_s A[t, s] ln A[t, s] / ln(t + 1): 0 if one position gets all attention, 1 if all positions
    get the same."""
    nats = -torch.xlogy(weights, weights).sum(-1)[..., 1:]  # (..., T - 1)
    return (nats / torch.arange(2, weights.size(-1) + 1).log()).mean(-1)


def text_scores(weights: Tensor) -> dict[str, Tensor]:
    """Scores (...) that are measured on text, from attention (..., T, T).

    previous_token: mean of A[t, t - 1] over t >= 1 (Voita et al. 2019). first_token: mean of A[t, 0] over t >= 2, where
    idle heads attend (the attention sink of Xiao et al. 2023); at t = 1 the first token is also the previous one.
    """
    first_token = weights[..., 2:, 0].mean(-1)
    return {"previous_token": stripe(weights, 1, 1), "first_token": first_token, "entropy": entropy(weights)}


def repetition_scores(weights: Tensor) -> dict[str, Tensor]:
    """Scores (...) that are measured on P repeated random tokens, from attention (..., 2P, 2P).

    duplicate_token: mean of A[t, t - P] over t >= P, attention to the same token in the first copy (Wang et al. 2022,
    §3). induction: mean of A[t, t - P + 1] over t >= P, attention to the token that followed the same token in the
    first copy, which is also the next token (Olsson et al. 2022, "prefix matching").
    """
    P = weights.size(-1) // 2
    return {"duplicate_token": stripe(weights, P, P), "induction": stripe(weights, P - 1, P)}


def mean_scores(scores: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Averages each score over several texts."""
    return {name: torch.stack([score[name] for score in scores]).mean(0) for name in scores[0]}


def repeated_tokens(eot: int, block_size: int, seed: int) -> Tensor:
    """Random sequences of P tokens, each repeated once: (N, 2P). Within a sequence all tokens differ, and all come
    before `eot`, the id of <|endoftext|>."""
    period = min(RANDOM_TOKENS, block_size // 2, eot)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(eot, generator=generator)[:period] for _ in range(RANDOM_SEQUENCES)]
    return torch.stack(rows).repeat(1, 2)


def uniform(T: int) -> Tensor:
    """The attention (1, 1, T, T) of a head that attends equally to all positions, as a baseline for scores."""
    return (torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None])[None, None]


# --- all layers together -------------------------------------------------------------------------------------------


def rollout(weights: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020, §3): how much of each input token reaches each position of the last
    layer, if the residual stream counts as half of every layer. Maps (L, H, T, T) to (T, T).

        R_0 = I,  R_l = (0.5 Ā_l + 0.5 I) R_{l-1}

    where Ā_l is the mean of layer l's heads. As in attention, each row sums to 1 over the positions up to its own.
    """
    T = weights.size(-1)
    rolled = identity = torch.eye(T)
    for layer in weights.mean(1):  # (T, T)
        rolled = (0.5 * layer + 0.5 * identity) @ rolled
    return rolled
