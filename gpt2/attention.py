"""Attention, read out of a model: where each head looks, and how much it behaves like a kind of head that is known.

Layers and heads are numbered from 0, as in the checkpoint: h.0 is the first block.

Shapes: L layers, H heads, T time (tokens), P tokens of a random sequence before it repeats, N random sequences.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpt2.errors import InputError
from gpt2.model import GPT
from gpt2.tokenizer import Tokenizer

MIN_TOKENS = 3  # of a prompt: the first-token score begins at the third
RANDOM_SEQUENCES = 8
RANDOM_TOKENS = 50  # before the repetition


@dataclass(frozen=True)
class Reading:
    """What a model's heads do with one prompt."""

    text: str
    tokens: list[str]  # readable labels
    weights: Tensor  # (L, H, T, T); row t sums to 1 over the positions 0..t


def read(model: GPT, tokenizer: Tokenizer, prompts: Sequence[str]) -> list[Reading]:
    """Runs each prompt through the model, with nothing put before it.

    Raises InputError for a prompt of fewer than three tokens, or of more than the model's context.
    """
    readings = []
    for number, text in enumerate(prompts):
        ids, longest = tokenizer.encode(text), model.config.block_size
        if not MIN_TOKENS <= len(ids) <= longest:
            raise InputError(
                f"attention.prompts[{number}] = {text[:40]!r}: {len(ids)} tokens: expected {MIN_TOKENS} to {longest}"
            )
        readings.append(Reading(text, labels(tokenizer, ids), capture(model, torch.tensor([ids]))[:, 0]))
    return readings


@torch.inference_mode()
def capture(model: GPT, idx: Tensor) -> Tensor:
    """Attention of every layer and head for token ids (B, T): (L, B, H, T, T), in float32 on the CPU."""
    assert not model.training, "dropout would blur what is measured"
    return torch.stack(model.attentions(idx)).float().cpu()


