"""Continuations of prompts, each drawn with a generator of its own."""

import torch

from gpt2.model import GPT, KVCache
from gpt2.sampling import Sampling, choose


@torch.inference_mode()
def generate(
    model: GPT, prompts: list[list[int]], new_tokens: int, sampling: Sampling, seeds: list[int], stop: int | None
) -> list[list[int]]:
    """What each prompt is continued with: up to `new_tokens` tokens, the last of them `stop` where it was chosen."""
    return [_one(model, ids, new_tokens, sampling, seed, stop) for ids, seed in zip(prompts, seeds, strict=True)]


def _one(model: GPT, ids: list[int], new_tokens: int, sampling: Sampling, seed: int, stop: int | None) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    seen = torch.tensor([ids])
    cache = KVCache(model.config, 1, len(ids) + new_tokens)
    fresh, chosen = seen, []
    while len(chosen) < new_tokens and (not chosen or chosen[-1] != stop):
        logits = model.logits(model.hidden(fresh, cache)[:, -1])
        fresh = choose(logits, seen, sampling, generator)[:, None]
        seen = torch.cat((seen, fresh), dim=1)
        chosen.append(fresh.item())
    return chosen
