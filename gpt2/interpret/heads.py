"""Models explored: their attention to some prompts, kept small, as numbers, tables, and data of the interactive page.

Shapes: L layers, H heads, T time (tokens).
"""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gpt2.common.errors import InputError
from gpt2.interpret.scores import capture, label, mean_scores, repeated_tokens, repetition_scores, text_scores, uniform
from gpt2.model.gpt import GPT
from gpt2.tokenizer.tokenizer import Tokenizer

MIN_TOKENS = 3  # of a prompt: the first-token score begins at the third
MAX_TOKENS = 128  # bounds the page: 22 kB a head and prompt; for 144 heads 3.2 MB
ONE = 65535  # stands for a weight of 1 where weights are kept
MOST_ATTENDED = 3  # positions listed for each token


@dataclass(frozen=True)
class Reading:
    """What a model's heads do with one prompt. The weights are kept as 16-bit numbers and without their zero half: a
    quarter of the memory, within 1 / 131070 of what the model computed."""

    text: str  # as the tokenizer reads it: what no UTF-8 can hold is U+FFFD
    ids: list[int]
    spelt: list[bytes]  # what each token spells
    packed: np.ndarray  # (L, H, T (T + 1) / 2) uint16: the lower triangle, row after row

    @property
    def tokens(self) -> list[str]:
        """A printable name of each token."""
        return [label(token) for token in self.spelt]

    @property
    def weights(self) -> np.ndarray:
        """The attention A[t, s], (L, H, T, T) in float32."""
        T = len(self.ids)
        weights = np.zeros((*self.packed.shape[:2], T, T), dtype=np.float32)
        weights[..., *np.tril_indices(T)] = self.packed / np.float32(ONE)
        return weights


@dataclass(frozen=True)
class Explored:
    """One model: its attention to each prompt, and every head's scores, (L, H) each."""

    name: str  # in tables
    title: str  # on the page
    readings: list[Reading]
    scores: dict[str, np.ndarray]
    uniform: dict[str, float]  # what a head would score that looks at all positions alike


def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[str], block_size: int, title: str, key: str
) -> list[list[int]]:
    """The ids of each prompt.

    Raises InputError naming the first, as one of the param or option `key`, that has fewer than 3 tokens, more than
    128, or more than the context, block_size.
    """
    longest = min(MAX_TOKENS, block_size)
    encoded = [tokenizer.encode_prompt(text) for text in prompts]
    for number, (text, ids) in enumerate(zip(prompts, encoded, strict=True)):
        if not MIN_TOKENS <= len(ids) <= longest:
            what = f"{key}[{number}] = {text[:40]!r}: {len(ids)} tokens for the model {title}"
            raise InputError(f"{what}: expected {MIN_TOKENS} to {longest}")
    return encoded


def explore(
    name: str, title: str, model: GPT, tokenizer: Tokenizer, prompts: Sequence[str], seed: int, key: str
) -> Explored:
    """Runs each prompt through the model, with nothing put before it, and random tokens, repeated, for the scores that
    need them. Texts go one by one: all weights of a large model take much memory.

    Raises InputError for a prompt that is too short or too long: see `encode_prompts`.
    """
    encoded = encode_prompts(tokenizer, prompts, model.config.block_size, title, key)
    repeated = repeated_tokens(model.config.vocab_size, model.config.block_size, seed)  # (N, 2P)
    readings, on_text = [], []
    for ids in encoded:
        weights = capture(model, torch.tensor([ids]))[:, 0]  # (L, H, T, T)
        on_text.append(text_scores(weights))
        readings.append(
            Reading(tokenizer.decode(ids), ids, [tokenizer.token_bytes(id) for id in ids], pack(weights.numpy()))
        )
    on_repetition = [repetition_scores(capture(model, row[None])[:, 0]) for row in repeated]
    scores = mean_scores(on_text) | mean_scores(on_repetition)
    flat = mean_scores([text_scores(uniform(len(ids))) for ids in encoded])
    flat |= repetition_scores(uniform(repeated.size(1)))
    return Explored(
        name,
        title,
        readings,
        {score: values.numpy() for score, values in scores.items()},
        {score: value.item() for score, value in flat.items()},
    )


