"""The optimizer and the learning rates that GPT-2-sized models are trained with (GPT-3 paper, appendix B)."""

import math

import torch
from torch import nn

from gpt2.config import OptimParams


def adamw(model: nn.Module, params: OptimParams) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay for matrices and embeddings, none for biases and norms."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": params.weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=params.lr, betas=(params.beta1, params.beta2), fused=True)


def learning_rate(step: int, params: OptimParams) -> float:
    """Linear warmup to `lr`, then as `schedule` says, `min_lr` at the last step.

    cosine: half a cosine (Loshchilov and Hutter 2017). wsd: `lr`, until it falls linearly in the last `decay_steps`
    steps (Hu et al. 2024, §4; Hägele et al. 2024).
    """
    if step < params.warmup_steps:
        return params.lr * (step + 1) / params.warmup_steps
    if params.schedule == "wsd":
        remaining = params.steps - 1 - step
        if remaining >= params.decay_steps:
            return params.lr
        share = remaining / params.decay_steps
    else:
        progress = (step - params.warmup_steps) / max(1, params.steps - 1 - params.warmup_steps)
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return params.min_lr + (params.lr - params.min_lr) * share
