"""What both models compute of the same tokens: residual stream, logits, loss, gradients; cached, padded, in bfloat16.

Shapes: B sequences, T time (tokens), C channels, V vocabulary, N tokens that are not padding.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gpt2.evaluation.parity.cases import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    RESIDUAL_TOLERANCE,
    Case,
    logit_tolerance,
    worst,
)
from gpt2.evaluation.parity.pairs import Pair
from gpt2.generation.kv_cache import KVCache
from gpt2.model import checkpoint


def logit_case(pair: Pair, quantity: str, ours: Tensor, theirs: Tensor) -> Case:
    """The largest absolute difference of logits (..., V)."""
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    return pair.case("logits", quantity, theirs.numel(), difference, logit_tolerance(largest))


# --- one forward pass ----------------------------------------------------------------------------------------------


@torch.inference_mode()
def forward_cases(pair: Pair, tokens: Tensor) -> Iterator[Case]:
    """The residual stream after every layer, and the logits, of tokens (B, T)."""
    with _outputs(pair.ours) as ours_residual, _outputs(pair.theirs.transformer) as their_residual:
        ours, theirs = pair.ours(tokens), pair.theirs(tokens).logits  # (B, T, V)
    differences = [_relative(*layers) for layers in zip(ours_residual, their_residual, strict=True)]
    compared = sum(layer.numel() for layer in their_residual)
    quantity = "residual stream after every layer"
    yield pair.case("residual stream", quantity, compared, worst(differences), RESIDUAL_TOLERANCE)
    yield logit_case(pair, "logits", ours, theirs)


@contextmanager
def _outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the residual stream (B, T, C): the embedding, after each block, and after the last layer norm."""
    outputs: list[Tensor] = []
    layers = [model.drop, *model.h, model.ln_f]
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output)) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference in a share of the largest number."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.inference_mode()
def context_case(pair: Pair, tokens: Tensor) -> Case:
    """Logits of one sequence (1, T) that fills the context."""
    assert tokens.size(1) == pair.ours.config.block_size
    return logit_case(pair, "logits, full context", pair.ours(tokens), pair.theirs(tokens).logits)


@torch.inference_mode()
def cache_case(pair: Pair, tokens: Tensor) -> Case:
    """Logits of tokens (B, T), half of which both models take at once, a quarter at once on their caches of keys and
    values, and the rest one by one."""
    B, T = tokens.shape
    first, second, rest = tokens.tensor_split((T // 2, T - T // 4), dim=1)
    cache, past, ours, theirs, done = KVCache(pair.ours.config, B, T), None, [], [], 0
    for piece in (first, second, *rest.split(1, dim=1)):
        positions = torch.arange(done, done := done + piece.size(1)).expand_as(piece)
        ours.append(pair.ours.logits(pair.ours.hidden(piece, cache, positions)))
        output = pair.theirs(piece, past_key_values=past, use_cache=True)
        theirs.append(output.logits)
        past = output.past_key_values
    return logit_case(pair, "logits, KV cache", torch.cat(ours, dim=1), torch.cat(theirs, dim=1))


@torch.inference_mode()
def padding_case(pair: Pair, prompts: list[Tensor]) -> Case:
    """Logits of prompts of different lengths: theirs padded on the left with a mask, as they generate; ours on the
    right, as we do."""
    ids, mask = left_padded(prompts)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    theirs = pair.theirs(ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]  # (N, V)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ours = pair.ours(pad_sequence(prompts, batch_first=True))  # (B, T, V)
    real = torch.arange(ours.size(1)) < lengths[:, None]  # (B, T)
    return logit_case(pair, "logits, padded batch", ours[real], theirs)


def left_padded(prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts of any lengths as ids (B, T), and the mask (B, T) that is 0 where there is padding."""
    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    return pad(prompts), pad([torch.ones_like(prompt) for prompt in prompts])


# --- gradients -----------------------------------------------------------------------------------------------------


def training_cases(pair: Pair, tokens: Tensor) -> Iterator[Case]:
    """The mean loss of tokens (B, T + 1), the last of them only targets; and of all its gradients by a parameter the
    worst |g - g'| / |g'|."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]  # (B, T)
    ours = pair.ours(inputs, targets) / targets.numel()
    theirs = pair.theirs(tokens, labels=tokens).loss  # which shifts the labels by itself
    yield pair.case("loss", "loss", targets.numel(), abs(ours.item() - theirs.item()), LOSS_TOLERANCE)
    ours.backward()
    differences: list[float] = []
    hooks = []
    for name, parameter in pair.ours.named_parameters():
        compare = partial(_compare_gradients, differences, parameter, name.endswith(checkpoint.TRANSPOSED))
        hooks.append(pair.theirs.get_parameter(checkpoint.PREFIX + name).register_post_accumulate_grad_hook(compare))
    theirs.backward()
    for hook in hooks:
        hook.remove()
    yield pair.case("gradients", "gradients by all parameters", len(hooks), worst(differences), GRADIENT_TOLERANCE)


@torch.no_grad()
def _compare_gradients(differences: list[float], ours: nn.Parameter, transposed: bool, theirs: nn.Parameter) -> None:
    """Adds one relative difference as soon as it is known, and frees both gradients: all would be two models more."""
    expected = theirs.grad.t() if transposed else theirs.grad
    differences.append(((ours.grad - expected).norm() / expected.norm()).item())
    ours.grad = theirs.grad = None


# --- bfloat16 ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def bfloat16_cases(pair: Pair, tokens: Tensor) -> Iterator[Case]:
    """Logits of tokens (B, T) in bfloat16, which converts both models.

    The value is the root mean square of ours less theirs; the tolerance is what bfloat16 itself does to theirs, the
    root mean square of theirs less theirs in float32, times sqrt(2): the distance of two roundings that are as large
    and know nothing of one another.
    """
    expected = pair.theirs(tokens).logits  # (B, T, V)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    for quantity, context in (("autocast", autocast), ("weights", nullcontext())):
        if quantity == "weights":
            pair.ours.bfloat16(), pair.theirs.bfloat16()
        with context:
            ours, theirs = pair.ours(tokens).float(), pair.theirs(tokens).logits.float()
        tolerance = math.sqrt(2) * _rms(theirs - expected)
        yield pair.case("bfloat16", f"bfloat16 {quantity}, logits", theirs.numel(), _rms(ours - theirs), tolerance)


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()
