"""Does a head matter? How much the loss rises when the head's output is replaced by its mean (mean ablation).

The mean is one vector per head, taken over all sequences and all positions of a batch: the head still adds what it adds
on average, and nothing that depends on the token or on its position. A mean per position would keep, of eight
sequences, an eighth of each sequence's own output.

Shapes: L layers, H heads, B sequences, T time (tokens), S tokens of the second half, C channels, D head size (C / H).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2.model.gpt import GPT, CausalSelfAttention


def ablation(model: GPT, text: Tensor, repeated: Tensor) -> dict[str, np.ndarray]:
    """The effect of each head on ordinary text and on repeated random tokens, token ids (B, T) each: (L, H) per column.

    ablation_text and ablation_repeated: how much the loss on the second halves rises, in nats per token, as a mean over
    the sequences. The second half of repeated tokens is the copy that an induction head predicts. Each has a standard
    error over the sequences, <column>_stderr.
    """
    columns = {}
    for name, idx in (("ablation_text", text), ("ablation_repeated", repeated)):
        changes = loss_changes(model, idx)  # (L, H, B)
        columns[name] = changes.mean(2).numpy()
        columns[f"{name}_stderr"] = (changes.std(2) / len(idx) ** 0.5).numpy()
    return columns


@torch.inference_mode()
def loss_changes(model: GPT, idx: Tensor) -> Tensor:
    """How much the loss of each sequence of token ids (B, T) rises without each head, in nats per token: (L, H, B).

    The loss is the mean over the tokens of the second half, each predicted from all tokens before it. Each head is
    ablated alone. Its run starts at its own layer, because the layers below compute the same as before.
    """
    inputs: list[Tensor] = []  # (B, T, C) of each block
    hooks = [block.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for block in model.h]
    unchanged = _losses(model, model.hidden(idx), idx)  # (B,)
    for hook in hooks:
        hook.remove()
    changes = unchanged.new_empty(model.config.n_layer, model.config.n_head, len(idx))
    for layer, x in enumerate(inputs):
        rest = nn.Sequential(*model.h[layer:], model.ln_f)
        for head in range(model.config.n_head):
            with ablated(model.h[layer].attn, head):
                changes[layer, head] = _losses(model, rest(x), idx) - unchanged
    return changes


@contextmanager
def ablated(attention: CausalSelfAttention, head: int) -> Iterator[None]:
    """Replaces the output of one head by its mean over sequences and positions, before `c_proj` reads it."""

    def replace(_, args: tuple[Tensor]) -> tuple[Tensor]:
        heads = args[0].unflatten(2, (attention.n_head, -1)).clone()  # (B, T, H, D)
        heads[:, :, head] = heads[:, :, head].mean((0, 1))
        return (heads.flatten(2),)

    hook = attention.c_proj.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def _losses(model: GPT, hidden: Tensor, idx: Tensor) -> Tensor:
    """The mean loss (B,) over the second half of idx (B, T), from the last hidden states (B, T, C)."""
    start = idx.size(1) // 2
    logits = model.logits(hidden[:, start - 1 : -1])  # (B, S, V)
    nats = F.cross_entropy(logits.flatten(0, 1), idx[:, start:].flatten(), reduction="none")  # (B S,)
    return nats.view(len(idx), -1).mean(1)
