"""The memory that a training step needs, from the shapes.

Shapes: N tokens of a micro-batch (B * T), C channels, I width inside the MLP, H heads, V vocabulary, L blocks, P
parameters.
"""

from typing import NamedTuple

import torch

from gpt2.config.params import GPTConfig
from gpt2.model.gpt import GPT
from gpt2.model.loss import CHUNK
from gpt2.training.optim import HIDDEN

SHORT = ("bfloat16", "float16")  # the precisions whose products take 2 bytes per number, not 4


class Memory(NamedTuple):
    """Bytes of one process at the peak of a step."""

    weights: int
    gradients: int  # those of earlier micro-batches, while the next one goes through the model
    optimizer: int
    copies: int  # of the matrices, converted for the products
    activations: int  # kept for the backward pass
    working: int  # for a moment: the logits, or the gradients within a block, whichever is more

    @property
    def total(self) -> int:
        """The sum. A GPU also holds about a gigabyte for CUDA and NCCL, and what the allocator cannot use."""
        return sum(self)


def training_memory(
    config: GPTConfig,
    micro_batch_size: int,
    *,
    optimizer: str,
    precision: str,
    recompute: bool,
    compiled: bool,
    processes: int,
) -> Memory:
    """The memory of a step of pretraining with micro-batches of `config.block_size` tokens per sample.

    `optimizer` and `precision` as in params.yaml, but not auto. With several `processes`, DDP's buckets hold gradients
    next to those that accumulate over micro-batches.
    """
    with torch.device("meta"):
        shapes = dict(GPT(config).named_parameters())
    parameters = sum(weight.numel() for weight in shapes.values())
    hidden = sum(weight.numel() for name, weight in shapes.items() if name.endswith(tuple(HIDDEN)))
    embedding = shapes["wte.weight"].numel()
    # AdamW keeps two means per parameter, Muon one per parameter of the blocks' matrices.
    moments = 2 * parameters - (hidden if optimizer == "muon" else 0)
    short = precision in SHORT
    activations, in_block = _activations(config, micro_batch_size, 2 if short else 4, recompute)
    logits = _loss(config, micro_batch_size, 2 if short else 4, compiled)
    return Memory(
        weights=4 * parameters,
        gradients=4 * parameters * min(2, processes),
        optimizer=4 * moments,
        copies=2 * (hidden + embedding) if short else 0,
        activations=activations,
        working=max(in_block, logits),
    )


def _activations(config: GPTConfig, micro_batch_size: int, size: int, recompute: bool) -> tuple[int, int]:
    """Bytes kept for the backward pass, and bytes that the backward pass needs within a block.

    `size`: bytes per number of the inputs and outputs of products. The residual stream is always float32.
    """
    N, C, H = micro_batch_size * config.block_size, config.n_embd, config.n_head
    inner = config.n_inner or 4 * C
    # The normalized inputs of attention and MLP (2C), queries, keys and values (3C), the values that attention mixed
    # (C), and the MLP's inside before and after GELU (2I). torch.compile keeps the same, as measured.
    products = size * (6 * C + 2 * inner)
    # The residual stream before attention and before the MLP, mean and deviation of both layer norms, the logarithms of
    # the softmax's sums, and a byte per mask of dropout.
    block = N * (products + 4 * (2 * C + 4 + H) + (2 * C if config.dropout else 0))
    # The residual stream before ln_f, its mean and deviation, its normalized form; token ids and targets.
    head = N * (4 * (2 * C + 2) + 2 * 8)
    # The gradients of the residual stream and of the MLP's inside; by then the head's activations are gone.
    gradients = N * (4 * C + size * inner) - head
    if recompute:  # only each block's input is kept; the block whose turn it is makes its activations again
        return config.n_layer * N * 4 * C + head, block + gradients
    return config.n_layer * block + head, gradients


def _loss(config: GPTConfig, micro_batch_size: int, size: int, compiled: bool) -> int:
    """Bytes that the loss needs: the logits of a chunk of tokens, the gradients of the hidden states and of the output
    projection."""
    N, C, V = micro_batch_size * config.block_size, config.n_embd, config.vocab_size
    rows = min(N, max(1, CHUNK // V))
    chunked = rows < N
    # Not compiled, logits, probabilities and gradients exist at once in float32. Compiled, they share one buffer, but
    # where there are several chunks the probabilities of one are in float32 besides.
    logits = rows * V * ((size + 4 * chunked) if compiled else 12)
    return logits + 4 * (N * C + V * C) * chunked


def largest_micro_batch(config: GPTConfig, samples: int, memory: float, **how: str | bool | int) -> int | None:
    """The largest power of two whose step needs at most `memory` bytes, or None if none does.

    None above the first that holds `samples`, a process's part of a batch, is considered. `how`: see training_memory.
    """
    size = 1 << (samples - 1).bit_length()
    while size and training_memory(config, size, **how).total > memory:
        size //= 2
    return size or None
