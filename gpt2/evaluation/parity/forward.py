"""What both models compute from the same tokens: residual stream, logits, loss and gradients, also cached, padded and
in bfloat16.

Shapes: B sequences, T time (tokens), C channels, V vocabulary, N real tokens (not padding).
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
    """Measures the largest absolute difference of logits (..., V)."""
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    return pair.case("logits", quantity, theirs.numel(), difference, logit_tolerance(largest))


# --- one forward pass ----------------------------------------------------------------------------------------------


@torch.inference_mode()
def forward_cases(pair: Pair, tokens: Tensor) -> Iterator[Case]:
    """Compares the residual stream after every layer, and the logits, for tokens (B, T)."""
    with _outputs(pair.ours) as ours_residual, _outputs(pair.theirs.transformer) as their_residual:
        ours, theirs = pair.ours(tokens), pair.theirs(tokens).logits  # (B, T, V)
    pairs = zip(ours_residual, their_residual, strict=True)
    differences = [((a - b).abs().max() / b.abs().max()).item() for a, b in pairs]  # relative to the largest number
    compared = sum(layer.numel() for layer in their_residual)
    quantity = "residual stream after every layer"
    yield pair.case("residual stream", quantity, compared, worst(differences), RESIDUAL_TOLERANCE)
    yield logit_case(pair, "logits", ours, theirs)


@contextmanager
def _outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the residual stream (B, T, C): embeddings, the output of each block, and of the last layer norm."""
    outputs: list[Tensor] = []
    layers = [model.drop, *model.h, model.ln_f]
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output)) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def context_case(pair: Pair, tokens: Tensor) -> Case:
    """Compares the logits of one sequence (1, T) that fills the context."""
    assert tokens.size(1) == pair.ours.config.block_size
    return logit_case(pair, "logits, full context", pair.ours(tokens), pair.theirs(tokens).logits)


@torch.inference_mode()
def cache_case(pair: Pair, tokens: Tensor) -> Case:
    """Compares the logits of tokens (B, T) computed on caches of keys and values.

    Both models read the first half of the tokens at once, then a quarter at once, and the rest one by one.
    """
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
    """Compares the logits of prompts of different lengths, padded as each model pads when it generates.

    Theirs pads on the left with a mask, ours on the right.
    """
    ids, mask = left_padded(prompts)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    theirs = pair.theirs(ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]  # (N, V)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    ours = pair.ours(pad_sequence(prompts, batch_first=True))  # (B, T, V)
    real = torch.arange(ours.size(1)) < lengths[:, None]  # (B, T)
    return logit_case(pair, "logits, padded batch", ours[real], theirs)


def left_padded(prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pads prompts of any lengths to ids (B, T); the mask (B, T) is 0 at padding."""
    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    return pad(prompts), pad([torch.ones_like(prompt) for prompt in prompts])


# --- gradients -----------------------------------------------------------------------------------------------------


def training_cases(pair: Pair, tokens: Tensor) -> Iterator[Case]:
    """Compares the mean loss of tokens (B, T + 1), where the last token is only a target, and its gradients.

    The value for gradients is the largest |g - g'| / |g'| of all parameters.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]  # (B, T)
    ours = pair.ours(inputs, targets) / targets.numel()
    theirs = pair.theirs(tokens, labels=tokens).loss  # transformers shifts the labels
    yield pair.case("loss", "loss", targets.numel(), abs(ours.item() - theirs.item()), LOSS_TOLERANCE)
    ours.backward()
    theirs.backward()
    differences = []
    for name, parameter in pair.ours.named_parameters():
        expected = pair.theirs.get_parameter(checkpoint.PREFIX + name).grad
        expected = expected.t().contiguous() if name.endswith(checkpoint.TRANSPOSED) else expected
        size = expected.norm()
        differences.append((expected.sub_(parameter.grad).norm() / size).item())  # in place: wte alone has 40M numbers
    pair.ours.zero_grad(), pair.theirs.zero_grad()
    yield pair.case(
        "gradients", "gradients by all parameters", len(differences), worst(differences), GRADIENT_TOLERANCE
    )


# --- bfloat16 ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def bfloat16_cases(pair: Pair, tokens: Tensor) -> Iterator[Case]:
    """Compares the logits of tokens (B, T) in bfloat16, and leaves both models converted to it.

    The value is the root mean square of the difference between ours and theirs. The tolerance is sqrt(2) times the root
    mean square of the difference that bfloat16 makes to theirs: the expected distance between two independent roundings
    of that size.
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
