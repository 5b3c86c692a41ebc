"""The attention of models to some prompts: scored per head, and written as tables and viewer data.

Shapes: L layers, H heads, T time (tokens).
"""

import base64
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from gpt2.common.errors import InputError
from gpt2.interpret.scores import capture, label, mean_scores, repeated_tokens, repetition_scores, text_scores, uniform
from gpt2.model.gpt import GPT
from gpt2.model.snapshots import Snapshot
from gpt2.tokenizer.tokenizer import Tokenizer

MIN_TOKENS = 3  # per prompt: the first-token score begins at the third
MAX_TOKENS = 128  # per prompt, which bounds the page: 22 kB per head and prompt, 3.2 MB for 144 heads
ONE = 65535  # the 16-bit number that stands for a weight of 1
MOST_ATTENDED = 3  # positions listed for each token
SNAPSHOT_BYTES = 1_000_000  # of weights of snapshots on a page, as text


@dataclass(frozen=True)
class PromptAttention:
    """The attention of a model's heads to one prompt."""

    text: str  # as the tokenizer reads it: U+FFFD replaces what UTF-8 cannot hold
    ids: list[int]
    token_bytes: list[bytes]
    weights: np.ndarray  # A[t, s], (L, H, T, T) in float32, rounded to multiples of 1 / ONE as the page shows them

    @property
    def tokens(self) -> list[str]:
        """A printable name of each token."""
        return [label(token) for token in self.token_bytes]


@dataclass(frozen=True)
class ModelAttention:
    """One model's attention to each prompt, and the scores of its heads."""

    name: str  # in tables
    title: str  # on the page
    prompts: list[PromptAttention]
    scores: dict[str, np.ndarray]  # (L, H) each
    uniform: dict[str, float]  # the scores of a head that attends to all positions equally
    ablation: dict[str, np.ndarray] = field(default_factory=dict)  # (L, H) each, as `ablation` returns it, if measured


def encode_prompts(prompts: Sequence[str], model: GPT, tokenizer: Tokenizer, key: str) -> list[list[int]]:
    """Returns the token ids of each prompt, at most 128 and no more than the context.

    Prints a line on standard error for each prompt that is cut; the line names it as an entry of the param or option
    `key`. Raises InputError for a prompt of fewer than 3 tokens, and for a model with a shorter context.
    """
    longest = min(MAX_TOKENS, model.config.block_size)
    if longest < MIN_TOKENS:
        raise InputError(
            f"block_size = {longest}: expected {MIN_TOKENS} or more, the fewest tokens that heads are scored on"
        )
    encoded = [tokenizer.encode_prompt(text) for text in prompts]
    for number, (text, ids) in enumerate(zip(prompts, encoded, strict=True)):
        prompt = f"{key}[{number}] = {text[:40]!r}"
        if len(ids) < MIN_TOKENS:
            raise InputError(f"{prompt}: expected {MIN_TOKENS} tokens or more, not {len(ids)}")
        if len(ids) > longest:
            print(f"{prompt}: {len(ids)} tokens, cut to the first {longest}", file=sys.stderr)
    return [ids[:longest] for ids in encoded]


def read_attention(
    name: str, title: str, model: GPT, tokenizer: Tokenizer, prompts: list[list[int]], seed: int
) -> ModelAttention:
    """Runs each prompt, given as token ids, through the model, and repeated random tokens for the scores that are
    defined on those.

    Nothing precedes a prompt. Texts go through the model one by one, because all weights of a large model take much
    memory.
    """
    repeated = repeated_tokens(tokenizer.eot, model.config.block_size, seed)  # (N, 2P)
    attentions, on_text = [], []
    for ids in prompts:
        weights = capture(model, torch.tensor([ids]))[:, 0]  # (L, H, T, T)
        on_text.append(text_scores(weights))
        token_bytes = [tokenizer.token_bytes(id) for id in ids]
        rounded = np.rint(weights.numpy() * ONE) / np.float32(ONE)
        attentions.append(PromptAttention(tokenizer.decode(ids), ids, token_bytes, rounded))
    on_repetition = [repetition_scores(capture(model, row[None])[:, 0]) for row in repeated]
    scores = mean_scores(on_text) | mean_scores(on_repetition)
    flat = mean_scores([text_scores(uniform(len(ids))) for ids in prompts])
    flat |= repetition_scores(uniform(repeated.size(1)))
    return ModelAttention(
        name,
        title,
        attentions,
        {score: values.numpy() for score, values in scores.items()},
        {score: value.item() for score, value in flat.items()},
    )


# --- outputs -------------------------------------------------------------------------------------------------------