def pack(weights: np.ndarray) -> np.ndarray:
    """The lower triangles of attention (L, H, T, T), row after row, (L, H, T (T + 1) / 2): 65535 for a weight of 1."""
    triangles = weights[..., *np.tril_indices(weights.shape[-1])]
    return np.rint(triangles * ONE).astype(np.uint16)


# --- what is written -----------------------------------------------------------------------------------------------


def viewer_data(models: Iterable[Explored]) -> dict:
    """The models as JSON for a page: {"models": [{"name", "title", "n_layer", "n_head", "scores", "prompts"}]}.

    `scores` maps each score to L lists of H numbers. `prompts` has for each prompt "text", "tokens" (labels), "ids",
    "bytes" (of each token, in hex) and "weights": weights[layer][head] is base64 of T (T + 1) / 2 little-endian 16-bit
    numbers, the lower triangle of A row after row, so that A[t, s] is number t (t + 1) / 2 + s divided by 65535.
    """
    return {"models": [_model_data(model) for model in models]}


def _model_data(model: Explored) -> dict:
    n_layer, n_head = model.scores["entropy"].shape
    scores = {name: np.round(score.astype(float), 4).tolist() for name, score in model.scores.items()}
    prompts = [
        {
            "text": reading.text,
            "tokens": reading.tokens,
            "ids": reading.ids,
            "bytes": [token.hex() for token in reading.spelt],
            "weights": [[_base64(head) for head in layer] for layer in reading.packed],
        }
        for reading in model.readings
    ]
    shape = {"n_layer": n_layer, "n_head": n_head}
    return {"name": model.name, "title": model.title, **shape, "scores": scores, "prompts": prompts}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<u2").tobytes()).decode("ascii")


def head_rows(model: Explored) -> Iterator[dict]:
    """One row a head: model, layer, head, and each score."""
    for layer, head in np.ndindex(model.scores["entropy"].shape):
        values = {name: float(score[layer, head]) for name, score in model.scores.items()}
        yield {"model": model.name, "layer": layer, "head": head, **values}


def mapping_rows(model: Explored) -> Iterator[dict]:
    """For each prompt (its number, from 0), layer, head and token the three positions that the token attends to most,
    the first of equals first; the first tokens have fewer."""
    for prompt, reading in enumerate(model.readings):
        tokens = reading.tokens
        for layer, heads in enumerate(reading.weights):
            order = most_attended(heads)  # (H, T, 3)
            for head, position in np.ndindex(order.shape[:2]):
                yield {
                    "model": model.name,
                    "prompt": prompt,
                    "layer": layer,
                    "head": head,
                    "position": position,
                    "token": tokens[position],
                    "attends_to": [
                        {"position": to, "token": tokens[to], "weight": round(float(heads[head, position, to]), 4)}
                        for to in order[head, position].tolist()
                        if to <= position
                    ],
                }


def most_attended(weights: np.ndarray) -> np.ndarray:
    """The positions of the three largest weights in each row of attention (..., T, T): (..., T, 3). A row that may
    look at fewer has later positions for the rest."""
    allowed = np.tri(weights.shape[-1], dtype=bool)
    return np.argsort(np.where(allowed, -weights, np.inf), axis=-1, kind="stable")[..., :MOST_ATTENDED]


def strongest(score: np.ndarray) -> tuple[int, int]:
    """Layer and head of the highest score (L, H), the first of equals."""
    layer, head = np.unravel_index(score.argmax(), score.shape)
    return int(layer), int(head)


def strongest_heads(model: Explored) -> dict[str, tuple[int, int]]:
    """Layer and head of the strongest head of each kind."""
    return {name: strongest(score) for name, score in model.scores.items() if name != "entropy"}


def metrics(trained: Explored, initial: Explored) -> dict:
    """For each kind of head the strongest, beside the score of uniform attention and the highest with random weights;
    and the mean entropy of all heads, beside that of random weights."""
    kinds = {}
    for name, (layer, head) in strongest_heads(trained).items():
        kinds[name] = {
            "value": round(float(trained.scores[name][layer, head]), 6),
            "layer": layer,
            "head": head,
            "uniform": round(trained.uniform[name], 6),
            "initial": round(float(initial.scores[name].max()), 6),
        }
    means = {"mean_entropy": trained, "mean_entropy_initial": initial}
    return kinds | {name: round(float(model.scores["entropy"].mean()), 6) for name, model in means.items()}