def labels(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """A printable name for each token: spaces as ·, newlines as ↵, bytes that are only part of a character in hex."""
    return [label(tokenizer.token_bytes(id)) for id in ids]


def label(token: bytes) -> str:
    """The printable name of one token's bytes; see `labels`."""
    try:
        text = token.decode("utf-8").replace(" ", "·").replace("\n", "↵")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


# --- scores --------------------------------------------------------------------------------------------------------
# A is a head's attention: A[t, s] is how much position t takes from position s. Each score is between 0 and 1, and
# maps (..., T, T) to (...).


def stripe(weights: Tensor, offset: int, start: int) -> Tensor:
    """Mean of A[t, t - offset] over t >= start."""
    return weights.diagonal(-offset, -2, -1)[..., start - offset :].mean(-1)


def previous_token(weights: Tensor) -> Tensor:
    """Mean of A[t, t - 1] over t >= 1: 1 for a head that reads its left neighbour (a positional head of Voita et al.
    2019)."""
    return stripe(weights, offset=1, start=1)


def first_token(weights: Tensor) -> Tensor:
    """Mean of A[t, 0] over t >= 2: how much rests on the first position, where heads that have nothing to do look
    (the attention sink of Xiao et al. 2023). At t = 1 the first token is the previous one, so that row is left out."""
    return weights[..., 2:, 0].mean(-1)


def entropy(weights: Tensor) -> Tensor:
    """Mean over t >= 1 of -Σ_s A[t, s] ln A[t, s] / ln(t + 1): 0 where one position gets all, 1 where each gets the
    same."""
    nats = -torch.xlogy(weights, weights).sum(-1)[..., 1:]  # (..., T - 1)
    return (nats / torch.arange(2, weights.size(-1) + 1).log()).mean(-1)


def duplicate_token(weights: Tensor, period: int) -> Tensor:
    """Mean of A[t, t - P] over t >= P for P random tokens, repeated: how much looks at the token's earlier copy
    (Wang et al. 2022, §3)."""
    return stripe(weights, offset=period, start=period)


def induction(weights: Tensor, period: int) -> Tensor:
    """Mean of A[t, t - P + 1] over t >= P for P random tokens, repeated: how much looks at what came after the token's
    earlier copy, which is what comes next (Olsson et al. 2022, "prefix matching")."""
    return stripe(weights, offset=period - 1, start=period)


def repeated_tokens(vocab_size: int, block_size: int, seed: int) -> Tensor:
    """Random tokens, each sequence twice in a row: (N, 2P). No token stands twice within P; the last id of the
    vocabulary, <|endoftext|>, is left out."""
    period = min(RANDOM_TOKENS, block_size // 2, vocab_size - 1)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(vocab_size - 1, generator=generator)[:period] for _ in range(RANDOM_SEQUENCES)]
    return torch.stack(rows).repeat(1, 2)


def head_scores(on_prompts: Sequence[Tensor], on_repeated: Tensor) -> dict[str, Tensor]:
    """Every score of every head, each (L, H).

    `on_prompts` holds attention over texts, (L, H, T, T) each, for what is measured on text and averaged over texts;
    `on_repeated` holds attention over random tokens repeated, (L, N, H, 2P, 2P).
    """
    period = on_repeated.size(-1) // 2
    on_text = {"previous_token": previous_token, "first_token": first_token, "entropy": entropy}
    on_random = {"duplicate_token": duplicate_token, "induction": induction}
    return {
        **{name: torch.stack([score(text) for text in on_prompts]).mean(0) for name, score in on_text.items()},
        **{name: score(on_repeated, period).mean(1) for name, score in on_random.items()},
    }


def uniform(T: int) -> Tensor:
    """The attention (1, 1, T, T) of a head that looks at all it may see alike: what a score is to be compared with."""
    return (torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None])[None, None]


def score_heads(model: GPT, readings: Sequence[Reading], seed: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The scores of every head, each (L, H), and those of a head with uniform attention."""
    idx = repeated_tokens(model.config.vocab_size, model.config.block_size, seed)
    scores = head_scores([reading.weights for reading in readings], capture(model, idx))
    flat = head_scores([uniform(len(reading.tokens)) for reading in readings], uniform(idx.size(1))[:, None])
    return {name: score.numpy() for name, score in scores.items()}, {name: score.item() for name, score in flat.items()}


# --- what is written -----------------------------------------------------------------------------------------------


def rows(scores: dict[str, np.ndarray]) -> list[dict]:
    """One row a head: layer, head, and each score."""
    return [
        {"layer": layer, "head": head, **{name: float(score[layer, head]) for name, score in scores.items()}}
        for layer, head in np.ndindex(next(iter(scores.values())).shape)
    ]


def strongest(score: np.ndarray) -> tuple[int, int]:
    """Layer and head of the highest score, the first of equals."""
    layer, head = np.unravel_index(score.argmax(), score.shape)
    return int(layer), int(head)


def metrics(scores: dict[str, np.ndarray], flat: dict[str, float]) -> dict:
    """For each kind of head the strongest, beside the score of uniform attention; and the mean entropy of all heads."""
    kinds = {}
    for name, score in scores.items():
        if name != "entropy":
            layer, head = strongest(score)
            value = round(float(score[layer, head]), 6)
            kinds[name] = {"value": value, "layer": layer, "head": head, "uniform": round(flat[name], 6)}
    return {**kinds, "mean_entropy": round(float(scores["entropy"].mean()), 6)}


def viewer_data(readings: Sequence[Reading]) -> dict:
    """The readings as JSON for a page: {"n_layer", "n_head", "prompts": [{"text", "tokens", "weights"}]}.

    `weights[layer][head]` is base64 of T (T + 1) / 2 bytes: the lower triangle of A, row after row, so that A[t, s] is
    byte t (t + 1) / 2 + s divided by 255.
    """
    prompts = []
    for reading in readings:
        rows, columns = np.tril_indices(len(reading.tokens))
        triangle = reading.weights.numpy()[..., rows, columns]  # (L, H, T (T + 1) / 2)
        encoded = [[_base64(head) for head in layer] for layer in np.rint(triangle * 255).astype(np.uint8)]
        prompts.append({"text": reading.text, "tokens": reading.tokens, "weights": encoded})
    n_layer, n_head = readings[0].weights.shape[:2]
    return {"n_layer": n_layer, "n_head": n_head, "prompts": prompts}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