def viewer_data(models: Iterable[ModelAttention]) -> dict:
    """The models as JSON for a page: {"models": [{"name", "title", "n_layer", "n_head", "scores", "ablation",
    "prompts", "snapshots"}]}.

    `scores` and `ablation` map each column to L lists of H numbers. `prompts` has for each prompt "text", "tokens"
    (labels), "ids", "bytes" (one hex string per token) and "weights". weights[layer][head] is the base64 of
    T (T + 1) / 2 little-endian 16-bit numbers, the lower triangle of A row by row: A[t, s] is number t (t + 1) / 2 + s
    divided by 65535. `snapshots` is empty; `snapshot_data` returns what a model of this run has there.
    """
    return {
        "models": [
            {
                "name": model.name,
                "title": model.title,
                "n_layer": len(model.scores["entropy"]),
                "n_head": len(model.scores["entropy"][0]),
                "scores": _columns(model.scores),
                "ablation": _columns(model.ablation),
                "prompts": [_prompt_data(prompt) for prompt in model.prompts],
                "snapshots": [],
            }
            for model in models
        ]
    }


def snapshot_data(training: Sequence[tuple[Snapshot, ModelAttention]]) -> list[dict]:
    """The snapshots of a run, the final model last, as JSON for a page: [{"step", "tokens", "scores", "weights"}].

    `weights` is the attention to the first prompt, in the format of `viewer_data`. The final model has neither scores
    nor weights, because its page has them already. If the weights of all snapshots take more than SNAPSHOT_BYTES, only
    as many snapshots as fit are kept, evenly spaced and with the first one.
    """
    *before, (final, trained) = training
    size = sum(len(head) for layer in _packed(trained.prompts[0].weights) for head in layer)
    count = min(len(before), max(1, SNAPSHOT_BYTES // size))
    data = [
        {
            "step": snapshot.step,
            "tokens": snapshot.tokens,
            "scores": _columns(attention.scores),
            "weights": _packed(attention.prompts[0].weights),
        }
        for snapshot, attention in (before[place] for place in np.linspace(0, len(before), count + 1).astype(int)[:-1])
    ]
    return [*data, {"step": final.step, "tokens": final.tokens}]


def _columns(values: dict[str, np.ndarray]) -> dict[str, list[list[float]]]:
    return {name: np.round(column.astype(float), 4).tolist() for name, column in values.items()}


def _packed(weights: np.ndarray) -> list[list[str]]:
    lower = np.tril_indices(weights.shape[-1])
    triangles = np.rint(weights[..., *lower] * ONE).astype("<u2")  # (L, H, T (T + 1) / 2)
    return [[base64.b64encode(head.tobytes()).decode() for head in layer] for layer in triangles]


def _prompt_data(prompt: PromptAttention) -> dict:
    return {
        "text": prompt.text,
        "tokens": prompt.tokens,
        "ids": prompt.ids,
        "bytes": [token.hex() for token in prompt.token_bytes],
        "weights": _packed(prompt.weights),
    }


def head_rows(model: ModelAttention) -> Iterator[dict]:
    """One row per head: layer, head, each score, and the effects of ablation, if measured."""
    for layer, head in np.ndindex(model.scores["entropy"].shape):
        values = {name: float(column[layer, head]) for name, column in (model.scores | model.ablation).items()}
        yield {"layer": layer, "head": head, **values}


def mapping_rows(model: ModelAttention) -> Iterator[dict]:
    """For the strongest head of each kind, the three positions that each token attends to most, in each prompt.

    Prompts are numbered from 0. Of equal weights the first position comes first. The first tokens have fewer positions.
    """
    heads = sorted(set(strongest_heads(model).values()))
    for number, prompt in enumerate(model.prompts):
        tokens, weights = prompt.tokens, prompt.weights
        for layer, head in heads:
            for position, row in enumerate(weights[layer, head]):  # (T,)
                most = np.argsort(-row[: position + 1], kind="stable")[:MOST_ATTENDED].tolist()
                yield {
                    "model": model.name,
                    "prompt": number,
                    "layer": layer,
                    "head": head,
                    "position": position,
                    "token": tokens[position],
                    "attends_to": [
                        {"position": to, "token": tokens[to], "weight": round(float(row[to]), 4)} for to in most
                    ],
                }


def strongest_heads(model: ModelAttention) -> dict[str, tuple[int, int]]:
    """Layer and head of the highest score of each kind, the first of equals. Entropy is not a kind."""
    kinds = {name: score for name, score in model.scores.items() if name != "entropy"}
    return {name: tuple(map(int, np.unravel_index(score.argmax(), score.shape))) for name, score in kinds.items()}


def metrics(trained: ModelAttention, initial: ModelAttention) -> dict:
    """For each kind the strongest head, beside the scores of uniform attention and of the best head with random
    weights; and the mean entropy of all heads, beside that of random weights."""
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
